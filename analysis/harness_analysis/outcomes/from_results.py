"""Outcomes of a job's results and queries, for whoever has these tables and no database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from harness_analysis.outcomes.from_store import with_conversation
from harness_analysis.outcomes.schema import OUTCOMES_SCHEMA

_AS_THEY_ARE = (
    "dataset_id", "query_id", "model_id", "precision", "hardware", "joules", "joules_low", "joules_high", "total_s",
    "cost", "flops",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a job file says of a model and its results do not."""

    params_b: float | None
    price_per_mtok: float | None
    """Dollars for a million output tokens."""


def models_of_job(job_json: str) -> dict[str, ModelFacts]:
    """Return the models of a job file, by id."""
    models: list[dict[str, Any]] = json.loads(job_json).get("models") or []
    return {
        model["id"]: ModelFacts(model.get("params_b"), (model.get("price") or {}).get("output_per_mtok"))
        for model in models
    }


def answers_of_results(results: pa.Table, queries: pa.Table, models: Mapping[str, ModelFacts]) -> pa.Table:
    """Return one row per answer, the same as `answers_in_store` of the database they come from.

    Args:
        results: columns of `harness_store.results.RESULTS_SCHEMA`, of one job.
        queries: columns of `harness_store.dataset_tables.ROWS_SCHEMA`, of the job's dataset.
        models: the job's, by id.
    """
    asked = {row["query_id"]: row for row in queries.to_pylist()}
    rows = [
        _row(result, asked[result["query_id"]], models[result["model_id"]])
        for result in results.to_pylist()
        if result["state"] == "done"
    ]
    return pa.Table.from_pylist(rows, schema=OUTCOMES_SCHEMA)


def _row(result: Mapping[str, Any], query: Mapping[str, Any], model: ModelFacts) -> dict[str, Any]:
    kind = None
    if result["joules"] is not None:
        kind = "estimated" if result["energy_source"] == "estimated" else "measured"
    counted = result["parameters"]
    row = {name: result[name] for name in _AS_THEY_ARE}
    row |= {
        "query": query["text"],
        "domain": query["domain"],
        "params_b": counted / 1e9 if model.params_b is None and counted is not None else model.params_b,
        "price_per_mtok": model.price_per_mtok,
        "energy_kind": kind,
        "watts": result["watts_avg"],
        "messages_json": query["messages_json"],
        "extra_json": query["extra_json"],
    }
    for name in ("correct", "prompt_tokens", "output_tokens"):
        row[name] = None if result[name] is None else float(result[name])
    return with_conversation(row)
