"""Domains by a trained classifier: a logistic regression on embeddings of the queries that already have a domain."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from sklearn.model_selection import StratifiedGroupKFold

from harness_analysis.datasets.duplicates import IntArray
from harness_analysis.errors import DatasetError

FOLDS = 5
Vectors = NDArray[np.float32]
Labels = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """How far predictions on rows that were not learned from agree with these rows' own domains."""

    accuracy: float
    cohen_kappa: float
    """Unweighted, over all classes; NaN where it is not defined."""
    decided: float
    """Share of rows whose prediction reached the confidence."""
    accuracy_of_decided: float
    """NaN where none reached it."""


@dataclass(frozen=True, slots=True)
class DomainClassifier:
    """A trained classifier."""

    model: LogisticRegression
    rows: int
    """Rows it learned from."""
    classes: tuple[str, ...]
    agreement: CrossValidated

    def domains(self, vectors: Vectors, min_confidence: float) -> list[str | None]:
        """Return the domain of each vector, None where the most likely one is below the confidence."""
        if not len(vectors):
            return []
        names, confidence = _predicted(self.model, vectors)
        return [
            str(n) if c >= min_confidence else None for n, c in zip(names, confidence.tolist(), strict=True)
        ]


def train_domain_classifier(
    vectors: Vectors,
    domains: Sequence[str],
    groups: IntArray,
    *,
    min_confidence: float,
    folds: int = FOLDS,
    seed: int = 0,
    name: str = "the dataset",
) -> DomainClassifier:
    """Train on rows with a domain, and say how well that works on rows that were held back.

    Args:
        vectors: of unit length, shape (n, d).
        domains: n of them.
        groups: of duplicates, shape (n,): a group is never cut, or copies of learned rows would be counted as found.
        min_confidence: what `CrossValidated.decided` is counted by, a probability.
        folds: parts that are held back one after another.
        seed: of the folds.
        name: what messages call the rows.

    Raises:
        DatasetError: no row, one domain only, or fewer different queries than two for each fold.
    """
    labels = np.array(domains, dtype=np.str_)
    classes = sorted(set(labels.tolist()))
    if not len(labels):
        raise DatasetError(
            f"{name}: no row has a domain to learn from; label some first, or name --train OTHER"
        )
    if len(classes) < 2:
        raise DatasetError(
            f"{name}: every labelled row has the domain {classes[0]!r}; a classifier needs two or more domains"
        )
    if len(np.unique(groups)) < 2 * folds:
        raise DatasetError(
            f"{name}: {len(np.unique(groups))} different queries have a domain; {folds} folds need {2 * folds}"
        )
    if max(labels.tolist().count(one) for one in classes) < folds:
        raise DatasetError(
            f"{name}: no domain has {folds} labelled rows; {folds} folds cannot say how well a classifier does"
        )
    agreement = _cross_validated(vectors, labels, groups, min_confidence, folds, seed)
    return DomainClassifier(_fitted(vectors, labels), len(labels), tuple(classes), agreement)


def _cross_validated(
    vectors: Vectors, labels: Labels, groups: IntArray, min_confidence: float, folds: int, seed: int
) -> CrossValidated:
    names = np.empty(len(labels), dtype=object)
    confidence = np.zeros(len(labels))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A domain with fewer rows than folds is absent from some: its rows count as wrong there, which is so.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        parts = list(splitter.split(vectors, labels, groups))
    for training, held_back in parts:
        if len(set(labels[training].tolist())) < 2:
            names[held_back], confidence[held_back] = labels[training][0], 1.0
        elif len(held_back):
            names[held_back], confidence[held_back] = _predicted(
                _fitted(vectors[training], labels[training]), vectors[held_back]
            )
    right = names == labels
    decided = confidence >= min_confidence
    return CrossValidated(
        accuracy=float(right.mean()),
        cohen_kappa=float(cohen_kappa_score(labels.tolist(), names.tolist())),
        decided=float(decided.mean()),
        accuracy_of_decided=float(right[decided].mean()) if decided.any() else float("nan"),
    )


def _fitted(vectors: Vectors, labels: Labels) -> LogisticRegression:
    return LogisticRegression(max_iter=1_000, C=10.0).fit(vectors, labels)


def _predicted(model: Any, vectors: Vectors) -> tuple[Labels, NDArray[np.float64]]:
    shares: NDArray[np.float64] = model.predict_proba(vectors)
    best = shares.argmax(axis=1)
    return model.classes_[best], shares[np.arange(len(best)), best]
