"""Which of two models does better, as a logistic function of the difference of their strengths."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness_analysis.outcomes.matrix import FloatArray, IntArray
from harness_analysis.routing.finetuned.libraries import Torch


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


def decided(correct: FloatArray) -> IntArray:
    """Return the queries on which some model did better than another."""
    return np.flatnonzero(np.ptp(correct, axis=1) > 0)


def surprise_of_wins(torch: Torch, strength: Any, verdict: Any) -> Any:
    """Return the mean of -log logistic(winner's strength less the loser's), over every pair that is no tie.

    Args:
        torch: the library.
        strength: of each query and model, with gradients, shape (n, m).
        verdict: scores of the answers, shape (n, m); each query `decided`.
    """
    won = verdict[:, :, None] > verdict[:, None, :]
    surprise = torch.nn.functional.softplus(strength[:, None, :] - strength[:, :, None])
    return (surprise * won).sum() / won.sum()


def logistic(x: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-x)), for any x without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))
