"""Does MESS+ keep its promise: a table over alpha and V, and how satisfaction and cost go request by request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, OutcomeMatrix
from harness_analysis.routing.mess_plus import DEFAULT_C, Decay, Trajectory, check_promise, run_mess_plus
from harness_analysis.routing.mess_plus_bounds import least_cost

CURVE_POINTS = 500


def sla_tables(
    matrix: OutcomeMatrix,
    embeddings: FloatArray,
    alphas: Sequence[float],
    weights: Sequence[float],
    *,
    c: float = DEFAULT_C,
    decay: Decay = "fourth-root",
    orders: int = 3,
    window: int = 100,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[pa.Table, pa.Table]:
    """Serve the requests in several random orders at each alpha and V; return the table and the curves of one order.

    Table, means over orders with their standard deviations: the share satisfied, in how many orders the promise was
    kept at the end, at which share of requests it held so far, which share of windows kept it each, from which request
    on it held for good (the median; absent where it did not in half of the orders), and what a request costs. Beside
    it the cost of the cheapest single model that satisfies alpha, and of one who knows every answer.

    Args:
        matrix: outcomes.
        embeddings: of its queries, shape (T, d).
        alphas: promised shares.
        weights: V of each run.
        c: rate of exploration.
        decay: of exploration.
        orders: random orders of the requests, of the seeds `seed`, `seed + 1`, ...
        window: requests of a window.
        seed: of the first order and of exploration.
        progress: told what is served.

    Raises:
        RoutingError: a promise that cannot be kept, V or c not positive, no order, a window longer than the requests.

    Source: MESS+ tables 2, 6 and 7, figure 2.
    """
    if not 1 <= window <= len(matrix):
        raise RoutingError(f"a window holds 1 to {len(matrix)} requests, which there are, not {window}")
    if orders < 1:
        raise RoutingError("at least one order of the requests is needed")
    for alpha in alphas:
        for v in weights:
            check_promise(matrix.correct, alpha, v, c)
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for alpha in alphas:
        least = least_cost(matrix.correct, matrix.cost, alpha)
        for v in weights:
            progress(f"alpha {alpha:g}, V {v:g}")
            ran = [
                _served(matrix, embeddings, alpha, v, c=c, decay=decay, seed=seed + k) for k in range(orders)
            ]
            rows.append(_row(matrix, ran, alpha, v, window) | {"least_cost": least, "cost_unit": matrix.unit})
            curves += _curve(ran[0], alpha, v)
    return pa.Table.from_pylist(rows), pa.Table.from_pylist(curves)


def _served(
    matrix: OutcomeMatrix,
    embeddings: FloatArray,
    alpha: float,
    v: float,
    *,
    c: float,
    decay: Decay,
    seed: int,
) -> Trajectory:
    order = np.random.default_rng(seed).permutation(len(matrix))
    return run_mess_plus(
        matrix.correct[order],
        matrix.cost[order],
        embeddings[order],
        alpha=alpha,
        v=v,
        c=c,
        decay=decay,
        seed=seed,
    )


def _row(matrix: OutcomeMatrix, ran: list[Trajectory], alpha: float, v: float, window: int) -> dict[str, Any]:
    satisfied = np.array([r.satisfied.mean() for r in ran])
    cost = np.array([r.cost.mean() for r in ran])
    # An order in which it never held for good counts as later than all.
    holds = [float("inf") if r.first_compliant is None else float(r.first_compliant) for r in ran]
    held_from = float(np.median(holds))
    keeping = matrix.correct.mean(axis=0) >= alpha
    m = len(matrix.models)
    calls = np.mean([np.bincount(r.choice, minlength=m) / len(r.choice) for r in ran], axis=0)
    return {
        "alpha": alpha,
        "v": v,
        "satisfied": float(satisfied.mean()),
        "satisfied_sd": _deviation(satisfied),
        "orders_kept": float(np.mean(satisfied >= alpha)),
        "held_share": float(np.mean([r.held_share for r in ran])),
        "windows_kept": float(np.mean([r.kept_windows(window) for r in ran])),
        "held_from_request": held_from if np.isfinite(held_from) else None,
        "mean_cost": float(cost.mean()),
        "cost_sd": _deviation(cost),
        "cheapest_keeping": float(matrix.cost.mean(axis=0)[keeping].min()),
        "explored": float(np.mean([r.explored.mean() for r in ran])),
        **{f"answers: {model}": float(share) for model, share in zip(matrix.models, calls, strict=True)},
        "requests": len(matrix),
        "window": window,
        "orders": len(ran),
    }


def _deviation(values: FloatArray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None


def _curve(ran: Trajectory, alpha: float, v: float) -> list[dict[str, Any]]:
    requests = len(ran.choice)
    at = np.unique(np.linspace(0, requests - 1, min(CURVE_POINTS, requests)).round().astype(np.int64))
    cost = np.cumsum(ran.cost) / np.arange(1, requests + 1)
    return [
        {
            "line": f"alpha {alpha:g}, V {v:g}",
            "alpha": alpha,
            "request": int(i) + 1,
            "satisfied": float(ran.satisfaction[i]),
            "mean_cost": float(cost[i]),
        }
        for i in at
    ]
