"""Which of two models does better, as a logistic function of the difference of their strengths."""

from __future__ import annotations

import numpy as np

from harness_analysis.outcomes.matrix import FloatArray


def mean_win_rates(strengths: FloatArray) -> FloatArray:
    """Return each model's mean chance to beat each other one, shape (n, m).

    Args:
        strengths: Bradley-Terry strengths on the scale of the natural logarithm, shape (n, m).
    """
    m = strengths.shape[1]
    total = np.zeros_like(strengths)
    for other in range(m):
        total += logistic(strengths - strengths[:, other : other + 1])
    return (total - 0.5) / (m - 1)


def logistic(x: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-x)), for any x without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))
