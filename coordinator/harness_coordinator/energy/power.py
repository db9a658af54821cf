"""A power sensor: its updates, and the energy under them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from harness_coordinator.energy.edges import Edges
from harness_coordinator.energy.intake import Bool, CleanSamples
from harness_coordinator.energy.records import Float64, Int64
from harness_coordinator.energy.tick_lock import Lock, lock_ticks
from harness_coordinator.energy.ticks import GAP_PERIODS, STEADY_SHARE

SLOWEST_IN_POLLS = 40
"""A sensor is polled at least twice per update; a value held for longer than this many polls is a steady load."""
STATED_GAIN_ERROR = 0.05
"""Gain error of on-board power sensors: 70 cards against a meter were mostly within 5 % (arXiv 2312.02741)."""

UNSEEN_TIME = "unseen_time"
BEAT_READINGS = 201
"""Readings within which a sensor that looks now and then has seen its load from all sides, in 99 % of cases: a periodic
load beats with it for longer only where it advances by less than 1/200 of its period from one look to the next."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What a power sensor said at each of its updates: n elements a column."""

    t_s: Float64
    """When the sensor updated: on its locked tick where it has one, else when the poll saw it."""
    slack_s: Float64
    power_w: Float64
    covered: Bool
    """n - 1: False where polls paused between two updates for longer than three periods."""
    period_s: float
    locked: bool
    last_poll_s: float

    def between(self, start_s: float, end_s: float) -> Readings:
        """The updates of a time."""
        first, last = np.searchsorted(self.t_s, (start_s, end_s))
        if last - first == len(self.t_s):
            return self
        rows = slice(int(first), int(last))
        return replace(
            self,
            t_s=self.t_s[rows],
            slack_s=self.slack_s[rows],
            power_w=self.power_w[rows],
            covered=self.covered[rows.start : max(rows.stop - 1, rows.start)],
        )


def read_updates(samples: CleanSamples, period_s: float = math.nan) -> Readings:
    """Find a power sensor's updates and place them in time, on its ticks where it ticks steadily.

    A value that repeats is an update where the sensor had time to say the same again: on a locked sensor at
    each of its ticks, else at the last poll that still saw it.

    Args:
        samples: cleaned polls with a power column.
        period_s: update period if known, s. Unknown: the shortest usual time between changes; or that of
            polling, where changes are no rarer than polls, or too rare for a sensor rather than a load.
    """
    valid = ~np.isnan(samples.power_w)
    t_s, power_w = (
        (samples.t_s, samples.power_w) if valid.all() else (samples.t_s[valid], samples.power_w[valid])
    )
    if len(t_s) < 2:
        return Readings(t_s, np.zeros(len(t_s)), power_w, np.zeros(0, bool), math.nan, False, math.nan)
    poll_s = float(np.median(np.diff(t_s)))
    changed = np.append(0, np.flatnonzero(np.diff(power_w) != 0) + 1)
    if len(changed) > 1 and not period_s > 0:
        period_s = float(np.percentile(np.diff(t_s[changed]), 10))
    if not 1.2 * poll_s < period_s < SLOWEST_IN_POLLS * poll_s:
        covered = ~(np.diff(t_s) > GAP_PERIODS * poll_s)
        return Readings(t_s, np.zeros(len(t_s)), power_w, covered, poll_s, False, float(t_s[-1]))
    lock = lock_ticks(t_s[changed[1:] - 1], t_s[changed[1:]])
    if lock.steady_share > STEADY_SHARE:
        return _on_ticks(t_s, power_w, changed, lock, poll_s)
    return _at_polls(t_s, power_w, changed, period_s, poll_s)


def _on_ticks(t_s: Float64, power_w: Float64, changed: Int64, lock: Lock, poll_s: float) -> Readings:
    """Readings at every tick from the first change on; between changes the value held."""
    place = np.where(lock.locked, lock.t_s, t_s[changed[1:]])
    slack = np.where(lock.locked, lock.slack_s, (t_s[changed[1:]] - t_s[changed[1:] - 1]) / 2)
    period = lock.period_s
    place = np.concatenate([place[:1] - max(round((place[0] - t_s[0]) / period), 1) * period, place])
    slack = np.append(slack[0], slack)
    ascending = np.append(True, place[1:] > np.maximum.accumulate(place)[:-1])
    place, slack, rows = place[ascending], slack[ascending], changed[ascending]
    pause = np.maximum.reduceat(np.append(np.diff(t_s), 0.0), rows)
    seen = pause <= GAP_PERIODS * max(period, poll_s)
    last = max(float(t_s[-1]), float(place[-1]))
    until = np.append(place[1:], place[-1] + max(math.floor((last - place[-1]) / period), 0) * period)
    count = np.where(seen, np.maximum(np.rint((until - place) / period), 1.0), 1.0).astype(np.int64)
    begin = np.cumsum(count) - count
    step = np.arange(int(count.sum())) - np.repeat(begin, count)
    tick_s = np.repeat(place, count) + step * np.repeat((until - place) / count, count)
    covered = np.repeat(seen, count)[: len(tick_s) - 1]
    kept = np.append(np.diff(tick_s) > 0, True)
    return Readings(
        tick_s[kept],
        np.repeat(slack, count)[kept],
        np.repeat(power_w[rows], count)[kept],
        covered[kept[:-1]][: int(kept.sum()) - 1],
        period,
        True,
        float(t_s[-1]),
    )


