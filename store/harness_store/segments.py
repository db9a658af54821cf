"""Sample segments: raw polls of a source, appended as small blocks and read as columns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from harness_store.compaction import Compacted, compact
from harness_store.models import PACKED, SampleSegment
from harness_store.rollup import roll_up
from harness_store.sample_columns import NAMES, Columns, concatenate, normalise, ordered, pack, unpack
from harness_store.segment_codec import decode_segment
from harness_store.source_lock import lock_source

__all__ = ["NAMES", "Compacted", "NewBlock", "compact"]

READ_SEGMENTS = 64
"""Segments fetched at once: about 10 MB."""

_FAR_PAST, _FAR_FUTURE = -(2**62), 2**62


@dataclass(frozen=True, slots=True)
class NewBlock:
    """One batch as it came: some polls of one source, in the columns of `sample_columns.DTYPES`."""

    agent_id: str
    boot_id: str
    source_id: str
    clock_id: str
    seq: int
    columns: Mapping[str, NDArray[np.generic]]


def append_blocks(connection: Connection, blocks: Iterable[NewBlock], *, now_ns: int | None = None) -> int:
    """Store blocks and their 1 Hz roll-up; one that is there already, alone or compacted, changes nothing.

    Args:
        connection: in a transaction; the blocks are durable when it is committed.
        blocks: in any order.
        now_ns: realtime.

    Returns:
        How many blocks were new.

    Raises:
        BadSegmentError: a block without times, with unknown columns or with columns of different lengths.
    """
    stored_ns = time.time_ns() if now_ns is None else now_ns
    by_source: dict[tuple[str, str, str], dict[int, NewBlock]] = {}
    for block in blocks:
        key = (block.agent_id, block.boot_id, block.source_id)
        by_source.setdefault(key, {}).setdefault(block.seq, block)
    rows: list[tuple[object, ...]] = []
    fresh: list[tuple[str, str, str, Columns]] = []
    for key in sorted(by_source):
        waiting = by_source[key]
        lock_source(connection, *key)
        for first, last in _stored_ranges(connection, key, min(waiting), max(waiting)):
            for seq in [s for s in waiting if first <= s <= last]:
                del waiting[seq]
        for seq in sorted(waiting):
            block = waiting[seq]
            columns = normalise(block.columns)
            t_ns = columns["t_ns"]
            span = (int(t_ns.min()), int(t_ns.max()), len(t_ns))
            fresh.append((block.agent_id, block.source_id, block.clock_id, columns))
            rows.append((*key, seq, seq, block.clock_id, *span, stored_ns, PACKED, pack(columns)))
    if rows:
        # Twelve values a block, hundreds of blocks a second: the driver takes tuples at a third of the cost.
        connection.exec_driver_sql(_INSERT[connection.dialect.paramstyle], rows)
        roll_up(connection, fresh)
    return len(rows)


_COLUMNS = (
    "agent_id", "boot_id", "source_id", "seq_first", "seq_last", "clock_id", "start_ns", "end_ns", "row_count",
    "stored_realtime_ns", "codec", "payload",
)  # fmt: skip
_INSERT = {
    style: f"INSERT INTO sample_segments ({', '.join(_COLUMNS)}) VALUES ({', '.join([mark] * len(_COLUMNS))})"  # noqa: S608
    for style, mark in (("qmark", "?"), ("pyformat", "%s"), ("format", "%s"))
}


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


def _stored_ranges(
    connection: Connection, key: tuple[str, str, str], first: int, last: int
) -> list[tuple[int, int]]:
    statement = _STORED_RANGES[connection.dialect.paramstyle]
    found = connection.exec_driver_sql(statement, (*key, last, *key, first, first))
    return [(row[0], row[1]) for row in found]


# Ranges never overlap, so of all that begin before `first` only the last one can reach it: asking for
# `seq_last >= first` instead would read the source's whole past at each block. As text for the driver, because it
# is asked for each source of each group, thousands of times a second.
_STORED_RANGES = {
    style: (
        f"SELECT seq_first, seq_last FROM sample_segments WHERE {mine} AND seq_first <= {mark} AND seq_first >="  # noqa: S608
        f" COALESCE((SELECT max(seq_first) FROM sample_segments WHERE {mine} AND seq_first <= {mark}), {mark})"
    )
    for style, mark in (("qmark", "?"), ("pyformat", "%s"), ("format", "%s"))
    for mine in (f"agent_id = {mark} AND boot_id = {mark} AND source_id = {mark}",)
}


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
