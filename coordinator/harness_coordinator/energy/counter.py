"""An energy counter: its wraps, its resets, and the moments at which it changed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.intake import Bool, CleanSamples
from harness_coordinator.energy.records import Float64

WRAP_NEAR = 0.25
"""A fall is a wrap when what it would add is less than this share of the counter's range; else a reset."""
RESOLUTION_READINGS = 2000


@dataclass(frozen=True, slots=True)
class Changes:
    """The polls that saw the counter change. The tick lay in (before_s, seen_s]; n elements a column."""

    before_s: Float64
    seen_s: Float64
    energy_j: Float64
    """Counter with wraps undone, 0 at the first change, J."""
    reset: Bool
    """True where the counter fell since the change before: the energy between them is unknown."""
    last_poll_s: float
    median_poll_s: float
    every_poll: bool
    """The counter changed at (nearly) every poll: it ticks faster than it was polled."""

    def __len__(self) -> int:
        """Number of changes."""
        return len(self.seen_s)


def find_changes(samples: CleanSamples, wrap_j: float = math.nan, *, computed: bool = False) -> Changes:
    """Keep the polls at which the counter changed; a repeat of an unchanged value is not new information.

    The first poll counts as a change, seen within one poll interval.

    Args:
        samples: cleaned polls with a counter.
        wrap_j: value at which the counter starts again at zero, J; NaN where it does not wrap.
        computed: the value is made at each poll (an estimate from CPU time): one that stays the same says that
            nothing was used, not that the sensor has not ticked.
    """
    valid = ~np.isnan(samples.energy_j)
    t_s, reading = samples.t_s, samples.energy_j
    if not valid.all():
        t_s, reading = t_s[valid], reading[valid]
    empty = np.zeros(0)
    if not len(t_s):
        return Changes(empty, empty, empty, np.zeros(0, bool), math.nan, math.nan, False)
    half = samples.half_width_s
    if len(half) and not valid.all():
        half = half[valid]
    step = np.diff(reading)
    changed = np.flatnonzero((step != 0) | computed) + 1
    step = step[changed - 1]
    fell = step < 0
    reset = fell.copy()
    if fell.any():
        if wrap_j > 0:
            wrapped = fell & (step + wrap_j >= 0) & (step + wrap_j < WRAP_NEAR * wrap_j)
            step = np.where(wrapped, step + wrap_j, step)
            reset = fell & ~wrapped
        step = np.where(reset, 0.0, step)
    poll_s = float(np.median(np.diff(t_s))) if len(t_s) > 1 else math.nan
    before = np.append(t_s[0] - (poll_s if poll_s > 0 else 0.0), t_s[changed - 1])
    seen = np.append(t_s[0], t_s[changed])
    if len(half):
        before = before - np.append(half[0], half[changed - 1])
        seen = seen + np.append(half[0], half[changed])
    return Changes(
        before_s=before,
        seen_s=seen,
        energy_j=np.append(0.0, np.cumsum(step)),
        reset=np.append(False, reset),
        last_poll_s=float(t_s[-1]),
        median_poll_s=poll_s,
        every_poll=len(changed) > 0.9 * (len(t_s) - 1) if len(t_s) > 1 else False,
    )


def find_resolution(samples: CleanSamples) -> float:
    """Step of a counter that is not stated: the largest power of ten that all its readings are multiples of, J.

    A counter that shows whole joules may be short of the truth by one. 0 for a finer one than 1e-6 J.
    """
    reading = samples.energy_j[np.isfinite(samples.energy_j)][:RESOLUTION_READINGS]
    for exponent in range(3, -7, -1):
        multiple = reading * 10.0**-exponent
        if (np.abs(multiple - np.rint(multiple)) < 1e-6 * np.maximum(np.abs(multiple) * 1e-9, 1.0)).all():
            return 10.0**exponent
    return 0.0
