"""Repeated measurements: mean, deviation, t interval, and which differences are larger than the uncertainty."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from harness_coordinator.energy.records import NAN, Float64

Key = TypeVar("Key", bound=Hashable)

CONFIDENCE = 0.95
NORMAL_99 = 2.576


@dataclass(frozen=True, slots=True)
class Repetition:
    """Several measurements of one thing, J (or any other unit)."""

    count: int
    """Measurements with a value."""
    mean: float
    deviation: float
    """Standard deviation of one measurement (n - 1); NaN for fewer than two."""
    interval_low: float
    """Lower end of the t interval of the mean; NaN for fewer than two."""
    interval_high: float
    instrument_low: float
    """Mean of the measurements' lower 99 % instrument bounds; NaN where they have none."""
    instrument_high: float

    @property
    def standard_error(self) -> float:
        """Standard error of the mean from the scatter of the repetitions; NaN for fewer than two."""
        return self.deviation / math.sqrt(self.count) if self.count > 1 else NAN

    @property
    def instrument_error(self) -> float:
        """Standard deviation that the instrument's 99 % bounds stand for; 0 where there are none."""
        width = self.instrument_high - self.instrument_low
        return width / 2 / NORMAL_99 if math.isfinite(width) else 0.0


@dataclass(frozen=True, slots=True)
class Difference:
    """Two groups compared: second minus first."""

    first: Hashable
    second: Hashable
    difference: float
    relative: float
    """Difference over the first mean."""
    uncertainty: float
    """Half width of the interval of the difference at the asked confidence; infinite for single measurements
    whose instrument has no bounds."""
    significant: bool
    """Whether the difference is larger than its uncertainty."""


def summarise(
    values: Sequence[float] | Float64,
    low: Sequence[float] | Float64 | None = None,
    high: Sequence[float] | Float64 | None = None,
    confidence: float = CONFIDENCE,
) -> Repetition:
    """Describe repeated measurements: mean +- t_{n-1} s / sqrt(n).

    Args:
        values: measurements; absent ones (NaN) are left out.
        low: their lower instrument bounds.
        high: their upper instrument bounds.
        confidence: of the t interval, between 0 and 1.
    """
    value = np.asarray(values, np.float64)
    present = np.isfinite(value)
    count = int(present.sum())

    def mean_of(bounds: Sequence[float] | Float64 | None) -> float:
        if bounds is None or not count:
            return NAN
        bound = np.asarray(bounds, np.float64)[present]
        return float(bound.mean()) if np.isfinite(bound).all() else NAN

    if not count:
        return Repetition(0, NAN, NAN, NAN, NAN, NAN, NAN)
    mean = float(value[present].mean())
    deviation = float(value[present].std(ddof=1)) if count > 1 else NAN
    half = t_quantile(0.5 + confidence / 2, count - 1) * deviation / math.sqrt(count) if count > 1 else NAN
    return Repetition(count, mean, deviation, mean - half, mean + half, mean_of(low), mean_of(high))


def summarise_groups(
    keys: Sequence[Key], values: Float64, low: Float64 | None = None, high: Float64 | None = None
) -> dict[Key, Repetition]:
    """Describe each group of rows with one key, in the order of first appearance.

    Args:
        keys: n group keys, for example (query, model, hardware).
        values: n measurements.
        low: n lower instrument bounds.
        high: n upper instrument bounds.
    """
    rows: dict[Key, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return {
        key: summarise(values[own], None if low is None else low[own], None if high is None else high[own])
        for key, own in rows.items()
    }


def compare(groups: Mapping[Key, Repetition], confidence: float = CONFIDENCE) -> list[Difference]:
    """Say of each pair of groups whether they differ by more than the uncertainty of the difference.

    Scatter and instrument add in quadrature. The interval is Welch's: t at the effective degrees of freedom
    nu = (v1 + v2)^2 / (v1^2 / (n1 - 1) + v2^2 / (n2 - 1)), v the squared standard errors, combined with the
    instrument's own error, which repetition does not average out (Welch 1947). With more than two groups the
    confidence of each pair is raised so that it holds for all pairs together (Bonferroni).

    Args:
        groups: name to its repetitions; groups without a value are left out.
        confidence: that no difference is called larger by chance.
    """
    pairs = list(itertools.combinations([key for key, group in groups.items() if group.count], 2))
    each = 1 - (1 - confidence) / max(len(pairs), 1)
    return [_difference(first, second, groups, each) for first, second in pairs]


def _difference(first: Key, second: Key, groups: Mapping[Key, Repetition], confidence: float) -> Difference:
    one, two = groups[first], groups[second]
    difference = two.mean - one.mean
    scatter = [group for group in (one, two) if group.count > 1]
    variance = sum(group.standard_error**2 for group in scatter)
    instrument = one.instrument_error**2 + two.instrument_error**2
    if len(scatter) < 2 and instrument == 0.0:
        uncertainty = math.inf
    else:
        below = sum(group.standard_error**4 / (group.count - 1) for group in scatter)
        freedom = variance**2 / below if below > 0 else math.inf
        at = 0.5 + confidence / 2
        uncertainty = math.hypot(
            t_quantile(at, freedom) * math.sqrt(variance), t_quantile(at, math.inf) * math.sqrt(instrument)
        )
    return Difference(
        first=first,
        second=second,
        difference=difference,
        relative=difference / one.mean if one.mean else NAN,
        uncertainty=uncertainty,
        significant=abs(difference) > uncertainty,
    )


def t_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t distribution, by bisection of its distribution function.

    Args:
        probability: between 0 and 1.
        freedom: degrees of freedom, more than 0; infinity gives the normal distribution.
    """
    if not 0 < probability < 1 or not freedom > 0:
        raise ValueError(f"no t quantile for probability {probability} and {freedom} degrees of freedom")
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while t_distribution(high, freedom) < probability:
        low, high = high, high * 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        if t_distribution(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def t_distribution(t: float, freedom: float) -> float:
    """Probability that a Student t variable is at most `t`, t >= 0: 1 - I_x(nu/2, 1/2) / 2, x = nu / (nu + t^2)."""
    if freedom > 1e6:
        return 0.5 * math.erfc(-t / math.sqrt(2))
    return 1 - 0.5 * _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function by Lentz's continued fraction (Abramowitz and Stegun 26.5.8)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for m in range(1, 300):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + term * d or tiny)
            c = 1 + term / c or tiny
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * fraction / a
