"""The same model at several numerical precisions: accuracy lost, energy saved."""

from __future__ import annotations

import pyarrow as pa

from harness_analysis.descriptive.intervals import Z_95
from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes.table import Outcomes


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
    key = ["dataset_id", "query_id", "model_id"]
    cells = t.group_by([*key, "precision"]).agg(correct=t.correct.mean(), joules=t.joules.mean())
    base = cells.filter(cells.precision.lower() == reference.lower())
    base = base.select(*key, base_correct="correct", base_joules="joules")
    other = cells.filter(cells.precision.lower() != reference.lower())
    both = other.inner_join(base, key)
    both = both.mutate(change=both.correct - both.base_correct)
    known = both.joules.notnull() & both.base_joules.notnull()
    grouped = both.group_by(["model_id", "precision"]).agg(
        queries=both.count(),
        accuracy=both.correct.mean(),
        reference_accuracy=both.base_correct.mean(),
        change=both.change.mean(),
        deviation=both.change.std(how="pop"),
        joules=both.joules.mean(where=known),
        reference_joules=both.base_joules.mean(where=known),
    )
    rows = []
    for row in grouped.order_by(["model_id", "precision"]).to_pyarrow().to_pylist():
        half = Z_95 * (row.pop("deviation") or 0.0) / row["queries"] ** 0.5
        change = row.pop("change")
        joules = row["joules"]
        rows.append(
            {
                **row,
                "reference": reference,
                "change_points": 100 * change,
                "low": 100 * (change - half),
                "high": 100 * (change + half),
                "energy_reduction": row["reference_joules"] / joules if joules else None,
            }
        )
    if not rows:
        raise OutcomesError(
            f"{outcomes.name}: no query was answered by one model at {reference} and at another precision"
            " (column `precision`)"
        )
    return pa.Table.from_pylist(rows)
