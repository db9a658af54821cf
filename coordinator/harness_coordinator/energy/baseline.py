"""Idle power of a source, measured with the model loaded and nothing in flight, and the line through it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.curve import EnergyCurve
from harness_coordinator.energy.intake import NS
from harness_coordinator.energy.records import Baseline, Float64

SHORTEST_BASELINE_S = 10.0
"""A baseline shorter than this is used and flagged: sensor noise and a fan cycle are not averaged out."""


def measure_baselines(
    curve: EnergyCurve, windows_ns: Sequence[tuple[int, int]]
) -> tuple[list[Baseline], list[str]]:
    """Measure idle power over each window that the samples cover.

    The standard error is half the width of the window's 99 % bounds over 2.576, per second.

    Args:
        curve: energy of the source.
        windows_ns: (start, end) of times at which the model was loaded and nothing was in flight.

    Returns:
        The baselines in time order, and the flags `baseline_missing` (a window has no data or no length) and
        `baseline_short`.
    """
    found: list[Baseline] = []
    flags: list[str] = []
    for start_ns, end_ns in sorted(windows_ns):
        window = np.array([start_ns]), np.array([end_ns])
        if end_ns <= start_ns or curve.coverage(*window)[0] < 0.5:
            flags.append("baseline_missing")
            continue
        length_s = (end_ns - start_ns) * NS
        if length_s < SHORTEST_BASELINE_S:
            flags.append("baseline_short")
        joules, low, high = (float(x[0]) for x in curve.window_j(*window))
        covered_s = length_s * float(curve.coverage(*window)[0])
        width = (high - low) / length_s / 2 / 2.576
        found.append(
            Baseline(start_ns, end_ns, joules / covered_s, width if math.isfinite(width) else math.nan)
        )
    return found, list(dict.fromkeys(flags))


@dataclass(frozen=True, slots=True)
class BaselineLine:
    """Idle power over time: the straight line between baselines, constant before the first and after the last."""

    t_s: Float64
    power_w: Float64

    @classmethod
    def through(cls, baselines: Sequence[Baseline], origin_ns: int) -> BaselineLine | None:
        """Draw the line through the middles of the baseline windows; None without any."""
        if not baselines:
            return None
        middles = [((b.start_ns + b.end_ns) / 2 - origin_ns) * NS for b in baselines]
        return cls(np.array(middles), np.array([b.power_w for b in baselines]))

    def power_at(self, t_s: Float64) -> Float64:
        """Idle power at the given times (s), W."""
        return np.interp(t_s, self.t_s, self.power_w)

    def energy_at(self, t_s: Float64) -> Float64:
        """Integral of the idle power from the first baseline's middle to each time (s), J."""
        t_s = np.asarray(t_s, np.float64)
        area = np.append(0.0, np.cumsum(np.diff(self.t_s) * (self.power_w[1:] + self.power_w[:-1]) / 2))
        k = np.clip(np.searchsorted(self.t_s, t_s, side="right") - 1, 0, len(self.t_s) - 1)
        return area[k] + (t_s - self.t_s[k]) * (self.power_w[k] + self.power_at(t_s)) / 2