def _at_polls(t_s: Float64, power_w: Float64, changed: Int64, period_s: float, poll_s: float) -> Readings:
    """Readings where polls saw a change, and at the last poll of a value held for longer than its period."""
    held = np.append(changed[1:], len(t_s)) - 1
    repeats = held[t_s[held] - t_s[changed] > 1.5 * period_s]
    rows = np.unique(np.concatenate([changed, repeats]))
    before = np.append(t_s[0], t_s[np.maximum(rows[1:] - 1, 0)])
    pause = (
        np.maximum.reduceat(np.diff(t_s), np.minimum(rows[:-1], len(t_s) - 2))
        if len(rows) > 1
        else np.zeros(0)
    )
    covered = pause <= GAP_PERIODS * max(period_s, poll_s)
    return Readings(
        t_s[rows], (t_s[rows] - before) / 2, power_w[rows], covered, period_s, False, float(t_s[-1])
    )


def averaged_edges(readings: Readings, gain_error: float) -> Edges:
    """Energy of a sensor that averages over just its update period: P_n T, exactly, between its ticks."""
    length = np.diff(readings.t_s)
    energy = readings.power_w[1:] * length
    covered = readings.covered
    return Edges(
        t_s=readings.t_s,
        energy_j=np.append(0.0, np.cumsum(energy)),
        slack_s=readings.slack_s,
        covered=covered,
        known=covered,
        spread_j=np.where(covered, 0.0, energy),
        period_s=readings.period_s,
        locked=readings.locked,
        gain_error=gain_error,
    )


def trapezoid_edges(readings: Readings, averaging_s: float, gain_error: float, unseen: float) -> Edges:
    """Energy under the straight lines between updates, each shifted back by half the averaging window.

    E_{k+1} - E_k = (P_k + P_{k+1}) (t_{k+1} - t_k) / 2. An interval's energy may be off by half the range of the
    readings next to it, times its length. In time that no reading covers, power may have been anything that the
    sensor shows within a beat: a load of nearly its own period looks steady to it for that long.

    Args:
        readings: updates of the sensor.
        averaging_s: window that a reading averages over, s; NaN or 0 for an instantaneous sensor.
        gain_error: relative gain error of the sensor.
        unseen: share of the time that no reading covers.
    """
    shift = averaging_s / 2 if averaging_s > 0 else 0.0
    t_s, power = readings.t_s - shift, readings.power_w
    length = np.diff(t_s)
    covered = readings.covered
    mean_w = (power[1:] + power[:-1]) / 2
    spread_w = _local_range(power) / 2
    if unseen > 0:
        highest, lowest = _largest_around(power, BEAT_READINGS), -_largest_around(-power, BEAT_READINGS)
        spread_w = np.maximum(spread_w, unseen * np.maximum(highest[1:] - mean_w, mean_w - lowest[:-1]))
    return Edges(
        t_s=t_s,
        energy_j=np.append(0.0, np.cumsum(mean_w * length)),
        slack_s=readings.slack_s,
        covered=covered,
        known=covered,
        spread_j=spread_w * length,
        spread_lasts_s=BEAT_READINGS * readings.period_s if unseen > 0 else math.inf,
        flags=(UNSEEN_TIME,) if unseen > 0 else (),
        period_s=readings.period_s,
        locked=readings.locked,
        gain_error=gain_error,
    )


def unseen_share(averaging_s: float, period_s: float) -> float:
    """Share of the time that no reading covers; all of it where nobody knows what a reading averages over."""
    if not averaging_s >= 0:
        return 1.0
    return min(max(1.0 - averaging_s / period_s, 0.0), 1.0) if period_s > 0 else 1.0


def _local_range(power: Float64) -> Float64:
    """Largest minus smallest of the two readings around each interval and the ones next to them."""
    if len(power) < 2:
        return np.zeros(0)
    padded = np.concatenate([power[:1], power, power[-1:]])
    stack = (padded[:-3], padded[1:-2], padded[2:-1], padded[3:])
    return np.maximum.reduce(stack) - np.minimum.reduce(stack)


def _largest_around(value: Float64, count: int) -> Float64:
    """Largest of the `count` (odd) elements centred at each one, fewer at the ends.

    In blocks of `count`, every window is the end of one block and the beginning of the next (van Herk 1992).
    """
    half = count // 2
    padded = np.full(-(-(len(value) + 2 * half) // count) * count, -np.inf)
    padded[half : half + len(value)] = value
    blocks = padded.reshape(-1, count)
    from_left = np.maximum.accumulate(blocks, axis=1).ravel()
    from_right = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    return np.maximum(from_right[: len(value)], from_left[count - 1 : count - 1 + len(value)])
