"""Paired bootstrap over queries: every router is evaluated on the same resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray

RESAMPLES = 10_000
LEVEL = 0.95
_CELLS = 2_000_000  # counts held at once: 8 bytes each, so 16 MB whatever the number of queries


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its percentile interval."""

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Return whether zero lies outside: the test for a difference."""
        return self.low > 0 or self.high < 0


def resampled_means(per_query: FloatArray, resamples: int = RESAMPLES, seed: int = 0) -> FloatArray:
    """Return the mean of each column over queries drawn with replacement, shape (resamples, k).

    Args:
        per_query: one row per query, one column per router or quantity, shape (n, k).
        resamples: how many.
        seed: of the draws; the same for all columns, which is what pairs them.

    Raises:
        RoutingError: no queries or NaN.

    Source: "Who routes the router", appendix F (10,000 paired resamples).
    """
    n = len(per_query)
    if n == 0 or not np.isfinite(per_query).all():
        raise RoutingError("the bootstrap needs queries, and a finite value of each")
    means = np.empty((resamples, per_query.shape[1]))
    for start, counts in _resample_counts(n, resamples, seed):
        means[start : start + len(counts)] = counts @ per_query
    return means / n


def _resample_counts(n: int, resamples: int, seed: int) -> Iterator[tuple[int, FloatArray]]:
    """Yield blocks of how often each query was drawn, shape (rows, n)."""
    random = np.random.default_rng(seed)
    rows = max(1, _CELLS // n)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = random.integers(0, n, size=(size, n), dtype=np.int64)
        drawn += (np.arange(size) * n)[:, None]
        yield start, np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def interval(estimate: float, replicates: FloatArray, level: float = LEVEL) -> Interval:
    """Return the percentile interval of replicates.

    Raises:
        RoutingError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise RoutingError(f"the level of an interval must lie between 0 and 1, not {level:g}")
    tail = (1 - level) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Interval(float(estimate), float(low), float(high))


def mean_intervals(per_query: FloatArray, resamples: int = RESAMPLES, seed: int = 0) -> list[Interval]:
    """Return the mean of each column with its 95 % interval."""
    replicates = resampled_means(per_query, resamples, seed)
    return [interval(e, r) for e, r in zip(per_query.mean(axis=0), replicates.T, strict=True)]


def statistic_interval(
    per_query: FloatArray,
    statistic: Callable[[FloatArray], float],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a function of column means with its 95 % interval, for what is not a mean itself, such as AIQ.

    Args:
        per_query: shape (n, k).
        statistic: takes k means, returns a number.
        resamples: how many.
        seed: of the draws.
    """
    replicates = resampled_means(per_query, resamples, seed)
    values = np.array([statistic(row) for row in replicates])
    return interval(statistic(per_query.mean(axis=0)), values)
