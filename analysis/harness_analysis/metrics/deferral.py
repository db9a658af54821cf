"""Deferral curves: accuracy against the budget a query may cost, their area and peak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class DeferralCurve:
    """Accuracy of one router over budgets.

    Args:
        budgets: each model's mean cost once, increasing, shape (b,).
        accuracy: mean quality at each budget, shape (b,).
        area: mean height between the least and the greatest budget.
        peak: greatest accuracy.
        average: mean over the budgets, each counted once.
        per_query_area: what each query adds: its mean is `area`; shape (n,), for the bootstrap.
    """

    budgets: FloatArray
    accuracy: FloatArray
    area: float
    peak: float
    average: float
    per_query_area: FloatArray


def budgets_of(model_cost: FloatArray) -> FloatArray:
    """Return the budgets at which the set of affordable models changes.

    Raises:
        RoutingError: all models cost the same, so there is nothing to trade.
    """
    budgets = np.unique(model_cost)
    if budgets.size < 2:
        raise RoutingError(
            "all models cost the same in this unit: there is no budget to trade accuracy against"
        )
    return budgets


def budgeted_choices(scores: FloatArray, model_cost: FloatArray, budgets: FloatArray) -> IntArray:
    """Return the best affordable model by score for each query and budget, ties to the smallest; shape (n, b).

    Args:
        scores: what the router thinks of each model, shape (n, m), models from the smallest to the largest.
        model_cost: shape (m,).
        budgets: greatest cost of a model that may be chosen, shape (b,), none under the cheapest model's.

    Source: heuristic and oracle routers of "Who routes the router", appendix E, for any scores.
    """
    choices = np.empty((len(scores), len(budgets)), dtype=np.int64)
    for at, budget in enumerate(budgets):
        choices[:, at] = np.where(model_cost <= budget, scores, -np.inf).argmax(axis=1)
    return choices


def area_weights(budgets: FloatArray) -> FloatArray:
    """Return the weight of each budget in the normalised area, shape (b,); they add up to 1.

    Between two budgets the curve is the straight line that randomising between them reaches.
    """
    gaps = np.diff(budgets)
    weights = np.zeros(len(budgets))
    weights[:-1] += gaps / 2
    weights[1:] += gaps / 2
    return weights / (budgets[-1] - budgets[0])


def deferral_curve(choices: IntArray, correct: FloatArray, budgets: FloatArray) -> DeferralCurve:
    """Return the deferral curve of a router's choices.

    Args:
        choices: shape (n, b).
        correct: scores in [0, 1], shape (n, m).
        budgets: shape (b,).

    Source: "Who routes the router", section 4.1 and appendix F.
    """
    got = np.take_along_axis(correct, choices, axis=1)
    return curve_of(got, budgets)


def curve_of(got: FloatArray, budgets: FloatArray) -> DeferralCurve:
    """Return the curve of qualities reached, shape (n, b)."""
    accuracy = got.mean(axis=0)
    weights = area_weights(budgets)
    return DeferralCurve(
        budgets=budgets,
        accuracy=accuracy,
        area=float(accuracy @ weights),
        peak=float(accuracy.max()),
        average=float(accuracy.mean()),
        per_query_area=got @ weights,
    )
