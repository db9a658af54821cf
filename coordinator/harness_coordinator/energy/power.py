"""A power sensor: its updates, and the energy under them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.edges import Edges
from harness_coordinator.energy.intake import CleanSamples
from harness_coordinator.energy.records import Float64
from harness_coordinator.energy.tick_lock import lock_ticks

GAP_PERIODS = 3.0
"""A pause in the data longer than this many update periods is a gap."""
STATED_GAIN_ERROR = 0.05
"""Gain error of on-board power sensors: 70 cards against a meter were mostly within 5 % (arXiv 2312.02741)."""


@dataclass(frozen=True, slots=True)
class Updates:
    """Polls at which a power sensor showed a new value; n elements a column."""

    before_s: Float64
    seen_s: Float64
    power_w: Float64
    last_poll_s: float
    median_poll_s: float


def find_updates(samples: CleanSamples, period_s: float = math.nan) -> Updates:
    """Keep the polls that saw the power change, and repeats where the sensor had time to say the same again.

    Args:
        samples: cleaned polls with a power column.
        period_s: the sensor's update period, s; a value repeated for longer than 1.5 of it is an update
            that did not change. Unknown: the median time between changes, or every poll where that is no
            longer than polling.
    """
    valid = ~np.isnan(samples.power_w)
    t_s, power_w = samples.t_s, samples.power_w
    if not valid.all():
        t_s, power_w = t_s[valid], power_w[valid]
    if not len(t_s):
        return Updates(np.zeros(0), np.zeros(0), np.zeros(0), math.nan, math.nan)
    poll_s = float(np.median(np.diff(t_s))) if len(t_s) > 1 else math.nan
    changed = np.append(0, np.flatnonzero(np.diff(power_w) != 0) + 1)
    if len(changed) > 1 and not period_s > 0:
        period_s = float(np.median(np.diff(t_s[changed])))
    keep = changed
    if not (period_s > 1.5 * poll_s):
        keep = np.arange(len(t_s))
    elif len(changed) < len(t_s):
        # An unchanged value of a steady load is still news after a period: the trapezoid must not slope over it.
        held = np.append(np.diff(changed), len(t_s) - changed[-1])
        last_repeat = changed + held - 1
        stretch = t_s[last_repeat] - t_s[changed]
        keep = np.unique(np.concatenate([changed, last_repeat[stretch > 1.5 * period_s]]))
    before = np.append(t_s[0] - (poll_s if poll_s > 0 else 0.0), t_s[keep[1:] - 1])
    return Updates(before, t_s[keep], power_w[keep], float(t_s[-1]), poll_s)


@dataclass(frozen=True, slots=True)
class Readings:
    """What a power sensor said at each of its updates: n elements a column."""

    t_s: Float64
    """When the sensor updated: on its locked tick where it has one, else when the poll saw it."""
    slack_s: Float64
    power_w: Float64
    period_s: float
    longest_s: float
    """A distance of updates beyond this is a gap."""
    locked: bool
    last_poll_s: float


def read_updates(samples: CleanSamples, period_s: float = math.nan) -> Readings:
    """Place a power sensor's updates in time, on its ticks where it ticks steadily.

    Args:
        samples: cleaned polls with a power column.
        period_s: update period if known, s.
    """
    updates = find_updates(samples, period_s)
    count = len(updates.seen_s)
    distance = np.diff(updates.seen_s)
    typical = float(np.median(distance)) if count > 1 else math.nan
    t_s, slack = updates.seen_s, np.zeros(count)
    locked = False
    if count > 2 and typical > 1.2 * updates.median_poll_s:
        changed = np.append(False, np.diff(updates.power_w) != 0)
        lock = lock_ticks(updates.before_s[changed], updates.seen_s[changed])
        slack = (updates.seen_s - updates.before_s) / 2
        if len(lock.locked) and lock.locked.mean() > 0.5:
            locked, typical = True, lock.period_s
            t_s = t_s.copy()
            t_s[changed] = np.where(lock.locked, lock.t_s, updates.seen_s[changed])
            slack[changed] = np.where(lock.locked, lock.slack_s, slack[changed])
            t_s, order = np.unique(t_s, return_index=True)
            return Readings(
                t_s,
                slack[order],
                updates.power_w[order],
                typical,
                GAP_PERIODS * max(typical, updates.median_poll_s),
                locked,
                updates.last_poll_s,
            )
    typical = period_s if period_s > 0 else typical
    longest = GAP_PERIODS * max(typical, updates.median_poll_s)
    return Readings(t_s, slack, updates.power_w, typical, longest, locked, updates.last_poll_s)


def averaged_edges(readings: Readings, gain_error: float) -> Edges:
    """Energy of a sensor that averages over just its update period: P_n T, exactly, between its ticks.

    Ticks whose value did not change are unseen; the value they repeat fills the time up to the next change.
    """
    t_s, power = readings.t_s, readings.power_w
    length = np.diff(t_s)
    ticks_between = np.maximum(np.rint(length / readings.period_s), 1.0)
    own = length / ticks_between
    # All but the last tick of a long interval repeated the value before it.
    energy = own * (power[1:] + (ticks_between - 1) * power[:-1])
    covered = ~(length > readings.longest_s) | (ticks_between > 1)
    return Edges(
        t_s=t_s,
        energy_j=np.append(0.0, np.cumsum(energy)),
        slack_s=readings.slack_s,
        covered=covered,
        known=covered,
        spread_j=np.where(covered, 0.0, np.abs(power[1:] - power[:-1]) * length),
        period_s=readings.period_s,
        locked=readings.locked,
        gain_error=gain_error,
    )


def trapezoid_edges(readings: Readings, averaging_s: float, gain_error: float) -> Edges:
    """Energy under the straight lines between updates, each shifted back by half the averaging window.

    E_{k+1} - E_k = (P_k + P_{k+1}) (t_{k+1} - t_k) / 2. An interval's energy may be off by half the range of the
    readings next to it, times its length: a sensor that looks now and then has not seen what lay between.

    Args:
        readings: updates of the sensor.
        averaging_s: window that a reading averages over, s; NaN or 0 for an instantaneous sensor.
        gain_error: relative gain error of the sensor.
    """
    shift = averaging_s / 2 if averaging_s > 0 else 0.0
    t_s, power = readings.t_s - shift, readings.power_w
    length = np.diff(t_s)
    covered = ~(length > readings.longest_s)
    return Edges(
        t_s=t_s,
        energy_j=np.append(0.0, np.cumsum((power[1:] + power[:-1]) / 2 * length)),
        slack_s=readings.slack_s,
        covered=covered,
        known=covered,
        spread_j=_local_range(power) / 2 * length,
        spread_adds=True,
        period_s=readings.period_s,
        locked=readings.locked,
        gain_error=gain_error,
    )


def _local_range(power: Float64) -> Float64:
    """Largest minus smallest of the two readings around each interval and the ones next to them."""
    if len(power) < 2:
        return np.zeros(0)
    padded = np.concatenate([power[:1], power, power[-1:]])
    stack = (padded[:-3], padded[1:-2], padded[2:-1], padded[3:])
    return np.maximum.reduce(stack) - np.minimum.reduce(stack)
