"""Precision, recall, macro F1 and routing accuracy, as TrafficBench section 4.1 defines them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class RoutingQuality:
    """Quality of one routing; arrays have shape (m,) and are NaN where a value is undefined.

    Args:
        precision: mean over models that received queries.
        recall: the same mean.
        macro_f1: the same mean.
        accuracy: share of queries that went to a model that answers them correctly.
        label_f1: macro F1 against the smallest correct model as the label; 1 for the oracle.
        model_precision: per model.
        model_recall: per model.
        model_f1: per model.
        routed: queries per model.
    """

    precision: float
    recall: float
    macro_f1: float
    accuracy: float
    label_f1: float
    model_precision: FloatArray
    model_recall: FloatArray
    model_f1: FloatArray
    routed: IntArray


def routing_quality(choice: IntArray, correct: FloatArray) -> RoutingQuality:
    """Return the metrics of a routing.

    A model that receives no query has no precision and is left out of the aggregates; a model that solves nothing has
    no recall. Scores between 0 and 1 count as the share of a query that was answered correctly.

    The paper's table 15 gives the oracle an F1 of 1, which its section 4.1 cannot: recall there divides by every query
    a model solves, also those that a smaller one solves. `label_f1` is the reading that makes the oracle 1.

    Args:
        choice: column of the model each query goes to, shape (n,).
        correct: scores in [0, 1], shape (n, m), models from the smallest to the largest.

    Raises:
        RoutingError: no queries, or a choice that names no model.

    Source: TrafficBench section 4.1.
    """
    n, m = correct.shape
    if n == 0:
        raise RoutingError("no queries to evaluate a routing on")
    if choice.min() < 0 or choice.max() >= m:
        raise RoutingError(f"a choice names model {int(choice.max())} of {m}")
    got = correct[np.arange(n), choice]
    routed = np.bincount(choice, minlength=m)
    hits = np.bincount(choice, weights=got, minlength=m)
    solved = correct.sum(axis=0)
    precision = _ratio(hits, routed)
    recall = _ratio(hits, solved)
    f1 = np.where(routed > 0, _ratio(2 * hits, routed + solved), np.nan)
    used = routed > 0
    return RoutingQuality(
        precision=float(np.nanmean(precision)),
        recall=_mean_known(recall[used]),
        macro_f1=float(np.nanmean(f1)),
        accuracy=float(got.mean()),
        label_f1=_label_f1(choice, smallest_correct(correct), m),
        model_precision=precision,
        model_recall=recall,
        model_f1=f1,
        routed=routed,
    )


def smallest_correct(correct: FloatArray, unsolved: int | None = None) -> IntArray:
    """Return the smallest model that answers each query correctly (a score of at least one half), shape (n,).

    Args:
        correct: shape (n, m), models from the smallest to the largest.
        unsolved: what to return for a query that nobody solves; the largest model (the cloud) when None.

    Source: TrafficBench equation 1.
    """
    solves = correct >= 0.5
    largest = correct.shape[1] - 1 if unsolved is None else unsolved
    return np.where(solves.any(axis=1), solves.argmax(axis=1), largest)


def _label_f1(choice: IntArray, label: IntArray, m: int) -> float:
    hits = np.bincount(choice[choice == label], minlength=m)
    size = np.bincount(choice, minlength=m) + np.bincount(label, minlength=m)
    return _mean_known(_ratio(2.0 * hits, size))


def _ratio(top: NDArray[Any], bottom: NDArray[Any]) -> FloatArray:
    """Return top / bottom, NaN where the bottom is 0."""
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)


def _mean_known(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
