"""What MESS+ is compared with on the same requests: educated guessing, and routers that learned beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_analysis.embedding import Embedder
from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.choosing import best, routed_values, smallest_viable
from harness_analysis.routing.router import Queries, Router

EDUCATED_GUESSING = "educated-guessing"
PAIR_ROUTERS = frozenset({"mf-routellm", "sw-ranking", "bert"})
"""RouteLLM's, which MESS+ section 4.1 runs on the smallest and the largest model alone."""
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Appendix B sweeps 0.1 to 0.9 and refines by hand where that is too coarse."""
_UPDATES = 5_000


@dataclass(frozen=True, slots=True)
class Served:
    """What a rival did with the requests.

    Args:
        name: of the rival.
        choice: model of each request, shape (T,).
        threshold: that was chosen for the promise, None where it has none.
    """

    name: str
    choice: IntArray
    threshold: float | None = None


def guessing_probabilities(accuracy: FloatArray, alpha: float) -> FloatArray:
    """Return how often to choose each model so that the promise holds in the mean, shape (m,).

    From equal chances on, those of models above the current mean grow by 1 % and those of the others shrink by 1 %
    until the mean reaches alpha. It starts from equal chances even where these promise far more.

    Args:
        accuracy: share of requests that each model satisfies, known beforehand, shape (m,).
        alpha: the promised share.

    Raises:
        RoutingError: no model satisfies so many.

    Source: MESS+ appendix B, `calculate_probabilities`; its last part, for 5,000 updates that do not suffice, is here
        the best model alone.
    """
    if alpha > accuracy.max():
        raise RoutingError(
            f"no model satisfies a share of {alpha:g}; the best satisfies {accuracy.max():.4f}"
        )
    chance = np.full(len(accuracy), 1 / len(accuracy))
    for _ in range(_UPDATES):
        reached = float(chance @ accuracy)
        if reached >= alpha - 1e-6:
            return chance
        chance = chance * np.where(accuracy > reached, 1.01, 0.99)
        chance /= chance.sum()
    return np.eye(len(accuracy))[int(accuracy.argmax())]


def guess(matrix: OutcomeMatrix, alpha: float, seed: int = 0) -> Served:
    """Draw a model for each request by `guessing_probabilities` of these very requests: it knows beforehand."""
    chance = guessing_probabilities(matrix.correct.mean(axis=0), alpha)
    choice = np.random.default_rng(seed).choice(len(chance), size=len(matrix), p=chance)
    return Served(EDUCATED_GUESSING, choice)


def serve(
    router: Router,
    training: OutcomeMatrix,
    requests: OutcomeMatrix,
    embedder: Embedder,
    *,
    alpha: float,
    seed: int = 0,
) -> Served:
    """Let a router learn from some queries and choose the model of each request.

    RouteLLM's routers choose between the smallest and the largest model by a threshold on the large one's win rate;
    routers whose scores are chances take the smallest model above a threshold; both thresholds are the cheapest that
    kept the promise on a fifth of the training queries, which the router did not learn from (the most satisfying where
    none did). Other routers, RouterDC among them, take the model with the greatest score.

    Args:
        router: not fitted yet.
        training: queries to learn from, none of them among the requests.
        requests: to be served.
        embedder: fitted.
        alpha: the promised share.
        seed: of the calibration queries.

    Raises:
        RoutingError: a router that needs the answers, or what it cannot learn from.

    Source: MESS+ section 4.1 and appendix B.
    """
    if router.sees_answers:
        raise RoutingError(f"router {router.name} is a bound that needs the answers; it is no rival")
    pair = router.name.partition(":")[0] in PAIR_ROUTERS
    if router.votes and not pair:
        router.fit(training, embedder.embed(training.texts))
        return Served(router.name, best(_scores(router, requests, embedder)))
    fitted, calibration = training.split(0.8, seed)
    columns = np.array([0, len(training.models) - 1]) if pair else np.arange(len(training.models))
    router.fit(fitted.models_at(columns), embedder.embed(fitted.texts))
    scores = _scores(router, calibration, embedder)
    choices = {t: columns[_at_threshold(scores, t, pair)] for t in THRESHOLDS}
    satisfied = {t: float(routed_values(calibration.correct, c).mean()) for t, c in choices.items()}
    cost = {t: float(routed_values(calibration.cost, c).mean()) for t, c in choices.items()}
    keeping = [t for t in THRESHOLDS if satisfied[t] >= alpha]
    threshold = (
        min(keeping, key=lambda t: cost[t]) if keeping else max(THRESHOLDS, key=lambda t: satisfied[t])
    )
    chosen = _at_threshold(_scores(router, requests, embedder), threshold, pair)
    return Served(router.name, columns[chosen], threshold)


def _scores(router: Router, part: OutcomeMatrix, embedder: Embedder) -> FloatArray:
    return router.scores(Queries(embedder.embed(part.texts), texts=part.texts))


def _at_threshold(scores: FloatArray, threshold: float, pair: bool) -> IntArray:
    """Return the chosen column: of a pair, the large model where its win rate reaches the threshold."""
    if pair:
        return (scores[:, 1] >= threshold).astype(np.int64)
    return smallest_viable(scores, threshold)
