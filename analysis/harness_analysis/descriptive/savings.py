"""What routing every query to the smallest model that solves it would save, by the size of the largest local model."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from harness_analysis.descriptive.intervals import ratio_moments, ratio_of
from harness_analysis.descriptive.solvability import solved_cells
from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes.table import IbisTable, Outcomes

_ABSENT = -1.0  # no score, cost or energy is negative
RESOURCES = {"cost": "dollars", "flops": "flops", "joules": "joules"}


def savings_by_size(outcomes: Outcomes, cloud: str | None = None) -> pa.Table:
    """Return savings against sending everything to one large model (TrafficBench tables 9 and 10).

    For each size every query goes to the smallest model up to that size that solves it, and to the cloud model where
    none does, so that no query is answered worse than by the cloud model. This is what a perfect router saves.

    Args:
        outcomes: with verdicts, sizes and at least one of dollars, flops, joules.
        cloud: the large model; the one with the most parameters when None.

    Raises:
        OutcomesError: no sizes, an unknown cloud model, a model on several machines, nothing that could be saved.
    """
    t = outcomes.table
    placed = (
        t.group_by("model_id")
        .agg(params_b=t.params_b.max(), places=t.hardware.nunique())
        .to_pyarrow()
        .to_pylist()
    )
    sized = sorted((r["params_b"], r["model_id"]) for r in placed if r["params_b"] is not None)
    if not sized:
        raise OutcomesError(f"{outcomes.name}: no model has a size (params_b), which savings go by")
    twice = [r["model_id"] for r in placed if r["places"] > 1]
    if twice:
        raise OutcomesError(
            f"{outcomes.name}: {', '.join(twice)} ran on several machines; choose one with --hardware"
        )
    large = cloud or sized[-1][1]
    if large not in {r["model_id"] for r in placed}:
        raise OutcomesError(f"{outcomes.name}: there is no model {large}")
    there = {c: int(t[c].count().execute()) for c in RESOURCES}
    resources = [c for c, known in there.items() if known]
    if not resources:
        raise OutcomesError(
            f"{outcomes.name}: no answer has dollars, flops or joules, so nothing could be saved"
        )
    sizes = sorted({size for size, model in sized if model != large})
    if not sizes:
        raise OutcomesError(
            f"{outcomes.name}: there is no model of known size but {large}, so none to save with"
        )
    # The smallest model that solves a query is the same for every size that holds it: one pass finds it.
    routed = _cheapest_answers(outcomes, large, [model for _, model in sized], resources)
    sums: dict[str, Any] = {"queries": routed.count()}
    for at, size in enumerate(sizes):
        local = (routed.needed_b <= size).fill_null(False)
        sums[f"local_{at}"] = local.ifelse(1, 0).cast("float64").mean()
        sums[f"accuracy_{at}"] = local.ifelse(routed.local_score, routed.cloud_score).mean()
        for c in resources:
            paid = local.ifelse(routed[f"local_{c}"], routed[f"cloud_{c}"])
            sums |= ratio_moments(paid, routed[f"cloud_{c}"], f"{c}_{at}")
    row = routed.agg(**sums).to_pyarrow().to_pylist()[0]
    if not row["queries"]:
        raise OutcomesError(
            f"{outcomes.name}: no answer of {large} has a verdict, so nothing can be saved on it"
        )
    rows = []
    for at, size in enumerate(sizes):
        for c in resources:
            ratio, low, high = ratio_of(row, f"{c}_{at}")
            rows.append(
                {
                    "up_to_params_b": size,
                    "cloud": large,
                    "resource": RESOURCES[c],
                    "queries": row["queries"],
                    "local_share": row[f"local_{at}"],
                    "accuracy": row[f"accuracy_{at}"],
                    "saved": 1 - ratio,
                    "low": 1 - high,
                    "high": 1 - low,
                }
            )
    return pa.Table.from_pylist(rows)


def _cheapest_answers(outcomes: Outcomes, large: str, by_size: list[str], resources: list[str]) -> IbisTable:
    """Return one row per query that the large model answered: its values and those of the smallest local solver."""
    import ibis

    cells = solved_cells(outcomes, *resources)
    # Models of one size go by their names, so that every engine chooses the same.
    order = [(model, ibis.literal(at, "int64")) for at, model in enumerate(by_size)]
    cells = cells.mutate(order=cells.model_id.cases(*order, else_=ibis.null("int64")))
    values = {"score": "score", **{c: c for c in resources}}
    here = (cells.solved == 1.0) & (cells.model_id != large) & cells.order.notnull()
    there = cells.model_id == large
    queries = cells.group_by(["dataset_id", "query_id"]).agg(
        asked=there.sum(),
        needed_b=cells.params_b.min(where=here),
        **{f"local_{name}": _of_first(cells[c], cells.order, here) for name, c in values.items()},
        **{f"cloud_{name}": cells[c].max(where=there) for name, c in values.items()},
    )
    return queries.filter(queries.asked > 0)


def _of_first(value: Any, order: Any, where: Any) -> Any:
    """Return the value of the first row that counts, null where it has none: engines' argmin would skip such a row."""
    return value.fill_null(_ABSENT).argmin(order, where=where).nullif(_ABSENT)
