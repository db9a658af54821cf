"""Sample segments: raw polls of a source, appended as small blocks and read as columns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from harness_store.compaction import Compacted, compact
from harness_store.models import PACKED, SampleSegment
from harness_store.sample_appends import NewBlock, append_blocks
from harness_store.sample_columns import NAMES, concatenate, ordered, unpack
from harness_store.segment_codec import decode_segment

__all__ = ["NAMES", "Compacted", "NewBlock", "append_blocks", "compact"]

READ_SEGMENTS = 64
"""Segments fetched at once: about 10 MB."""

_FAR_PAST, _FAR_FUTURE = -(2**62), 2**62


def read_columns(
    connection: Connection,
    *,
    agent_id: str,
    source_id: str,
    clock_id: str,
    start_ns: int = _FAR_PAST,
    end_ns: int = _FAR_FUTURE,
) -> dict[str, NDArray[np.generic]]:
    """Return the samples of a source with start_ns <= t_ns <= end_ns, ordered by time, each time once.

    Returns:
        Columns by name; a column that no sample has is missing. No samples: `t_ns` alone, empty.
    """
    parts = list(_parts(connection, agent_id, source_id, clock_id, start_ns, end_ns))
    if not parts:
        return {"t_ns": np.zeros(0, np.int64)}
    columns = ordered(concatenate(parts))
    t_ns = columns["t_ns"]
    low, high = np.searchsorted(t_ns, [start_ns, end_ns + 1])
    return {name: values[low:high] for name, values in columns.items()}


def iter_columns(
    connection: Connection,
    *,
    agent_id: str,
    source_id: str,
    clock_id: str,
    start_ns: int = _FAR_PAST,
    end_ns: int = _FAR_FUTURE,
) -> Iterator[dict[str, NDArray[np.generic]]]:
    """Yield the samples of `read_columns` in pieces that follow each other in time, for what exceeds memory."""
    last_ns = start_ns - 1
    pending: list[dict[str, NDArray[np.generic]]] = []
    pending_end = _FAR_PAST
    for part in _parts(connection, agent_id, source_id, clock_id, start_ns, end_ns):
        # Segments of two processes of one agent may overlap in time; they are merged before they are given out.
        if pending and int(part["t_ns"].min()) > pending_end:
            piece = _between(ordered(concatenate(pending)), last_ns + 1, end_ns)
            if len(piece["t_ns"]):
                last_ns = int(piece["t_ns"][-1])  # type: ignore[call-overload]
                yield piece
            pending = []
        pending.append(part)
        pending_end = max(pending_end, int(part["t_ns"].max()))
    if pending:
        piece = _between(ordered(concatenate(pending)), last_ns + 1, end_ns)
        if len(piece["t_ns"]):
            yield piece


def covered_until_ns(
    connection: Connection, agent_id: str, source_id: str, clock_id: str, boot_id: str | None = None
) -> int | None:
    """Return the time of the latest sample of a source (of one process where given), None before the first."""
    s = SampleSegment
    query = select(func.max(s.end_ns)).where(
        s.agent_id == agent_id, s.source_id == source_id, s.clock_id == clock_id
    )
    if boot_id is not None:
        query = query.where(s.boot_id == boot_id)
    return connection.execute(query).scalar()


def _parts(
    connection: Connection, agent_id: str, source_id: str, clock_id: str, start_ns: int, end_ns: int
) -> Iterator[dict[str, NDArray[np.generic]]]:
    s = SampleSegment
    query = (
        select(s.codec, s.payload)
        .where(
            s.agent_id == agent_id,
            s.source_id == source_id,
            s.clock_id == clock_id,
            s.start_ns <= end_ns,
            s.end_ns >= start_ns,
        )
        .order_by(s.start_ns, s.boot_id, s.seq_first)
    )
    rows = connection.execute(query, execution_options={"yield_per": READ_SEGMENTS})
    for row in rows:
        yield unpack(row.payload) if row.codec == PACKED else decode_segment(row.codec, row.payload)


def _between(
    columns: dict[str, NDArray[np.generic]], start_ns: int, end_ns: int
) -> dict[str, NDArray[np.generic]]:
    low, high = np.searchsorted(columns["t_ns"], [start_ns, end_ns + 1])
    return {name: values[low:high] for name, values in columns.items()}
