"""How a routing fails: models larger than needed, or too small, by domain, difficulty and length."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from harness_analysis.errors import RoutingError
from harness_analysis.metrics.routing_quality import smallest_correct
from harness_analysis.outcomes.matrix import IntArray, OutcomeMatrix

LENGTH_EDGES = (50, 100, 200, 500, 1_000)
"""Tokens that separate the paper's classes of length."""
CHARACTERS_PER_TOKEN = 4
"""Where the query's tokens are not known; said in the column's name."""


def failure_modes(matrix: OutcomeMatrix, choice: IntArray) -> pa.Table:
    """Return percentages of oversized, correct and undersized choices by group (TrafficBench table 18).

    A choice is right where it is the smallest model that solves the query (the largest for a query nobody solves),
    oversized where it is a larger one, undersized where it is a smaller one.

    Args:
        matrix: outcomes of the routed queries.
        choice: model of each query, shape (n,).

    Raises:
        RoutingError: choices of other queries.
    """
    if len(choice) != len(matrix):
        raise RoutingError(f"{len(choice)} choices for {len(matrix)} queries")
    needed = smallest_correct(matrix.correct)
    solvers = (matrix.correct >= 0.5).sum(axis=1)
    tokens = np.array([len(text) for text in matrix.texts]) / CHARACTERS_PER_TOKEN
    rows = _rows("all", np.full(len(matrix), "all"), choice, needed)
    rows += _rows("domain", np.asarray(matrix.domains, dtype=str), choice, needed)
    rows += _rows("models that solve it", solvers, choice, needed)
    classes = np.searchsorted(LENGTH_EDGES, tokens, side="right")
    rows += [
        {**row, "group": _length_class(int(str(row["group"])))}
        for row in _rows("about tokens", classes, choice, needed)
    ]
    return pa.Table.from_pylist(rows)


def _rows(by: str, groups: np.ndarray, choice: IntArray, needed: IntArray) -> list[dict[str, object]]:
    rows = []
    for group in np.unique(groups):
        at = groups == group
        chosen, right = choice[at], needed[at]
        rows.append(
            {
                "by": by,
                "group": str(group),
                "queries": int(at.sum()),
                "oversized_percent": float(100 * np.mean(chosen > right)),
                "correct_percent": float(100 * np.mean(chosen == right)),
                "undersized_percent": float(100 * np.mean(chosen < right)),
            }
        )
    return rows


def _length_class(at: int) -> str:
    if at == 0:
        return f"< {LENGTH_EDGES[0]}"
    if at == len(LENGTH_EDGES):
        return f">= {LENGTH_EDGES[-1]}"
    return f"{LENGTH_EDGES[at - 1]} - {LENGTH_EDGES[at]}"
