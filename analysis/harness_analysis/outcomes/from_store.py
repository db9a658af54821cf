"""Outcomes of a store's jobs."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from sqlalchemy import text

from harness_analysis.outcomes.schema import CONVERSATION_NAMES, OUTCOMES_SCHEMA
from harness_analysis.reader import StoreReader

_ANSWERS = """
SELECT v.dataset_id, v.query_id, q.text AS query, q.domain, v.model_id,
  coalesce(mo.params_b, v.parameters / 1e9) AS params_b, v.precision, v.hardware,
  CASE WHEN v.joules IS NULL THEN NULL WHEN v.energy_source = 'estimated' THEN 'estimated' ELSE 'measured' END
    AS energy_kind,
  CAST(v.correct AS double precision) AS correct, v.joules, v.joules_low, v.joules_high, v.watts_avg AS watts,
  v.total_s, v.cost, mo.output_price_per_mtok AS price_per_mtok, v.flops,
  CAST(v.prompt_tokens AS double precision) AS prompt_tokens,
  CAST(v.output_tokens AS double precision) AS output_tokens, q.messages_json, q.extra_json
FROM result_rows v
JOIN queries q ON q.dataset_id = v.dataset_id AND q.query_id = v.query_id
JOIN job_models jm ON jm.job_id = v.job AND jm.model_id = v.model_id
JOIN models mo ON mo.model_id = jm.model_id AND mo.spec_hash = jm.spec_hash
WHERE v.state = 'done' {job}
ORDER BY v.job, v.ordinal
"""


def answers_in_store(reader: StoreReader, job: str | None = None) -> pa.Table:
    """Return one row per answer, of one job or of all; a failed task is no answer.

    Args:
        reader: an open store.
        job: its id, every job when None.
    """
    condition = "" if job is None else "AND v.job = :job"
    with reader.store.read() as connection:
        found = connection.execute(text(_ANSWERS.format(job=condition)), {"job": job} if job else {})
        rows = [with_conversation(dict(row)) for row in found.mappings()]
    return pa.Table.from_pylist(rows, schema=OUTCOMES_SCHEMA)


def with_conversation(row: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with what its query's other columns, its `extra_json`, say of a conversation."""
    read: Any = json.loads(row.pop("extra_json") or "{}")
    extra: dict[str, Any] = read if isinstance(read, dict) else {}
    named = [extra[key] for key in CONVERSATION_NAMES if extra.get(key)]
    # Messages say which turn a query is; a set's own column may count the turns of the whole conversation instead.
    turn: Any = extra.get("turn") if named and row["messages_json"] is None else None
    known = isinstance(turn, int) and not isinstance(turn, bool)
    return row | {"conversation": str(named[0]) if named else None, "turn": float(turn) if known else None}
