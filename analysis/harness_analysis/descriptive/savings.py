"""What routing every query to the smallest model that solves it would save, by the size of the largest local model."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from harness_analysis.descriptive.intervals import ratio_moments, ratio_of
from harness_analysis.descriptive.solvability import solved_cells
from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes.table import Outcomes

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
    cells = solved_cells(outcomes, *resources)
    key = ["dataset_id", "query_id"]
    at_cloud = cells.filter(cells.model_id == large)
    at_cloud = at_cloud.select(*key, cloud_score="score", **{f"cloud_{c}": at_cloud[c] for c in resources})
    rows = []
    for size in sorted({s for s, model in sized if model != large}):
        local = cells.filter((cells.solved == 1.0) & (cells.params_b <= size) & (cells.model_id != large))
        first = local.group_by(key).agg(
            local_score=local.score.argmin(local.params_b),
            **{c: local[c].argmin(local.params_b) for c in resources},
        )
        both = at_cloud.left_join(first, key)
        routed = {c: both[c].fill_null(both[f"cloud_{c}"]) for c in resources}
        moments: dict[str, Any] = {}
        for c in resources:
            moments |= ratio_moments(routed[c], both[f"cloud_{c}"], c)
        row = both.agg(
            queries=both.count(),
            local=both.local_score.notnull().mean(),
            accuracy=both.local_score.fill_null(both.cloud_score).mean(),
            **moments,
        )
        row = row.to_pyarrow().to_pylist()[0]
        for c in resources:
            ratio, low, high = ratio_of(row, c)
            rows.append(
                {
                    "up_to_params_b": size,
                    "cloud": large,
                    "resource": RESOURCES[c],
                    "queries": row["queries"],
                    "local_share": row["local"],
                    "accuracy": row["accuracy"],
                    "saved": 1 - ratio,
                    "low": 1 - high,
                    "high": 1 - low,
                }
            )
    return pa.Table.from_pylist(rows)
