"""The same model at several numerical precisions: accuracy lost, energy saved."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from harness_analysis.descriptive.intervals import Z_95
from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes.table import IbisTable, Outcomes


def precision_comparison(outcomes: Outcomes, reference: str = "fp16") -> pa.Table:
    """Return each precision beside the reference, on the queries that both answered (TrafficBench appendix D.2).

    Args:
        outcomes: one `model_id` with rows of several `precision`.
        reference: the precision that the others are compared with.

    Raises:
        OutcomesError: no row of the reference precision, or of no other.
    """
    t = outcomes.table
    t = t.filter(t.correct.notnull() & t.precision.notnull())
    found = t.select(t.precision.lower().name("precision")).distinct().to_pyarrow().column(0).to_pylist()
    at = {name: i for i, name in enumerate([reference.lower(), *sorted(set(found) - {reference.lower()})])}
    # One column per precision: a join of the reference with the others would cost several times as much.
    scores: dict[str, Any] = {}
    for name, i in at.items():
        here = t.precision.lower() == name
        scores |= {f"correct_{i}": t.correct.mean(where=here), f"joules_{i}": t.joules.mean(where=here)}
    cells = t.group_by(["dataset_id", "query_id", "model_id"]).agg(**scores)
    sums: dict[str, Any] = {}
    for i in list(at.values())[1:]:
        sums |= {f"{name}_{i}": value for name, value in _compared(cells, i).items()}
    grouped = cells.group_by("model_id").agg(**sums) if sums else None
    rows = []
    for row in [] if grouped is None else grouped.order_by("model_id").to_pyarrow().to_pylist():
        for name, i in list(at.items())[1:]:
            queries = int(row[f"queries_{i}"] or 0)
            if not queries:
                continue
            half = Z_95 * (row[f"deviation_{i}"] or 0.0) / queries**0.5
            change = row[f"accuracy_{i}"] - row[f"reference_accuracy_{i}"]
            joules, reference_joules = row[f"used_{i}"], row[f"reference_used_{i}"]
            rows.append(
                {
                    "model_id": row["model_id"],
                    "precision": name,
                    "queries": queries,
                    "accuracy": row[f"accuracy_{i}"],
                    "reference_accuracy": row[f"reference_accuracy_{i}"],
                    "joules": joules,
                    "reference_joules": reference_joules,
                    "reference": reference.lower(),
                    "change_points": 100 * change,
                    "low": 100 * (change - half),
                    "high": 100 * (change + half),
                    "energy_reduction": reference_joules / joules if joules else None,
                }
            )
    if not rows:
        raise OutcomesError(
            f"{outcomes.name}: no query was answered by one model at {reference} and at another precision"
            " (column `precision`)"
        )
    return pa.Table.from_pylist(rows)


def _compared(cells: IbisTable, i: int) -> dict[str, Any]:
    """Return the sums that compare precision `i` with the reference, on the queries that both answered."""
    both = cells[f"correct_{i}"].notnull() & cells.correct_0.notnull()
    metered = both & cells[f"joules_{i}"].notnull() & cells.joules_0.notnull()
    return {
        "queries": both.sum(),
        "accuracy": cells[f"correct_{i}"].mean(where=both),
        "reference_accuracy": cells.correct_0.mean(where=both),
        "deviation": (cells[f"correct_{i}"] - cells.correct_0).std(where=both, how="pop"),
        "used": cells[f"joules_{i}"].mean(where=metered),
        "reference_used": cells.joules_0.mean(where=metered),
    }
