"""Solvability and joint coverage: what share of queries each model solves, and any model up to a size."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa

from harness_analysis.descriptive.intervals import wilson
from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes.table import IbisTable, Outcomes

By = Literal["dataset_id", "domain"]


def solved_cells(outcomes: Outcomes, *more: str) -> IbisTable:
    """Return one row per (dataset, query, model, hardware): whether it was solved, and means of `more`.

    A query counts as solved where the mean score over its repetitions is at least one half.
    """
    t = outcomes.table
    t = t.filter(t.correct.notnull())
    key = ["dataset_id", "query_id", "model_id", "hardware"]
    if not outcomes.repeats:
        # Grouping by four columns is most of the time that a table over millions of rows takes.
        once = t.select(*key, "params_b", "domain", *more, score=t.correct)
        return once.mutate(solved=(once.score >= 0.5).ifelse(1, 0).cast("float64"))
    grouped = t.group_by(key)
    cells = grouped.agg(
        score=t.correct.mean(),
        params_b=t.params_b.max(),
        domain=t.domain.max(),
        **{c: t[c].mean() for c in more},
    )
    return cells.mutate(solved=(cells.score >= 0.5).ifelse(1, 0).cast("float64"))


def solvability(outcomes: Outcomes, by: By | None = None) -> pa.Table:
    """Return the share of queries that each model solves, with its 95 % Wilson interval (TrafficBench table 2).

    Args:
        outcomes: with verdicts.
        by: split by dataset or domain as well.
    """
    cells = solved_cells(outcomes)
    keys = ["model_id", "hardware", *([by] if by else [])]
    grouped = cells.group_by(keys).agg(
        params_b=cells.params_b.max(), queries=cells.count(), solved=cells.solved.mean()
    )
    rows = []
    for row in grouped.order_by(["params_b", *keys]).to_pyarrow().to_pylist():
        low, high = wilson(row["solved"], row["queries"])
        rows.append(
            {**{k: row[k] for k in [*keys, "params_b", "queries", "solved"]}, "low": low, "high": high}
        )
    return pa.Table.from_pylist(rows)


def joint_coverage(outcomes: Outcomes, by: By | None = None) -> pa.Table:
    """Return for each model size the share of queries that some model up to it solves (tables 3 and 6, figure 2).

    Args:
        outcomes: with verdicts and model sizes.
        by: split by dataset or domain as well.

    Raises:
        OutcomesError: no model has a size, no answer a verdict.
    """
    cells = solved_cells(outcomes)
    sizes = sorted(s for s in outcomes.values("params_b") if s is not None)
    if not sizes:
        raise OutcomesError(f"{outcomes.name}: no model has a size (params_b), which joint coverage goes by")
    if not int(cells.limit(1).count().execute()):
        raise OutcomesError(
            f"{outcomes.name}: no answer has a verdict, so nothing can be said about coverage"
        )
    key = ["dataset_id", "query_id"]
    queries = cells.group_by(key).agg(
        domain=cells.domain.max(), needed_b=cells.params_b.min(where=cells.solved == 1.0)
    )
    shares = {
        f"up_to_{at}": (queries.needed_b <= size).fill_null(False).ifelse(1, 0).cast("float64").mean()
        for at, size in enumerate(sizes)
    }
    grouped: Any = queries.group_by([by]) if by else queries
    rows = []
    for row in grouped.agg(queries=queries.count(), **shares).to_pyarrow().to_pylist():
        for at, size in enumerate(sizes):
            covered = float(row[f"up_to_{at}"])
            low, high = wilson(covered, row["queries"])
            rows.append(
                {
                    **({by: row[by]} if by else {}),
                    "up_to_params_b": size,
                    "queries": row["queries"],
                    "covered": covered,
                    "low": low,
                    "high": high,
                }
            )
    rows.sort(key=lambda row: (str(row.get(by) or "") if by else "", row["up_to_params_b"]))
    return pa.Table.from_pylist(rows)
