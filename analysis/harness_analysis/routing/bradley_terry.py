"""RouteLLM's similarity-weighted ranking: Bradley-Terry strengths fitted anew for each query, no training."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness_analysis.outcomes.matrix import FloatArray, OutcomeMatrix
from harness_analysis.routing.router import NotFittedError, Queries, check_training
from harness_analysis.routing.win_rates import logistic, mean_win_rates

GAMMA = 10.0
"""Base of the weights in RouteLLM section 4.2."""
_BATCH = 64
_STEPS = 100


@dataclass
class SimilarityWeightedRanking:
    """Strengths of all models that explain best which did better on similar training queries (RouteLLM section 4.2).

    A model wins a training query where its score is higher than another's; equal scores are half a win for each. The
    router is asked for a pair there: for how often the large model wins. For a pool a model's score is its mean chance
    against each other model, which for a pair is that win rate.

    Args:
        gamma: base of the weights.
        prior: drawn games of weight 1 added to each pair, without which a model that always wins is infinitely strong.
    """

    gamma: float = GAMMA
    prior: float = 1.0
    name: str = "sw-ranking"
    sees_answers: bool = False
    votes: bool = True
    _embeddings: FloatArray = field(default_factory=lambda: np.empty((0, 0)), repr=False)
    _correct: FloatArray = field(default_factory=lambda: np.empty((0, 0)), repr=False)

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Keep the training queries."""
        check_training(training, embeddings)
        self._embeddings, self._correct = embeddings, training.correct

    def scores(self, queries: Queries) -> FloatArray:
        """Return each model's mean chance against the others, shape (n, m)."""
        if not len(self._correct):
            raise NotFittedError(self.name)
        parts = [
            mean_win_rates(self._strengths(queries.embeddings[at : at + _BATCH]))
            for at in range(0, len(queries), _BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self._correct.shape[1]))

    def _strengths(self, embeddings: FloatArray) -> FloatArray:
        weights = similarity_weights(embeddings @ self._embeddings.T, self.gamma)
        return strengths(weighted_wins(weights, self._correct) + self.prior / 2)


def similarity_weights(similarity: FloatArray, gamma: float = GAMMA) -> FloatArray:
    """Return gamma^(1 + s / max s) for each query and training query, shape (n, N).

    Where no training query is similar (max s is not above 0) all weigh the same.

    Args:
        similarity: cosines s, shape (n, N).
        gamma: base of the weights.

    Source: RouteLLM section 4.2.
    """
    top = similarity.max(axis=1, keepdims=True)
    share = np.divide(similarity, top, out=np.zeros_like(similarity), where=top > 1e-12)
    return gamma ** (1 + share)


def weighted_wins(weights: FloatArray, correct: FloatArray) -> FloatArray:
    """Return how much weight each model's wins over each other one have, shape (n, m, m); a draw is half a win.

    Args:
        weights: of training queries for each query, shape (n, N).
        correct: scores of training queries, shape (N, m).
    """
    m = correct.shape[1]
    wins = np.empty((len(weights), m, m))
    for a in range(m):
        own = correct[:, a : a + 1]
        wins[:, a] = weights @ ((own > correct) + 0.5 * (own == correct))
    return wins


def strengths(wins: FloatArray) -> FloatArray:
    """Return the Bradley-Terry strengths of greatest likelihood, with mean 0, shape (n, m).

    Newton's method on P(a beats b) = logistic(s_a - s_b); steps are cut to 1 at most, within which the curvature of
    the likelihood changes little enough for each step to go uphill.

    Args:
        wins: of the row's model over the column's, shape (n, m, m); the diagonal is ignored. Every pair needs a part of
            a win both ways, or some strength is infinite.
    """
    n, m, _ = wins.shape
    off = ~np.eye(m, dtype=bool)
    wins = wins * off
    games = wins + wins.transpose(0, 2, 1)
    # Only differences matter; the added constant takes the direction out in which all strengths move together.
    gauge = games.sum(axis=(1, 2))[:, None, None] / m**2
    found = np.zeros((n, m))
    for _ in range(_STEPS):
        chance = logistic(found[:, :, None] - found[:, None, :])
        slope = (wins - games * chance).sum(axis=2)
        bend = games * chance * (1 - chance)
        hessian = np.where(off, -bend, 0.0)
        hessian[:, np.arange(m), np.arange(m)] = bend.sum(axis=2)
        step = np.linalg.solve(hessian + gauge, slope[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1, keepdims=True)
        found += step / np.maximum(1.0, longest)
        if longest.max() < 1e-10:
            break
    return found - found.mean(axis=1, keepdims=True)
