"""The drift of two clocks against each other: a line through the offsets of the quickest exchanges.

A crystal's frequency is off by a constant, some parts per million, and moves with its temperature within the hour; so
the line takes the last hour. Each half minute gives one point, its quickest exchange: queues only ever add delay.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

POINT_EVERY_NS = 30_000_000_000
KEPT_POINTS = 120
LEAST_POINTS = 8
_NORMAL_995 = 2.5758293035489
"""Quantile of the normal distribution for a two-sided bound of 99 %."""


@dataclass(frozen=True, slots=True)
class ClockDrift:
    """How fast the coordinator's clock gains on the agent's; both in parts per million (us each second)."""

    ppm: float
    error_ppm: float
    """The true drift is within this of `ppm` in 99 of 100 lines."""
    points: int
    span_s: float


@dataclass(slots=True)
class _Point:
    at_ns: int
    offset_ns: int
    half_delay_ns: int


class DriftLine:
    """Gathers points since the last step of either clock and fits the line on demand."""

    def __init__(self) -> None:
        self._points: deque[_Point] = deque(maxlen=KEPT_POINTS)
        self._begun_ns = 0
        """When the last point's half minute began."""

    def start_anew(self) -> None:
        """Forget the points: a clock was set, or stood still, or it is another clock."""
        self._points.clear()

    def add(self, at_ns: int, offset_ns: int, half_delay_ns: int) -> None:
        """Take one exchange.

        Args:
            at_ns: when it ended, the agent's monotonic clock; not before the last one's.
            offset_ns: its estimate of the offset.
            half_delay_ns: the truth is within this of it.
        """
        if not self._points or at_ns - self._begun_ns >= POINT_EVERY_NS:
            self._begun_ns = at_ns
            self._points.append(_Point(at_ns, offset_ns, half_delay_ns))
        elif half_delay_ns < self._points[-1].half_delay_ns:
            self._points[-1] = _Point(at_ns, offset_ns, half_delay_ns)

    def fit(self) -> ClockDrift | None:
        """Return the drift, None while there are too few points to tell.

        Least squares with weights 1 / half_delay_ns ** 2, as an exchange's error grows with its delay. The error is
        the slope's standard error from the residuals, times Student's t for 99 % and n - 2 degrees of freedom.
        """
        if len(self._points) < LEAST_POINTS:
            return None
        # Relative to the first point: offsets since 1970 leave a float no nanoseconds.
        first = self._points[0]
        at_s = [(point.at_ns - first.at_ns) * 1e-9 for point in self._points]
        offset_us = [(point.offset_ns - first.offset_ns) * 1e-3 for point in self._points]
        weights = [1.0 / max(point.half_delay_ns, 1000) ** 2 for point in self._points]
        total = math.fsum(weights)
        mean_s = math.fsum(w * t for w, t in zip(weights, at_s, strict=True)) / total
        mean_us = math.fsum(w * o for w, o in zip(weights, offset_us, strict=True)) / total
        spread = math.fsum(w * (t - mean_s) ** 2 for w, t in zip(weights, at_s, strict=True))
        rows = list(zip(weights, at_s, offset_us, strict=True))
        slope = math.fsum(w * (t - mean_s) * (o - mean_us) for w, t, o in rows) / spread
        squares = math.fsum(w * (o - mean_us - slope * (t - mean_s)) ** 2 for w, t, o in rows)
        degrees = len(rows) - 2
        error = student_995(degrees) * math.sqrt(squares / degrees / spread)
        return ClockDrift(slope, error, len(rows), at_s[-1])


def student_995(degrees: int) -> float:
    """Return Student's t for a two-sided bound of 99 %: its expansion in 1/degrees (Abramowitz and Stegun 26.7.5).

    Within 0.5 % from 6 degrees of freedom on.
    """
    z = _NORMAL_995
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / degrees ** (power + 1) for power, term in enumerate(terms))
