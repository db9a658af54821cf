"""Is there anything to route: specialists, dominance, redundancy ("Who routes the router", section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, IntArray


def task_accuracy(correct: FloatArray, tasks: Sequence[str]) -> tuple[list[str], FloatArray]:
    """Return the tasks, sorted, and each model's accuracy on each, shape (tasks, m)."""
    names, at = np.unique(np.asarray(tasks, dtype=str), return_inverse=True)
    total = np.zeros((len(names), correct.shape[1]))
    np.add.at(total, at, correct)
    return names.tolist(), total / np.bincount(at)[:, None]


def specialist_scores(accuracy: FloatArray, overall: FloatArray, model_cost: FloatArray) -> FloatArray:
    """Return how much the best other model beats the best generalist on each task, shape (tasks,).

    At each budget the generalist is the affordable model with the best overall accuracy; budgets that afford only one
    model have no other and do not count.

    Args:
        accuracy: per task and model, shape (tasks, m).
        overall: accuracy over all queries, shape (m,).
        model_cost: shape (m,).

    Raises:
        RoutingError: no budget affords two models.

    Source: section 4.2.
    """
    gaps = []
    for budget in np.unique(model_cost):
        affordable = np.flatnonzero(model_cost <= budget)
        if affordable.size < 2:
            continue
        generalist = affordable[overall[affordable].argmax()]
        others = affordable[affordable != generalist]
        gaps.append(accuracy[:, others].max(axis=1) - accuracy[:, generalist])
    if not gaps:
        raise RoutingError("no budget affords two models, so there are no specialists to score")
    return np.mean(gaps, axis=0)


def average_rank(accuracy: FloatArray) -> FloatArray:
    """Return each model's mean rank over tasks, 1 for the best, equal ones sharing their mean rank (section 4.3)."""
    from scipy.stats import rankdata

    return rankdata(-accuracy, axis=1).mean(axis=0)


def agreement(choice: IntArray, heuristic: IntArray) -> float:
    """Return the percentage of queries on which a router chooses what the heuristic chooses (section 4.3)."""
    return float(100 * np.mean(choice == heuristic))


def jaccard_similarity(correct: FloatArray) -> FloatArray:
    """Return the Jaccard similarity of the sets of queries that models solve, shape (m, m); 1 for two that solve none.

    Source: appendix H.
    """
    solves = (correct >= 0.5).astype(np.float64)
    both = solves.T @ solves
    count = np.diag(both)
    either = count[:, None] + count[None, :] - both
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)


def prune_models(correct: FloatArray, keep: int, accuracy_weight: float = 0.5) -> list[int]:
    """Return the columns that are left when the most redundant model is removed again and again.

    Each step removes the model with the least `w accuracy - (1 - w) mean similarity to the others`.

    Raises:
        RoutingError: a weight outside [0, 1], or fewer than one model to keep.

    Source: appendix H.
    """
    if not 0 <= accuracy_weight <= 1:
        raise RoutingError(f"the weight of accuracy must lie between 0 and 1, not {accuracy_weight:g}")
    if keep < 1:
        raise RoutingError("at least one model must be kept")
    left = list(range(correct.shape[1]))
    similarity = jaccard_similarity(correct)
    accuracy = correct.mean(axis=0)
    while len(left) > keep:
        among = similarity[np.ix_(left, left)]
        mean_similarity = (among.sum(axis=1) - 1) / (len(left) - 1)
        score = accuracy_weight * accuracy[left] - (1 - accuracy_weight) * mean_similarity
        left.pop(int(score.argmin()))
    return left


def pseudo_specialist(
    correct: FloatArray, tasks: Sequence[str], target: str, seed: int = 0, lead: float = 0.25
) -> FloatArray:
    """Return verdicts of an invented model that leads on one task and is average elsewhere, shape (n,).

    A diagnostic: its rows are drawn, not measured, and must never be shown as a model's.

    Args:
        correct: real models' verdicts, shape (n, m).
        tasks: task of each query.
        target: the task to lead on.
        seed: of the draws.
        lead: how far above the best model on it.

    Raises:
        RoutingError: no query of that task.

    Source: section 4.3 and table 3.
    """
    on_target = np.asarray(tasks, dtype=str) == target
    if not on_target.any():
        raise RoutingError(f"no query belongs to task {target}")
    best = min(1.0, correct[on_target].mean(axis=0).max() + lead)
    names, accuracy = task_accuracy(correct, tasks)
    mean_of = dict(zip(names, accuracy.mean(axis=1), strict=True))
    rate = np.array([best if t == target else mean_of[t] for t in tasks])
    return (np.random.default_rng(seed).random(len(rate)) < rate).astype(np.float64)


def duplicate_groups(embeddings: FloatArray, similarity: float = 0.999) -> list[IntArray]:
    """Return groups of two and more queries whose embeddings' cosine reaches `similarity` (section 4.2).

    Args:
        embeddings: unit length, shape (n, d).
        similarity: least cosine of two duplicates.
    """
    from scipy.sparse.csgraph import connected_components
    from sklearn.neighbors import NearestNeighbors

    if not 0 < similarity <= 1:
        raise RoutingError(f"a similarity must lie in (0, 1], not {similarity:g}")
    # For unit vectors |a - b|^2 = 2 - 2 cos; a hair more, for rounding.
    radius = float(np.sqrt(max(0.0, 2 - 2 * similarity))) + 1e-6
    graph = NearestNeighbors(radius=radius).fit(embeddings).radius_neighbors_graph(embeddings)
    _, label = connected_components(graph, directed=False)
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return [group for group in groups if group.size > 1]
