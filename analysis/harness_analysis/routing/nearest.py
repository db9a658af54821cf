"""Routers that ask similar training queries: k nearest neighbours and K-means clusters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.metrics.routing_quality import smallest_correct
from harness_analysis.outcomes.matrix import FloatArray, OutcomeMatrix
from harness_analysis.routing.router import NotFittedError, Queries, check_training, one_hot
from harness_analysis.routing.vector_index import APPROXIMATE_FROM, make_index

SWEEP = (1, 5, 10, 50, 100)
"""Numbers of neighbours that TrafficBench section 4.2 tries."""


@dataclass
class KNearest:
    """What the k most similar training queries say, by cosine.

    Args:
        k: neighbours; cut to the number of training queries.
        ask: `score`: the mean score of each model among them (RouterBench section 5.1, "Who routes the router"
            appendix E); `vote`: how often each model was the smallest correct one (TrafficBench section 4.2).
        approximate_from: training queries from which on an index answers in place of the exact search.
    """

    k: int = 100
    ask: Literal["score", "vote"] = "score"
    name: str = ""
    sees_answers: bool = False
    votes: bool = False
    approximate_from: int = APPROXIMATE_FROM
    _index: Any = field(default=None, repr=False)
    _values: FloatArray = field(default_factory=lambda: np.empty((0, 0)), repr=False)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise RoutingError(f"k nearest neighbours needs k of at least 1, not {self.k}")
        self.name = self.name or f"knn-{self.ask}-{self.k}"
        self.votes = self.ask == "vote"

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Keep the training queries."""
        check_training(training, embeddings)
        n, m = training.correct.shape
        self._values = (
            training.correct if self.ask == "score" else one_hot(smallest_correct(training.correct), n, m)
        )
        self._index = make_index(embeddings, self.k, self.approximate_from)

    def recall_for(self, queries: Queries, checked: int = 100) -> float:
        """Return the share of the true neighbours that the search finds for the first of these queries.

        Raises:
            NotFittedError: there is nothing to search yet.
        """
        if self._index is None:
            raise NotFittedError(self.name)
        return self._index.recall_for(queries.embeddings[:checked], min(self.k, len(self._values)))

    @property
    def recall(self) -> float:
        """Share of the true neighbours that the search finds for stored queries: 1 where it is exact.

        Raises:
            NotFittedError: there is nothing to search yet.
        """
        if self._index is None:
            raise NotFittedError(self.name)
        return self._index.recall

    def scores(self, queries: Queries) -> FloatArray:
        """Return the neighbours' mean."""
        if self._index is None:
            raise NotFittedError(self.name)
        near = self._index.nearest(queries.embeddings, min(self.k, len(self._values)))
        total = np.zeros((len(queries), self._values.shape[1]))
        for column in near.T:
            # An index that searches some cells only may find fewer than k; row -1 stands for none.
            total += self._values[column] * (column >= 0)[:, None]
        return total / np.maximum(1, (near >= 0).sum(axis=1))[:, None]


@dataclass
class KMeansClusters:
    """The mean score of each model in the query's cluster ("Who routes the router", appendix E).

    Args:
        clusters: how many; cut to the number of training queries.
        seed: of the first centres.
    """

    clusters: int = 50
    seed: int = 0
    name: str = "kmeans"
    sees_answers: bool = False
    votes: bool = False
    _fitted: Any = field(default=None, repr=False)
    _accuracy: FloatArray = field(default_factory=lambda: np.empty((0, 0)), repr=False)

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Cluster the training queries."""
        from sklearn.cluster import KMeans

        check_training(training, embeddings)
        clusters = min(self.clusters, distinct(embeddings))
        self._fitted = KMeans(n_clusters=clusters, random_state=self.seed, n_init="auto").fit(embeddings)
        count = np.bincount(self._fitted.labels_, minlength=clusters)
        total = np.zeros((clusters, len(training.models)))
        np.add.at(total, self._fitted.labels_, training.correct)
        # An empty cluster (scikit-learn leaves none, but centres may coincide) says what all queries say.
        self._accuracy = np.where(
            count[:, None] > 0, total / np.maximum(count, 1)[:, None], training.correct.mean(axis=0)
        )

    def scores(self, queries: Queries) -> FloatArray:
        """Return the cluster's mean."""
        if self._fitted is None:
            raise NotFittedError(self.name)
        return self._accuracy[
            self._fitted.predict(queries.embeddings.astype(self._fitted.cluster_centers_.dtype))
        ]


def best_k(
    training: OutcomeMatrix,
    embeddings: FloatArray,
    ask: Literal["score", "vote"] = "score",
    sweep: tuple[int, ...] = SWEEP,
    seed: int = 0,
) -> tuple[int, dict[int, float]]:
    """Return the k whose deferral area on a held-out fifth of the training queries is largest, and all areas.

    Equal areas give the smaller k.

    Args:
        training: outcomes.
        embeddings: of their queries.
        ask: as for `KNearest`.
        sweep: the k to try.
        seed: of the split.

    Source: TrafficBench section 4.2 and appendix C.1 (k swept; there by macro F1).
    """
    from harness_analysis.metrics.deferral import budgeted_choices, budgets_of, deferral_curve

    order = np.random.default_rng(seed).permutation(len(training))
    cut = len(order) * 4 // 5
    if cut == 0:
        raise RoutingError("too few training queries to hold some out for choosing k")
    fitted, held = training.rows(order[:cut]), training.rows(order[cut:])
    model_cost = training.cost.mean(axis=0)
    budgets = budgets_of(model_cost)
    areas: dict[int, float] = {}
    for k in sweep:
        router = KNearest(k, ask)
        router.fit(fitted, embeddings[order[:cut]])
        choices = budgeted_choices(router.scores(Queries(embeddings[order[cut:]])), model_cost, budgets)
        areas[k] = deferral_curve(choices, held.correct, budgets).area
    return max(areas, key=lambda k: (areas[k], -k)), areas


def distinct(embeddings: FloatArray) -> int:
    """Return how many embeddings are told apart: rounding makes no second point of one that K-means could find."""
    return len(np.unique(np.round(embeddings, 6), axis=0))
