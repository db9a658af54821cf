"""Outcomes: who answered which query how well and at what cost, over all jobs."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import pyarrow as pa
from sqlalchemy import Connection, bindparam, text

OUTCOMES_SCHEMA = pa.schema(
    [
        ("dataset_id", pa.string()),
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("domain", pa.string()),
        ("reference", pa.string()),
        ("model_id", pa.string()),
        ("hardware", pa.string()),
        ("energy_kind", pa.string()),
        ("answers", pa.int64()),
        ("failures", pa.int64()),
        ("judged", pa.int64()),
        ("correct", pa.float64()),
        ("joules", pa.float64()),
        ("cost", pa.float64()),
        ("total_s", pa.float64()),
        ("time_to_first_token_s", pa.float64()),
        ("prompt_tokens", pa.float64()),
        ("output_tokens", pa.float64()),
    ]
)
"""One row per (dataset, query, model, hardware) and kind of energy (`measured`, `estimated`, null for none), over
all its answers: `correct` is the share of the judged ones that were right, the rest are means of what is known."""

_QUERY = """
SELECT v.dataset_id, v.query_id, min(q.text) AS query, min(q.domain) AS domain, min(q.reference) AS reference,
  v.model_id, v.hardware, v.energy_kind,
  sum(CASE WHEN v.state = 'done' THEN 1 ELSE 0 END) AS answers,
  sum(CASE WHEN v.state = 'failed' THEN 1 ELSE 0 END) AS failures,
  count(v.correct) AS judged,
  avg(CAST(v.correct AS double precision)) AS correct,
  avg(v.joules) AS joules, avg(v.cost) AS cost, avg(v.total_s) AS total_s,
  avg(v.time_to_first_token_s) AS time_to_first_token_s,
  avg(CAST(v.prompt_tokens AS double precision)) AS prompt_tokens,
  avg(CAST(v.output_tokens AS double precision)) AS output_tokens
FROM (
  SELECT r.*, CASE WHEN r.joules IS NULL THEN NULL WHEN r.energy_source = 'estimated' THEN 'estimated'
    ELSE 'measured' END AS energy_kind
  FROM result_rows r
  {where}
) v
JOIN queries q ON q.dataset_id = v.dataset_id AND q.query_id = v.query_id
GROUP BY v.dataset_id, v.query_id, v.model_id, v.hardware, v.energy_kind
ORDER BY v.dataset_id, min(q.ordinal), v.model_id, v.hardware, v.energy_kind
"""


def outcomes_table(
    connection: Connection, *, models: Sequence[str] | None = None, hardware: Sequence[str] | None = None
) -> pa.Table:
    """Return the outcomes of all jobs, or of some models and hardware.

    Args:
        connection: to read from.
        models: model ids, all when None.
        hardware: names or shell-style patterns of them, upper and lower case alike, all when None.
    """
    conditions: list[str] = []
    values: dict[str, object] = {}
    if models is not None:
        conditions.append("r.model_id IN :models")
        values["models"] = list(models)
    where = "WHERE " + " AND ".join(conditions) if conditions else ""
    query = text(_QUERY.format(where=where))
    if models is not None:
        query = query.bindparams(bindparam("models", expanding=True))
    rows = [dict(row) for row in connection.execute(query, values).mappings()]
    if hardware is not None:
        rows = [row for row in rows if _any_matches(row["hardware"], hardware)]
    return pa.Table.from_pylist(rows, schema=OUTCOMES_SCHEMA)


def _any_matches(name: str | None, patterns: Sequence[str]) -> bool:
    return name is not None and any(
        name == pattern or fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns
    )
