"""Generations: one answered or failed query each, kept whether or not it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, select

from harness_store.chunk_times import decode_times, encode_times
from harness_store.models import Generation
from harness_store.rows import as_row, insert_absent


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """A generation as it came; what is not known is None. Times are the agent's monotonic ns."""

    task_id: str
    """`warmup/<run_id>/<n>` for a warm-up query."""
    attempt: int
    run_id: str
    agent_id: str
    boot_id: str
    query_id: str
    warmup: bool
    counted: bool
    start_ns: int
    end_ns: int
    received_realtime_ns: int
    first_token_ns: int | None = None
    chunk_ns: Sequence[int] = ()
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    response: str = ""
    reasoning: str = ""
    finish_reason: str = ""
    error: str | None = None
    retryable: bool = False
    engine_prefill_s: float | None = None
    engine_decode_s: float | None = None


@dataclass(frozen=True, slots=True)
class RunQuery:
    """What the energy of a run's queries is computed from."""

    task_id: str
    attempt: int
    warmup: bool
    counted: bool
    start_ns: int
    first_token_ns: int | None
    end_ns: int
    prompt_tokens: int | None
    output_tokens: int | None
    chunk_ns: NDArray[np.int64]


def record_generation(connection: Connection, generation: NewGeneration) -> bool:
    """Store a generation; one that is there already under its (task, attempt) stays as it is.

    Returns:
        Whether it was new.
    """
    row = as_row(generation)
    row["chunk_ns"] = encode_times(generation.chunk_ns)
    return insert_absent(connection, Generation, row)


def run_queries(connection: Connection, run_id: str) -> list[RunQuery]:
    """Return everything that ran in a run, warm-up and failed queries included, by start time."""
    query = _queries_of(run_id).order_by(Generation.start_ns, Generation.task_id, Generation.attempt)
    return [_run_query(row) for row in connection.execute(query)]


def queries_received_since(
    connection: Connection, run_id: str, after_realtime_ns: int
) -> list[tuple[int, RunQuery]]:
    """Return what of a run was received after a time, with when it was; the cost is that of what is returned."""
    g = Generation
    query = (
        _queries_of(run_id).where(g.received_realtime_ns > after_realtime_ns).order_by(g.received_realtime_ns)
    )
    return [(row.received_realtime_ns, _run_query(row)) for row in connection.execute(query)]


def _queries_of(run_id: str) -> Any:
    g = Generation
    return select(
        g.task_id,
        g.attempt,
        g.warmup,
        g.counted,
        g.start_ns,
        g.first_token_ns,
        g.end_ns,
        g.prompt_tokens,
        g.output_tokens,
        g.chunk_ns,
        g.received_realtime_ns,
    ).where(g.run_id == run_id)


def _run_query(row: Row[Any]) -> RunQuery:
    return RunQuery(
        task_id=row.task_id,
        attempt=row.attempt,
        warmup=row.warmup,
        counted=row.counted,
        start_ns=row.start_ns,
        first_token_ns=row.first_token_ns,
        end_ns=row.end_ns,
        prompt_tokens=row.prompt_tokens,
        output_tokens=row.output_tokens,
        chunk_ns=decode_times(row.chunk_ns),
    )
