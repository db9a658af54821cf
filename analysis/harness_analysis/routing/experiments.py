"""Experiments on routers: domains they never saw, more models, duplicates, redundant models, specialists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness_analysis.embedding import Embedder
from harness_analysis.errors import RoutingError
from harness_analysis.metrics.bootstrap import Interval, mean_intervals
from harness_analysis.metrics.model_pool import (
    duplicate_groups,
    prune_models,
    pseudo_specialist,
    specialist_scores,
    task_accuracy,
)
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.catalogue import make_router
from harness_analysis.routing.choosing import best, routed_values, smallest_viable
from harness_analysis.routing.evaluation import Evaluation, evaluate
from harness_analysis.routing.router import Queries

MakeEmbedder = Callable[[], Embedder]
Rows = list[dict[str, Any]]
FEWEST_HELD_OUT = 20
"""Queries of a domain that are worth an interval."""


def out_of_distribution(
    matrix: OutcomeMatrix,
    names: Sequence[str],
    new_embedder: MakeEmbedder,
    *,
    threshold: float = 0.5,
    train_share: float = 0.7,
    resamples: int = 2_000,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Rows:
    """Return for each domain what routers lose on it when none of its queries were learned from.

    The same test queries of the domain are routed twice: by a router that learned from the training part, and by one
    that learned from the training part less the domain. The change is paired, query by query.

    Raises:
        RoutingError: fewer than two domains, or none with enough test queries.

    Source: "Who routes the router", section 4.4 and table 7; TrafficBench section 5.3.
    """
    domains = [d for d in dict.fromkeys(matrix.domains) if d]
    if len(domains) < 2:
        raise RoutingError("leaving a domain out needs queries of two domains (column `domain`)")
    training, test = matrix.split(train_share, seed)
    rows: Rows = []
    whole = {name: _chosen(name, training, test, new_embedder(), threshold, seed) for name in names}
    for domain in sorted(domains):
        held = np.array([d == domain for d in test.domains])
        seen = np.array([d != domain for d in training.domains])
        if held.sum() < FEWEST_HELD_OUT or not seen.any():
            continue
        progress(domain)
        there = test.rows(held)
        for name in names:
            apart = _chosen(name, training.rows(seen), there, new_embedder(), threshold, seed)
            within = routed_values(there.correct, whole[name][held])
            without = routed_values(there.correct, apart)
            change = _change(without - within, resamples, seed)
            rows.append(
                {
                    "domain": domain,
                    "router": name,
                    "test_queries": int(held.sum()),
                    "accuracy_seen": float(within.mean()),
                    "accuracy_unseen": float(without.mean()),
                    "change_points": 100 * change.estimate,
                    "low": 100 * change.low,
                    "high": 100 * change.high,
                }
            )
    if not rows:
        raise RoutingError(f"no domain has {FEWEST_HELD_OUT} test queries to be left out and measured on")
    return rows


def more_models(
    matrix: OutcomeMatrix, names: Sequence[str], new_embedder: MakeEmbedder, *, seed: int = 0, **options: Any
) -> Rows:
    """Return each router's quality with 2, 3, ... m candidate models (TrafficBench section 5.3, figure 4).

    Pools grow from the two ends: the smallest and the largest model first, then models evenly between them.
    """
    m = len(matrix.models)
    rows: Rows = []
    for count in range(2, m + 1):
        columns = np.unique(np.round(np.linspace(0, m - 1, count)).astype(np.int64))
        ran = _evaluated(_columns(matrix, columns), names, new_embedder(), seed=seed, **options)
        rows += [{"models": count, **row} for row in _areas(ran)]
    return rows


def duplicates(
    matrix: OutcomeMatrix,
    names: Sequence[str],
    new_embedder: MakeEmbedder,
    *,
    similarity: float = 0.999,
    train_share: float = 0.7,
    seed: int = 0,
    **options: Any,
) -> Rows:
    """Return each router's quality with and without near-duplicates, among training queries and across the split.

    `as it is`: the random split. `training cleaned`: of each group of duplicates the first training query stays ("Who
    routes the router", section 4.2 and table 1). `test cleaned`: test queries that have a duplicate in training are
    left out, which tells how much of the measured quality was remembered.
    """
    training, test = matrix.split(train_share, seed)
    words = new_embedder()
    words.fit(training.texts)
    groups = duplicate_groups(np.vstack([words.embed(training.texts), words.embed(test.texts)]), similarity)
    n = len(training)
    keep_training, keep_test = np.ones(n, dtype=bool), np.ones(len(test), dtype=bool)
    disagreeing = 0
    both = np.vstack([training.correct, test.correct])
    for group in groups:
        disagreeing += bool(np.ptp(both[group], axis=0).any())
        inside = np.sort(group[group < n])
        keep_training[inside[1:]] = False
        if inside.size:
            keep_test[group[group >= n] - n] = False
    if not keep_test.any():
        raise RoutingError("every test query has a duplicate among the training queries at this similarity")
    shared = {
        "groups": len(groups),
        "queries_in_groups": int(sum(g.size for g in groups)),
        "groups_with_disagreeing_labels": disagreeing,
    }
    rows: Rows = []
    for name, part, measured in (
        ("as it is", training, test),
        ("training cleaned", training.rows(keep_training), test),
        ("test cleaned", training, test.rows(keep_test)),
    ):
        ran = evaluate(
            [make_router(r, seed) for r in names], part, measured, new_embedder(), seed=seed, **options
        )
        sizes = {"training_queries": len(part), "test_queries": len(measured)}
        rows += [{"queries": name, **row, **sizes, **shared} for row in _areas(ran)]
    return rows


def pruned_pools(
    matrix: OutcomeMatrix,
    names: Sequence[str],
    new_embedder: MakeEmbedder,
    *,
    accuracy_weight: float = 0.5,
    seed: int = 0,
    **options: Any,
) -> Rows:
    """Return each router's quality while the most redundant model is removed again and again (appendix H)."""
    rows: Rows = []
    for keep in range(len(matrix.models), 1, -1):
        left = sorted(prune_models(matrix.correct, keep, accuracy_weight))
        ran = _evaluated(_columns(matrix, np.array(left)), names, new_embedder(), seed=seed, **options)
        kept = ", ".join(matrix.models[i] for i in left)
        rows += [{"models": keep, **row, "kept": kept} for row in _areas(ran)]
    return rows


def specialists(matrix: OutcomeMatrix) -> Rows:
    """Return each domain's specialist score ("Who routes the router", section 4.2), the greatest first."""
    names, accuracy = task_accuracy(matrix.correct, matrix.domains)
    score = specialist_scores(accuracy, matrix.correct.mean(axis=0), matrix.cost.mean(axis=0))
    count = {name: matrix.domains.count(name) for name in names}
    rows = [
        {
            "domain": name,
            "queries": count[name],
            "specialist_score": float(s),
            "mean_accuracy": float(a.mean()),
            "best_model": matrix.models[int(a.argmax())],
            "best_accuracy": float(a.max()),
        }
        for name, s, a in zip(names, score, accuracy, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["specialist_score"])


def remastered(
    matrix: OutcomeMatrix,
    names: Sequence[str],
    new_embedder: MakeEmbedder,
    *,
    targets: int = 3,
    keep: int | None = None,
    domains: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Rows:
    """Return routers' quality and agreement with the heuristic in the pool as it is and remastered.

    Remastered: redundant models pruned away and one invented specialist added for each of the hardest domains. The
    invented models are a stress test of routers and stand for no model; their size is the smallest model's.

    Args:
        matrix: outcomes with domains.
        names: of routers.
        new_embedder: makes an embedding that has not learned yet.
        targets: domains with a specialist: those of the least mean accuracy that hold a hundredth of the queries.
        keep: real models that stay; three quarters when None (the paper keeps 82 of 112).
        domains: how many domains stay in the remastered pool, those of the greatest specialist score; all when None.
            Areas of different queries cannot be compared, distances to the heuristic can.
        seed: of the split, routers and draws.
        options: of `evaluate`.

    Source: "Who routes the router", sections 4.3 and 5 (tables 3 and 4, figure 7).
    """
    whole = matrix
    if domains is not None:
        if domains < 2:
            raise RoutingError(f"a remastered pool keeps two domains and more, not {domains}")
        kept = {row["domain"] for row in specialists(matrix)[:domains]}
        matrix = matrix.rows(np.array([d in kept for d in matrix.domains]))
    tasks, accuracy = task_accuracy(matrix.correct, matrix.domains)
    share = np.array([matrix.domains.count(task) for task in tasks]) / len(matrix)
    eligible = [i for i in np.argsort(accuracy.mean(axis=1)) if share[i] >= 0.01 and tasks[i]]
    if len(eligible) < 2:
        raise RoutingError("a remastered pool needs queries of two domains and more (column `domain`)")
    chosen = [tasks[i] for i in eligible[: min(targets, len(eligible) - 1)]]
    keep = keep or max(2, round(0.75 * len(matrix.models)))
    pool = _columns(matrix, np.array(sorted(prune_models(matrix.correct, keep))))
    for at, task in enumerate(chosen):
        pool = _with_model(
            pool,
            f"invented specialist: {task}",
            pseudo_specialist(matrix.correct, matrix.domains, task, seed + at),
        )
    rows: Rows = []
    for name, made in (("as it is", whole), ("remastered", pool)):
        ran = _evaluated(made, names, new_embedder(), seed=seed, **options)
        rows += [
            {
                "pool": name,
                "models": len(made.models),
                "queries": len(made),
                **row,
                "agreement_percent": result.agreement,
            }
            for row, result in zip(_areas(ran), ran.results, strict=False)
        ]
    return rows


def _chosen(
    name: str, training: OutcomeMatrix, test: OutcomeMatrix, words: Embedder, threshold: float, seed: int
) -> IntArray:
    router = make_router(name, seed)
    words.fit(training.texts)
    router.fit(training, words.embed(training.texts))
    scores = router.scores(
        Queries(words.embed(test.texts), test.correct if router.sees_answers else None, test.texts)
    )
    return best(scores) if router.votes else smallest_viable(scores, threshold)


def _change(per_query: FloatArray, resamples: int, seed: int) -> Interval:
    return mean_intervals(per_query[:, None], resamples, seed)[0]


def _evaluated(
    matrix: OutcomeMatrix,
    names: Sequence[str],
    words: Embedder,
    *,
    train_share: float = 0.7,
    seed: int = 0,
    **options: Any,
) -> Evaluation:
    training, test = matrix.split(train_share, seed)
    return evaluate([make_router(name, seed) for name in names], training, test, words, seed=seed, **options)


def _areas(ran: Evaluation) -> Rows:
    """Return one row per router that routes queries: its area and section 4.1 metrics."""
    return [
        {
            "router": r.name,
            "area": r.area.estimate,
            "area_low": r.area.low,
            "area_high": r.area.high,
            "area_over_heuristic": r.over_heuristic.estimate,
            "over_heuristic_low": r.over_heuristic.low,
            "over_heuristic_high": r.over_heuristic.high,
            "peak_accuracy": r.curve.peak,
            "accuracy": r.quality.accuracy,
            "label_f1": r.quality.label_f1,
        }
        for r in ran.results
        if r.quality is not None
    ]


def _columns(matrix: OutcomeMatrix, columns: IntArray) -> OutcomeMatrix:
    return replace(
        matrix,
        models=tuple(matrix.models[i] for i in columns),
        params_b=matrix.params_b[columns],
        correct=matrix.correct[:, columns],
        costs={unit: cost[:, columns] for unit, cost in matrix.costs.items()},
    )


def _with_model(matrix: OutcomeMatrix, name: str, correct: FloatArray) -> OutcomeMatrix:
    """Return the pool with one more model that costs what the smallest does."""
    return replace(
        matrix,
        models=(name, *matrix.models),
        params_b=np.concatenate([matrix.params_b[:1], matrix.params_b]),
        correct=np.column_stack([correct, matrix.correct]),
        costs={unit: np.column_stack([cost[:, 0], cost]) for unit, cost in matrix.costs.items()},
    )
