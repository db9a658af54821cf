"""What a series of fast polls tells of a sensor: its period, its averaging, and whether its counter is sound."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.floating]

SMALLEST_CHANGES = 4
_COUNTER_RATIO = 10.0
"""A counter whose rate is this many times off the power reading is broken (seen on MI100, MI210, RX cards)."""
_SMALLEST_STEP = 0.05
"""Power must move by this share of its mean before averaging shows."""


def update_period_s(t_s: Float64, values: Float64) -> float:
    """Return the period on which a polled value changes, s; NaN when too few changes were seen.

    A value that happens to repeat leaves a tick out, so intervals may be multiples of the period. Where the
    value changes at nearly every poll, the polls' own interval is returned: the period is that or less.

    Args:
        t_s: poll times, ascending.
        values: what each poll read, NaN where it read nothing.
    """
    known = ~np.isnan(values)
    t_s, values = t_s[known], values[known]
    changed = np.flatnonzero(np.diff(values))
    if len(changed) < SMALLEST_CHANGES:
        return math.nan
    if len(changed) > 0.8 * (len(values) - 1):
        return float(np.median(np.diff(t_s)))
    # The change lies between two polls; its middle is off by half of their interval at most.
    change_s = (t_s[changed] + t_s[changed + 1]) / 2
    intervals_s = np.diff(change_s)
    # A stray short interval (a late poll before a timely one) must not pass for the period.
    base_s = float(np.quantile(intervals_s, 0.2))
    base_s = float(np.median(intervals_s[intervals_s < 1.5 * base_s]))
    counts = np.maximum(np.round(intervals_s / base_s), 1)
    return float(intervals_s.sum() / counts.sum())


def counter_fault(t_s: Float64, power_w: Float64, energy_j: Float64) -> str:
    """Return why an energy counter cannot be trusted beside its power reading, empty when it can.

    Args:
        t_s: poll times, ascending.
        power_w: power readings.
        energy_j: cumulative counter readings.
    """
    known = ~(np.isnan(power_w) | np.isnan(energy_j))
    t_s, power_w, energy_j = t_s[known], power_w[known], energy_j[known]
    if len(t_s) < 2:
        return ""
    if (np.diff(energy_j) < 0).any():
        return "it went backwards while it was watched"
    expected_j = float(np.trapezoid(power_w, t_s))
    counted_j = float(energy_j[-1] - energy_j[0])
    if expected_j < 1.0 or t_s[-1] - t_s[0] < 0.5:
        return ""
    seen = f"it counted {counted_j:.3g} J where the power reading gives {expected_j:.3g} J"
    if counted_j == 0:
        return f"it stands still ({seen})"
    ratio = counted_j / expected_j
    return "" if 1 / _COUNTER_RATIO < ratio < _COUNTER_RATIO else seen


def averaging_s(t_s: Float64, power_w: Float64, energy_j: Float64, counter_period_s: float) -> float:
    """Return roughly the window a power reading is averaged over, s; NaN where the load does not show it.

    The counter's rate between two of its ticks is the true mean power of that tick. From tick to tick an
    average over W moves by tick / W of what the true power moves; an instantaneous reading moves with it.

    Args:
        t_s: poll times, ascending.
        power_w: power readings.
        energy_j: cumulative counter readings.
        counter_period_s: the counter's update period, NaN when it has none.
    """
    if not counter_period_s > 0.01:
        return math.nan
    ticks = np.flatnonzero(np.diff(energy_j) > 0) + 1
    if len(ticks) < SMALLEST_CHANGES + 2:
        return math.nan
    true_w = np.diff(energy_j[ticks]) / np.diff(t_s[ticks])
    # Read in the middle of the tick after: the reading may follow the counter by some milliseconds.
    middles = (ticks[1:] + np.append(ticks[2:], len(t_s) - 1)) // 2
    true_step_w = float(np.std(np.diff(true_w)))
    read_step_w = float(np.std(np.diff(power_w[middles])))
    mean_w = float(np.mean(true_w))
    if math.isnan(read_step_w) or mean_w <= 0 or true_step_w < _SMALLEST_STEP * mean_w:
        return math.nan
    share = read_step_w / true_step_w
    return counter_period_s / max(share, 0.01) if share < 0.4 else counter_period_s
