"""Learning curves: the same routers, the same test queries, more and more training queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from harness_analysis.embedding import Embedder
from harness_analysis.errors import RoutingError
from harness_analysis.metrics.bootstrap import Interval, statistic_interval
from harness_analysis.metrics.routing_quality import smallest_correct
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.evaluation import evaluate
from harness_analysis.routing.router import Router


def default_sizes(training_queries: int) -> tuple[int, ...]:
    """Return 100, 300, 1000, 3000 ... below the number of training queries, and that number."""
    steps = [base * 10**power for power in range(2, 9) for base in (1, 3)]
    return (*(size for size in steps if size < training_queries), training_queries)


def learning_curve(
    training: OutcomeMatrix,
    test: OutcomeMatrix,
    sizes: Sequence[int],
    new_routers: Callable[[], Sequence[Router]],
    new_embedder: Callable[[], Embedder] | None,
    *,
    threshold: float = 0.5,
    resamples: int = 2_000,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> pa.Table:
    """Return one row per size and router: F1 and the deferral area on the same test queries, with 95 % intervals.

    Subsets are nested: each holds the smaller ones, so that a curve bends for more queries and not for other ones.
    Routers and embeddings learn from the subset alone, budgets are the costs of all training queries' mean. Intervals
    are of the test queries, not of which queries were drawn to learn from: another seed tells that.

    Args:
        training: outcomes from which the subsets are drawn.
        test: outcomes of other queries.
        sizes: numbers of training queries.
        new_routers: makes routers that have not learned.
        new_embedder: makes an embedding that has not learned; None where no router needs one.
        threshold: of the F1s.
        resamples: of the bootstrap.
        seed: of the subsets and the bootstrap.
        progress: told the size and the router before each turn.

    Raises:
        RoutingError: no size, one below 1 or above the number of training queries, or what a router cannot learn from.

    Source: TrafficBench section 5.2 (data efficiency, figure 3).
    """
    wanted = sorted(set(sizes))
    if not wanted or wanted[0] < 1:
        raise RoutingError("a learning curve needs numbers of training queries, each at least 1")
    if wanted[-1] > len(training):
        raise RoutingError(
            f"{wanted[-1]:,} queries to learn from are asked for, and {len(training):,} are in the training part"
        )
    order = np.random.default_rng(seed).permutation(len(training))
    rows: list[dict[str, Any]] = []
    for size in wanted:
        subset = training.rows(np.sort(order[:size]))
        ran = evaluate(
            new_routers(),
            subset,
            test,
            None if new_embedder is None else new_embedder(),
            threshold=threshold,
            resamples=resamples,
            seed=seed,
            progress=lambda name, size=size: progress(f"{size:,} queries, {name}"),
        )
        for result in ran.results:
            if result.choice is None or result.quality is None:
                continue
            macro = macro_f1_interval(result.choice, test.correct, resamples, seed)
            label = label_f1_interval(result.choice, test.correct, resamples, seed)
            rows.append(
                {
                    "training_queries": size,
                    "router": result.name,
                    "macro_f1": macro.estimate,
                    "macro_f1_low": macro.low,
                    "macro_f1_high": macro.high,
                    "label_f1": label.estimate,
                    "label_f1_low": label.low,
                    "label_f1_high": label.high,
                    "accuracy": result.quality.accuracy,
                    "area": result.area.estimate,
                    "area_low": result.area.low,
                    "area_high": result.area.high,
                    "cost_unit": test.unit,
                    "test_queries": len(test),
                }
            )
    return pa.Table.from_pylist(rows)


def macro_f1_interval(choice: IntArray, correct: FloatArray, resamples: int, seed: int) -> Interval:
    """Return `RoutingQuality.macro_f1` with its 95 % interval."""
    routed = np.eye(correct.shape[1])[choice]
    return _f1_interval(routed * correct, routed, correct, routed, resamples, seed)


def label_f1_interval(choice: IntArray, correct: FloatArray, resamples: int, seed: int) -> Interval:
    """Return `RoutingQuality.label_f1` with its 95 % interval."""
    each = np.eye(correct.shape[1])
    routed, label = each[choice], each[smallest_correct(correct)]
    return _f1_interval(routed * label, routed, label, routed + label, resamples, seed)


def _f1_interval(
    hits: FloatArray, routed: FloatArray, right: FloatArray, counts: FloatArray, resamples: int, seed: int
) -> Interval:
    """Return the mean F1 = 2 hits / (routed + right) of the models whose `counts` are above 0 in a resample.

    Every sum is a mean over queries times their number, which cancels.
    """
    m = hits.shape[1]

    def mean_f1(means: FloatArray) -> float:
        hit, size, counted = means[:m], means[m : 2 * m], means[2 * m :] > 0
        return float((2 * hit[counted] / size[counted]).mean())

    return statistic_interval(np.hstack([hits, routed + right, counts]), mean_f1, resamples, seed)
