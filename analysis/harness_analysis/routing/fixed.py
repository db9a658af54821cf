"""Routers that look at no query: the baselines and the upper bound."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, OutcomeMatrix
from harness_analysis.routing.router import NotFittedError, Queries, check_training, columns_of, one_hot


@dataclass
class Smallest:
    """Every query to the smallest model."""

    name: str = "smallest"
    sees_answers: bool = False
    votes: bool = True
    models: int = 0

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Count the models."""
        check_training(training, embeddings)
        self.models = len(training.models)

    def scores(self, queries: Queries) -> FloatArray:
        """Return 1 for the smallest."""
        return one_hot(0, len(queries), _fitted(self.models, self.name))


@dataclass
class Largest:
    """Every query to the largest model that the budget affords: cloud-only."""

    name: str = "largest"
    sees_answers: bool = False
    votes: bool = True
    models: int = 0

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Count the models."""
        check_training(training, embeddings)
        self.models = len(training.models)

    def scores(self, queries: Queries) -> FloatArray:
        """Return scores that rise with the size."""
        return columns_of(queries, np.linspace(0, 1, _fitted(self.models, self.name)))


@dataclass
class Random:
    """Uniform over the models within the budget ("Who routes the router", appendix F)."""

    seed: int = 0
    name: str = "random"
    sees_answers: bool = False
    votes: bool = True
    models: int = 0

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Count the models."""
        check_training(training, embeddings)
        self.models = len(training.models)

    def scores(self, queries: Queries) -> FloatArray:
        """Return uniform numbers, the same ones for the same seed."""
        shape = (len(queries), _fitted(self.models, self.name))
        return np.random.default_rng(self.seed).random(shape)


@dataclass
class Heuristic:
    """The model with the best training accuracy within the budget ("Who routes the router", appendix E)."""

    name: str = "heuristic"
    sees_answers: bool = False
    votes: bool = True
    accuracy: FloatArray = field(default_factory=lambda: np.empty(0))

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Count each model's training accuracy."""
        check_training(training, embeddings)
        self.accuracy = training.correct.mean(axis=0)

    def scores(self, queries: Queries) -> FloatArray:
        """Return the training accuracies."""
        _fitted(len(self.accuracy), self.name)
        return columns_of(queries, self.accuracy)


@dataclass
class Oracle:
    """The best model for each query, ties to the smallest: what no router can beat."""

    name: str = "oracle"
    sees_answers: bool = True
    votes: bool = False

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Learn nothing."""
        check_training(training, embeddings)

    def scores(self, queries: Queries) -> FloatArray:
        """Return the true scores.

        Raises:
            RoutingError: they were not given.
        """
        if queries.answers is None:
            raise RoutingError("the oracle needs the answers it routes by; it cannot route new queries")
        return queries.answers


def _fitted(models: int, name: str) -> int:
    if models == 0:
        raise NotFittedError(name)
    return models
