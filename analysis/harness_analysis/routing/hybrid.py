"""Hybrid LLM: a small and a large model, three kinds of labels, a relaxation t* and a calibrated threshold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.metrics.model_pair import quality_drop
from harness_analysis.outcomes.matrix import FloatArray
from harness_analysis.routing.router import NotFittedError

Label = Literal["deterministic", "probabilistic", "transformed"]
GRID = 100
CALIBRATION_QUERIES = 500
"""Queries that section 4.5 calibrates on."""


def deterministic_labels(small: FloatArray, large: FloatArray) -> FloatArray:
    """Return 1 where the small model's first answer is at least as good as the large one's (section 3.1).

    Args:
        small: quality of its answers, shape (n, repetitions).
        large: of the large model's.
    """
    return (small[:, 0] >= large[:, 0]).astype(np.float64)


def probabilistic_labels(small: FloatArray, large: FloatArray, relaxation: float = 0.0) -> FloatArray:
    """Return the chance that the small model's quality reaches the large one's less a relaxation t, shape (n,).

    Every answer of the one is compared with every answer of the other, which estimates the same expectation as the
    paper's ten pairs, with less variance.

    Args:
        small: quality of its answers, shape (n, repetitions).
        large: of the large model's, shape (n, repetitions); they may differ in number.
        relaxation: t >= 0 of section 3.3; 0 for section 3.2.

    Raises:
        RoutingError: a negative relaxation.
    """
    if relaxation < 0:
        raise RoutingError(f"the relaxation must be at least 0, not {relaxation:g}")
    # Rounding must not turn an equal quality into a lesser one.
    gap = small[:, :, None] - large[:, None, :] + relaxation
    return (gap >= -1e-12).mean(axis=(1, 2))


def mean_pairwise_difference(labels: FloatArray) -> float:
    """Return the objective of equation 3: the mean of |y_i - y_i'| over all pairs.

    Sorted, the k-th of n labels is added k times and subtracted n - 1 - k times: n log n in place of n squared.
    """
    n = len(labels)
    weights = 2 * np.arange(n) - n + 1
    return float(2 * (weights @ np.sort(labels)) / n**2)


def best_relaxation(
    small: FloatArray, large: FloatArray, grid: FloatArray | None = None
) -> tuple[float, float]:
    """Return t* of equation 3 by grid search, and the objective there; the least of equally good t.

    Args:
        small: quality of the small model's answers, shape (n, repetitions).
        large: of the large model's.
        grid: the t to try; by default 100 steps from 0 to the greatest gap.
    """
    if grid is None:
        gaps = large.max(axis=1) - small.min(axis=1)
        grid = np.linspace(0.0, max(0.0, float(gaps.max())), GRID + 1)
    values = [mean_pairwise_difference(probabilistic_labels(small, large, float(t))) for t in grid]
    at = int(np.argmax(np.round(values, 12)))
    return float(grid[at]), values[at]


def learnable_labels(
    label: Label, queries: int, small: FloatArray, large: FloatArray
) -> tuple[FloatArray, float]:
    """Return the labels that a router is trained on, shape (n,), and their relaxation t.

    Args:
        label: which of the three.
        queries: how many there are.
        small: quality of the small model's answers, shape (n, repetitions).
        large: of the large model's.

    Raises:
        RoutingError: NaN, or arrays that do not fit.
    """
    if not queries == len(small) == len(large) > 0:
        raise RoutingError("a hybrid router needs queries and answers of both models for the same queries")
    if not (np.isfinite(small).all() and np.isfinite(large).all()):
        raise RoutingError("a hybrid router cannot learn from qualities that are NaN or infinite")
    if label == "deterministic":
        return deterministic_labels(small, large), 0.0
    relaxation = best_relaxation(small, large)[0] if label == "transformed" else 0.0
    return probabilistic_labels(small, large, relaxation), relaxation


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold on the router's score and what it gave on the calibration queries.

    Args:
        threshold: queries that score higher go to the small model.
        cost_advantage: share of queries that do.
        drop_percent: of quality against the large model alone.
    """

    threshold: float
    cost_advantage: float
    drop_percent: float


@dataclass
class HybridRouter:
    """Trust in the small model, learned from labels by logistic regression on embeddings.

    The paper fine-tunes an encoder, as `HybridEncoder` does; the loss (cross entropy with soft labels, equations 1, 2
    and 4) is the same.

    Args:
        label: which of the three.
        penalty: inverse strength of the regularisation.
    """

    label: Label = "transformed"
    penalty: float = 1.0
    relaxation: float = 0.0
    _regression: Any = field(default=None, repr=False)

    def fit(self, embeddings: FloatArray, small: FloatArray, large: FloatArray) -> None:
        """Learn from answers of both models.

        Args:
            embeddings: shape (n, d).
            small: quality of the small model's answers, shape (n, repetitions).
            large: of the large model's.

        Raises:
            RoutingError: NaN, or arrays that do not fit.
        """
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        labels, self.relaxation = learnable_labels(self.label, len(embeddings), small, large)
        if np.ptp(labels) == 0 and labels[0] in {0.0, 1.0}:
            self._regression = float(labels[0])
            return
        # A soft label y is a positive row of weight y and a negative one of weight 1 - y: the same cross entropy.
        with threadpool_limits(1):
            self._regression = LogisticRegression(C=self.penalty, max_iter=1_000).fit(
                np.vstack([embeddings, embeddings]),
                np.repeat([1, 0], len(labels)),
                sample_weight=np.concatenate([labels, 1 - labels]),
            )

    def trust(self, embeddings: FloatArray) -> FloatArray:
        """Return the score of each query, shape (n,); large for queries that the small model answers as well."""
        if self._regression is None:
            raise NotFittedError(f"hybrid-{self.label}")
        if isinstance(self._regression, float):
            return np.full(len(embeddings), self._regression)
        return self._regression.predict_proba(embeddings)[:, 1]


def calibrate_threshold(
    trust: FloatArray, small: FloatArray, large: FloatArray, max_drop_percent: float = 1.0
) -> Calibration:
    """Return the threshold with the greatest cost advantage whose drop in quality stays within the limit.

    Args:
        trust: scores of calibration queries, shape (n,).
        small: mean quality of the small model on them, shape (n,).
        large: of the large model, shape (n,).
        max_drop_percent: of the large model's mean quality.

    Raises:
        RoutingError: no queries, or a large model without any quality.

    Source: Hybrid LLM section 4.5.
    """
    if len(trust) == 0:
        raise RoutingError("no queries to calibrate a threshold on")
    found = Calibration(float(trust.max()), 0.0, 0.0)
    for threshold in np.concatenate([np.unique(trust)[::-1], [-np.inf]]):
        to_small = trust > threshold
        drop = quality_drop(float(np.where(to_small, small, large).mean()), float(large.mean()))
        if drop <= max_drop_percent + 1e-12:
            found = Calibration(float(threshold), float(to_small.mean()), drop)
    return found
