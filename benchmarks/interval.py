"""Medians with intervals, as the benchmarks print them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000


def median_with_interval(values: NDArray[np.float64], form: str) -> str:
    """Return the median of the values (one a round, or one a pair) and the 95 % interval of its bootstrap.

    Args:
        values: shape (n,), n >= 1.
        form: format of one number, for example `"{:.3f}"`.
    """
    drawn = np.random.default_rng(1).choice(values, (RESAMPLES, values.size))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return f"{form.format(np.median(values))} [{form.format(low)}, {form.format(high)}]"
