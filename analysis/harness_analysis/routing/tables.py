"""An evaluation as tables: one row per router, per pair of routers, per threshold."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from harness_analysis.metrics.bootstrap import mean_intervals
from harness_analysis.metrics.routing_quality import routing_quality, smallest_correct
from harness_analysis.outcomes.matrix import FloatArray, OutcomeMatrix
from harness_analysis.routing.choosing import routed_values, smallest_viable
from harness_analysis.routing.evaluation import Evaluation, RouterResult

THRESHOLDS = tuple(round(0.1 * step, 1) for step in range(1, 10))
"""Those of TrafficBench table 15."""


def evaluation_table(evaluation: Evaluation) -> pa.Table:
    """Return one row per router; `area_over_heuristic_*` excludes 0 where a router differs from the heuristic."""
    return pa.Table.from_pylist([_router_row(result, evaluation) for result in evaluation.results])


def _router_row(result: RouterResult, evaluation: Evaluation) -> dict[str, Any]:
    q = result.quality
    return {
        "router": result.name,
        "area": result.area.estimate,
        "area_low": result.area.low,
        "area_high": result.area.high,
        "area_over_heuristic": result.over_heuristic.estimate,
        "area_over_heuristic_low": result.over_heuristic.low,
        "area_over_heuristic_high": result.over_heuristic.high,
        "peak_accuracy": result.curve.peak,
        "aiq": result.aiq.estimate,
        "aiq_low": result.aiq.low,
        "aiq_high": result.aiq.high,
        "aiq_with_models": result.aiq_with_models,
        "accuracy": q.accuracy if q else None,
        "precision": q.precision if q else None,
        "recall": q.recall if q else None,
        "macro_f1": q.macro_f1 if q else None,
        "label_f1": q.label_f1 if q else None,
        "mean_cost": None if np.isnan(result.mean_cost) else result.mean_cost,
        "saved": None if np.isnan(result.saved) else result.saved,
        "agreement_percent": None if np.isnan(result.agreement) else result.agreement,
        "router_ms": 1e3 * result.router_s if q else None,
        "neighbours_found": result.neighbours_found,
        "cost_unit": evaluation.test.unit,
        "test_queries": len(evaluation.test),
    }


def comparison_table(evaluation: Evaluation, resamples: int = 10_000, seed: int = 0) -> pa.Table:
    """Return each pair of routers with the paired difference of their areas and its 95 % interval.

    The zero router is no router of queries and has a row of its own in the evaluation only.
    """
    routers = [r for r in evaluation.results if r.choice is not None]
    pairs = list(combinations(routers, 2))
    if not pairs:
        return pa.table({"first": pa.array([], pa.string())})
    columns = np.column_stack([b.curve.per_query_area - a.curve.per_query_area for a, b in pairs])
    rows = [
        {
            "first": a.name,
            "second": b.name,
            "first_area": a.area.estimate,
            "second_area": b.area.estimate,
            "difference": found.estimate,
            "low": found.low,
            "high": found.high,
            "significant": found.excludes_zero,
        }
        for (a, b), found in zip(pairs, mean_intervals(columns, resamples, seed), strict=True)
    ]
    return pa.Table.from_pylist(rows)


def threshold_table(
    scores: FloatArray, test: OutcomeMatrix, thresholds: Sequence[float] = THRESHOLDS
) -> pa.Table:
    """Return what each threshold gives, against the largest model alone (TrafficBench tables 15 to 17).

    Savings are given for every cost that the outcomes know. The last row is the oracle's.

    Args:
        scores: a router's, shape (n, m).
        test: outcomes of the same queries.
        thresholds: tau, each in [0, 1].
    """
    rows = [_threshold_row(smallest_viable(scores, tau), test, tau) for tau in thresholds]
    rows.append(_threshold_row(smallest_correct(test.correct), test, None))
    return pa.Table.from_pylist(rows)


def _threshold_row(choice: np.ndarray, test: OutcomeMatrix, threshold: float | None) -> dict[str, Any]:
    quality = routing_quality(choice, test.correct)
    known_sizes = np.isfinite(test.params_b).all()
    row: dict[str, Any] = {
        "threshold": threshold,
        "router": "oracle" if threshold is None else "router",
        "label_f1": quality.label_f1,
        "macro_f1": quality.macro_f1,
        "accuracy": quality.accuracy,
        "mean_params_b": float(test.params_b[choice].mean()) if known_sizes else None,
        "largest_share": float(np.mean(choice == len(test.models) - 1)),
    }
    for unit, cost in test.costs.items():
        if unit in {"params", "price"}:
            continue
        largest = float(cost[:, -1].mean())
        spent = float(routed_values(cost, choice).mean())
        row[f"mean_{unit}"] = spent
        row[f"{unit}_saved"] = 1 - spent / largest if largest > 0 else None
    return row
