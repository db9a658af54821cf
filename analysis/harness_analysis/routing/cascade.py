"""Routers that look at answers: a cascade with an imperfect judge, and overgenerate-and-rerank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.metrics.bootstrap import Interval, mean_intervals
from harness_analysis.outcomes.matrix import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class AnswersBought:
    """What answering by trying models cost and gave.

    Args:
        choice: the model whose answer is returned, shape (n,).
        quality: of that answer, shape (n,).
        cost: of every call made for the query, shape (n,).
        calls: made for the query, shape (n,).
    """

    choice: IntArray
    quality: FloatArray
    cost: FloatArray
    calls: IntArray

    def intervals(self, resamples: int = 10_000, seed: int = 0) -> tuple[Interval, Interval]:
        """Return mean cost and mean quality with their 95 % intervals."""
        cost, quality = mean_intervals(np.column_stack([self.cost, self.quality]), resamples, seed)
        return cost, quality


def cascade(
    correct: FloatArray,
    cost: FloatArray,
    *,
    judge_error: float = 0.0,
    accept: float = 0.5,
    cost_cap: float = np.inf,
    seed: int = 0,
) -> AnswersBought:
    """Ask models from the cheapest on until the judge accepts an answer or the cap is spent.

    The judge sees the true score and reports one minus it with probability `judge_error`, for each answer anew. An
    answer below `accept` is passed on while the cost so far is under the cap; else the current answer is returned.

    Args:
        correct: scores in [0, 1], shape (n, m).
        cost: of each call, shape (n, m); models are asked by rising mean cost.
        judge_error: probability of a wrong judgement, in [0, 1].
        accept: least reported score that is accepted, in [0, 1].
        cost_cap: the total cost parameter T.
        seed: of the judge's errors.

    Raises:
        RoutingError: an error or threshold outside [0, 1], or a cap that is not positive.

    Source: RouterBench section 5.2.
    """
    for name, value in (("the judge's error", judge_error), ("the score to accept", accept)):
        if not 0 <= value <= 1:
            raise RoutingError(f"{name} must lie between 0 and 1, not {value:g}")
    if not cost_cap > 0:
        raise RoutingError(f"the cost cap must be above 0, not {cost_cap:g}")
    n, m = correct.shape
    order = np.argsort(cost.mean(axis=0), kind="stable")
    wrong = np.random.default_rng(seed).random((n, m)) < judge_error
    reported = np.where(wrong, 1 - correct, correct)[:, order]
    spent = np.cumsum(cost[:, order], axis=1)
    stops = (reported >= accept) | (spent >= cost_cap)
    stops[:, -1] = True
    at = stops.argmax(axis=1)
    choice = order[at]
    rows = np.arange(n)
    return AnswersBought(choice, correct[rows, choice], spent[rows, at], at + 1)


def overgenerate_and_rerank(correct: FloatArray, cost: FloatArray) -> AnswersBought:
    """Ask every model and return the best answer, ties to the cheapest; the reward is the true score.

    Source: RouterBench section 5.2.
    """
    n, m = correct.shape
    order = np.argsort(cost.mean(axis=0), kind="stable")
    choice = order[correct[:, order].argmax(axis=1)]
    return AnswersBought(choice, correct[np.arange(n), choice], cost.sum(axis=1), np.full(n, m))
