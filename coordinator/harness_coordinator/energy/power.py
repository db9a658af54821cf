"""A power sensor: its updates, and the energy under them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.edges import Edges
from harness_coordinator.energy.intake import CleanSamples
from harness_coordinator.energy.records import Float64

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


def trapezoid_edges(updates: Updates, period_s: float, averaging_s: float, gain_error: float) -> Edges:
    """Energy under the straight lines between updates, each shifted back by half the averaging window.

    E_{k+1} - E_k = (P_k + P_{k+1}) (t_{k+1} - t_k) / 2. An interval's energy lies between the smaller and the
    larger neighbour times its length, which is its stated spread.

    Args:
        updates: distinct readings.
        period_s: update period, s; NaN for unknown (the median distance of the updates is used).
        averaging_s: window that a reading averages over, s; NaN or 0 for an instantaneous sensor.
        gain_error: relative gain error of the sensor.
    """
    shift = averaging_s / 2 if averaging_s > 0 else 0.0
    t_s = updates.seen_s - shift
    power = updates.power_w
    length = np.diff(t_s)
    typical = period_s if period_s > 0 else (float(np.median(length)) if len(length) else math.nan)
    longest = GAP_PERIODS * max(typical, updates.median_poll_s)
    covered = ~(length > longest)
    energy = (power[1:] + power[:-1]) / 2 * length
    return Edges(
        t_s=t_s,
        energy_j=np.append(0.0, np.cumsum(energy)),
        slack_s=(updates.seen_s - updates.before_s) / 2,
        covered=covered,
        known=covered,
        spread_j=np.abs(power[1:] - power[:-1]) / 2 * length,
        period_s=typical,
        gain_error=gain_error,
    )
