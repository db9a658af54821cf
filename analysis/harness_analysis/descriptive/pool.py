"""Each model of a pool beside the others: accuracy, rank over domains, overlap of what they solve."""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np
import pyarrow as pa

from harness_analysis.descriptive.solvability import solved_cells
from harness_analysis.errors import OutcomesError
from harness_analysis.metrics.model_pool import average_rank, jaccard_similarity
from harness_analysis.outcomes.matrix import COST_UNITS, FloatArray
from harness_analysis.outcomes.table import IbisTable, Outcomes

_COLUMN_OF = {
    "params": "params_b",
    "tokens": "output_tokens",
    "latency": "total_s",
    "dollars": "cost",
    "price": "price_per_mtok",
    "joules": "joules",
    "flops": "flops",
}


def pool_table(outcomes: Outcomes, unit: str = "params") -> tuple[pa.Table, tuple[str, ...]]:
    """Return accuracy, average rank over domains and mean Jaccard overlap of each model, and what was left out.

    The engine makes one row per query with a column per model, so that what comes here is small beside the outcomes. A
    model that ran on several machines is one per machine. Only queries that every model has an outcome for count.

    Args:
        outcomes: with verdicts.
        unit: of `COST_UNITS`; models without it are left out, as routers leave them out.

    Raises:
        OutcomesError: an unknown unit, fewer than two models with it, or no query that all of them answered.

    Source: "Who routes the router", sections 4.2 and 4.3 and appendix H.
    """
    if unit not in COST_UNITS:
        raise OutcomesError(f"cost `{unit}` is not known; choose one of {', '.join(COST_UNITS)}")
    column = _COLUMN_OF[unit]
    cells = solved_cells(outcomes, *({column} - {"params_b"}))
    cells = cells.mutate(hardware=cells.hardware.fill_null("unknown"))
    known = cells.filter(cells[column].notnull())
    found = known.group_by(["model_id", "hardware"]).agg(params_b=known.params_b.max())
    models = found.order_by(["params_b", "model_id", "hardware"]).to_pyarrow().to_pylist()
    everyone = set(cells.select("model_id").distinct().to_pyarrow().column(0).to_pylist())
    missing = sorted(everyone - {row["model_id"] for row in models})
    notes = [f"models without {COST_UNITS[unit]}: {', '.join(missing)}"] if missing else []
    if len(models) < 2:
        raise OutcomesError(
            f"{outcomes.name}: a pool needs two models with a cost in {COST_UNITS[unit]} (--cost {unit})"
            + (f"; left out: {notes[0]}" if notes else "")
        )
    domains, scores, left_out = _answered_by_all(known, models)
    if not len(scores):
        raise OutcomesError(
            f"{outcomes.name}: no query was answered by all {len(models)} models; choose fewer with --models"
        )
    if left_out:
        notes.append(f"{left_out} queries that not every model has an outcome for")
    overlap = (jaccard_similarity(scores).sum(axis=1) - 1) / (len(models) - 1)
    columns = {
        "model_id": _labels(models),
        "params_b": [row["params_b"] for row in models],
        "accuracy": scores.mean(axis=0),
        "average_rank": average_rank(_accuracy(scores, domains)),
        "mean_overlap": overlap,
    }
    order = [("average_rank", "ascending"), ("accuracy", "descending"), ("model_id", "ascending")]
    return pa.table(columns).sort_by(order), tuple(notes)


def _answered_by_all(
    cells: IbisTable, models: list[dict[str, Any]]
) -> tuple[pa.DictionaryArray, FloatArray, int]:
    """Return domains and scores, shape (n, m), of queries that every model answered, and how many others there are."""
    names = [f"model_{at}" for at in range(len(models))]
    each = {
        name: cells.score.max(where=(cells.model_id == row["model_id"]) & (cells.hardware == row["hardware"]))
        for name, row in zip(names, models, strict=True)
    }
    queries = cells.group_by(["dataset_id", "query_id"]).agg(domain=cells.domain.max(), **each)
    whole = functools.reduce(operator.and_, (queries[name].notnull() for name in names))
    # Counted here and not by a second query: the pivot is nearly all of the work.
    rows = queries.select(*names, domain=queries.domain.fill_null(""), whole=whole).to_pyarrow()
    kept = rows.filter(rows["whole"])
    scores = np.empty((kept.num_rows, len(names)))
    for at, name in enumerate(names):
        scores[:, at] = kept[name].to_numpy()
    return kept["domain"].combine_chunks().dictionary_encode(), scores, rows.num_rows - kept.num_rows


def _accuracy(scores: FloatArray, domains: pa.DictionaryArray) -> FloatArray:
    """Return the mean score on each domain, shape (domains, m)."""
    at = domains.indices.to_numpy()
    counts = np.bincount(at)
    return np.column_stack([np.bincount(at, weights=column) / counts for column in scores.T])


def _labels(models: list[dict[str, Any]]) -> list[str]:
    """Return the models' names, with the machine where one ran on more than one."""
    ran = [row["model_id"] for row in models]
    return [
        row["model_id"] if ran.count(row["model_id"]) == 1 else f"{row['model_id']} @ {row['hardware']}"
        for row in models
    ]
