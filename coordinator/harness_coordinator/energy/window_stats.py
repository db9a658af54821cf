"""Average, largest, median and smallest value of a sampled quantity over many windows at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.intake import NS
from harness_coordinator.energy.records import Float64, Int64

MEDIAN_BLOCK = 4_000_000
"""Readings gathered at once for medians: 32 MB."""


@dataclass(frozen=True, slots=True)
class WindowStats:
    """One element per window, in the unit of the values; NaN where a window has no reading near it."""

    average: Float64
    largest: Float64
    median: Float64
    smallest: Float64


def window_stats(t_ns: Int64, value: Float64, start_ns: Int64, end_ns: Int64) -> WindowStats:
    """Describe a sampled quantity (power, temperature, memory) over windows.

    The average is weighted by time: the integral of the straight lines between readings over the window, by
    its length. Largest, smallest and median are of the readings inside the window; a window between two
    readings has the value of the line at its middle for all of them.

    Args:
        t_ns: n times of readings, ns, any order.
        value: n readings; NaN where absent, and absent ones are left out.
        start_ns: m window starts, ns.
        end_ns: m window ends, ns. A window that ends before it starts gives NaN.
    """
    present = np.isfinite(value)
    t = np.asarray(t_ns, np.int64)[present]
    v = np.asarray(value, np.float64)[present]
    start, end = np.asarray(start_ns, np.int64), np.asarray(end_ns, np.int64)
    count = len(start)
    if not len(t) or not count:
        return WindowStats(*(np.full(count, np.nan) for _ in range(4)))
    if (np.diff(t) < 0).any():
        order = np.argsort(t, kind="stable")
        t, v = t[order], v[order]
    lo, hi = np.searchsorted(t, start, side="left"), np.searchsorted(t, end, side="right")
    outside = (end < start) | (end < t[0]) | (start > t[-1])
    origin = t[0]
    x, a, b = (
        (t - origin) * NS,
        (np.maximum(start, t[0]) - origin) * NS,
        (np.minimum(end, t[-1]) - origin) * NS,
    )
    middle = np.interp((a + b) / 2, x, v)
    length = b - a
    area = _area_at(b, x, v) - _area_at(a, x, v)
    average = np.divide(area, length, out=middle.copy(), where=length > 0)
    empty = hi <= lo
    largest, smallest, median = (np.where(empty, middle, reduced) for reduced in _reduce(v, lo, hi, empty))
    stats = (average, largest, median, smallest)
    return WindowStats(*(np.where(outside, np.nan, column) for column in stats))


def _area_at(t: Float64, x: Float64, v: Float64) -> Float64:
    """Integral of the straight lines through (x, v) from x[0] to each t."""
    cumulative = np.append(0.0, np.cumsum(np.diff(x) * (v[1:] + v[:-1]) / 2))
    k = np.clip(np.searchsorted(x, t, side="right") - 1, 0, len(x) - 1)
    return cumulative[k] + (t - x[k]) * (v[k] + np.interp(t, x, v)) / 2


def _reduce(v: Float64, lo: Int64, hi: Int64, empty: np.ndarray) -> tuple[Float64, Float64, Float64]:
    """Largest, smallest and median of v[lo:hi] for each window; arbitrary where empty."""
    lo, hi = np.where(empty, 0, lo), np.where(empty, 1, hi)
    padded = np.append(v, v[-1])
    pairs = np.column_stack([lo, hi]).ravel()
    largest = np.maximum.reduceat(padded, pairs)[::2]
    smallest = np.minimum.reduceat(padded, pairs)[::2]
    return largest, smallest, _medians(v, lo, hi)


def _medians(v: Float64, lo: Int64, hi: Int64) -> Float64:
    """Median of v[lo:hi] for each window, all windows of one length at a time."""
    median = np.empty(len(lo))
    counts = hi - lo
    order = np.argsort(counts, kind="stable")
    lengths, starts = np.unique(counts[order], return_index=True)
    for length, group in zip(lengths.tolist(), np.split(order, starts[1:]), strict=True):
        at_once = max(1, MEDIAN_BLOCK // length)
        for block in range(0, len(group), at_once):
            windows = group[block : block + at_once]
            median[windows] = np.median(v[lo[windows, None] + np.arange(length)], axis=1)
    return median
