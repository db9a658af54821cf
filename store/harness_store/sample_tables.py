"""Raw samples of a job or an agent as an Arrow table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from harness_store.errors import UnknownJobError
from harness_store.models import Agent, Job, Run, SampleSegment
from harness_store.sample_columns import DTYPES
from harness_store.segments import iter_columns

HOST_MEMORY_SOURCE = "host:memory"
"""The source under which agents send the memory in use on the host."""

_FAR_PAST, _FAR_FUTURE = -(2**62), 2**62
_NAMES = pa.dictionary(pa.int32(), pa.string())

SAMPLES_SCHEMA = pa.schema(
    [
        ("agent", _NAMES),
        ("source", _NAMES),
        ("clock_id", _NAMES),
        *((name, pa.from_numpy_dtype(dtype)) for name, dtype in DTYPES.items()),
    ]
)
"""Columns of raw samples; times are the agent's monotonic ns, what a source does not have is null."""


@dataclass(frozen=True, slots=True)
class Span:
    """Samples of one source on one clock, over a time."""

    agent_id: str
    agent: str
    source_id: str
    clock_id: str
    start_ns: int
    end_ns: int


def samples_table(connection: Connection, job_or_agent: str) -> pa.Table:
    """Return the raw samples of a job (of its sources over its runs) or everything an agent (id or name) sent.

    Ordered by agent, source, clock and time; columns are those of `SAMPLES_SCHEMA`.

    Raises:
        UnknownJobError: neither a job nor an agent has the id.
    """
    return pa.Table.from_batches(list(sample_batches(connection, job_or_agent)), schema=SAMPLES_SCHEMA)


def sample_batches(connection: Connection, job_or_agent: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `samples_table` in pieces, for what exceeds memory.

    Raises:
        UnknownJobError: neither a job nor an agent has the id.
    """
    for span in spans_of(connection, job_or_agent):
        for columns in iter_columns(
            connection,
            agent_id=span.agent_id,
            source_id=span.source_id,
            clock_id=span.clock_id,
            start_ns=span.start_ns,
            end_ns=span.end_ns,
        ):
            yield _batch(span, columns)


def spans_of(connection: Connection, job_or_agent: str) -> list[Span]:
    """Return which samples belong to a job or an agent; overlapping times of one source are joined.

    Raises:
        UnknownJobError: neither a job nor an agent has the id.
    """
    if connection.execute(select(Job.job_id).where(Job.job_id == job_or_agent)).first() is not None:
        return _joined(_job_spans(connection, job_or_agent))
    agents = connection.execute(
        select(Agent.agent_id, Agent.name).where(
            (Agent.agent_id == job_or_agent) | (Agent.name == job_or_agent)
        )
    ).all()
    if not agents:
        raise UnknownJobError(
            f"{job_or_agent!r} is neither a job (`harness jobs`) nor an agent (`harness agents`)"
        )
    return [span for agent in agents for span in _agent_spans(connection, agent.agent_id, agent.name)]


def _agent_spans(connection: Connection, agent_id: str, name: str) -> list[Span]:
    s = SampleSegment
    rows = connection.execute(
        select(s.source_id, s.clock_id)
        .where(s.agent_id == agent_id)
        .distinct()
        .order_by(s.source_id, s.clock_id)
    )
    return [Span(agent_id, name, row.source_id, row.clock_id, _FAR_PAST, _FAR_FUTURE) for row in rows]


def _job_spans(connection: Connection, job_id: str) -> list[Span]:
    rows = connection.execute(
        select(
            Run.agent_id,
            Agent.name,
            Run.clock_id,
            Run.source_ids_json,
            Run.host_source_ids_json,
            Run.start_ns,
            Run.end_ns,
        )
        .join(Agent, Agent.agent_id == Run.agent_id)
        .where(Run.job_id == job_id, Run.start_ns.is_not(None), Run.clock_id.is_not(None))
    )
    return [
        Span(row.agent_id, row.name, source_id, row.clock_id, row.start_ns, _until(row.end_ns))
        for row in rows
        for source_id in (
            *json.loads(row.source_ids_json or "[]"),
            *json.loads(row.host_source_ids_json or "[]"),
            HOST_MEMORY_SOURCE,
        )
    ]


def _until(end_ns: int | None) -> int:
    return _FAR_FUTURE if end_ns is None else end_ns


def _joined(spans: Sequence[Span]) -> list[Span]:
    joined: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.agent, s.agent_id, s.source_id, s.clock_id, s.start_ns)):
        last = joined[-1] if joined else None
        if (
            last is not None
            and (last.agent_id, last.source_id, last.clock_id)
            == (span.agent_id, span.source_id, span.clock_id)
            and span.start_ns <= last.end_ns
        ):
            joined[-1] = Span(
                last.agent_id,
                last.agent,
                last.source_id,
                last.clock_id,
                last.start_ns,
                max(last.end_ns, span.end_ns),
            )
        else:
            joined.append(span)
    return joined


def _batch(span: Span, columns: dict[str, NDArray[np.generic]]) -> pa.RecordBatch:
    rows = len(columns["t_ns"])
    arrays: list[pa.Array] = [
        pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([name]))
        for name in (span.agent, span.source_id, span.clock_id)
    ]
    for name, dtype in DTYPES.items():
        if name in columns:
            # NaN is how the wire says absent; a table says null.
            arrays.append(pa.array(columns[name], from_pandas=True))
        else:
            arrays.append(pa.nulls(rows, pa.from_numpy_dtype(dtype)))
    return pa.record_batch(arrays, schema=SAMPLES_SCHEMA)
