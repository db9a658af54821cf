"""Samples as they arrive: blocks of polls appended to their sources, each batch once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from harness_store.bulk_insert import BulkInsert
from harness_store.errors import BadSegmentError
from harness_store.models import PACKED, SampleSegment
from harness_store.rollup import roll_up
from harness_store.rows import table_of
from harness_store.sample_columns import Columns, normalise, pack
from harness_store.source_lock import lock_sources

_Key = tuple[str, str, str]
"""Agent, boot and source: whose batches are numbered together."""


@dataclass(frozen=True, slots=True)
class NewBlock:
    """Polls of one source as they came: one batch, or several that follow each other, joined end to end."""

    agent_id: str
    boot_id: str
    source_id: str
    clock_id: str
    seq: int
    """Number of the first batch."""
    columns: Mapping[str, NDArray[np.generic]]
    """In the columns of `sample_columns.DTYPES`."""
    rows: tuple[int, ...] = ()
    """Polls in each batch; empty: the block is one batch."""

    @property
    def seq_last(self) -> int:
        """Number of the last batch."""
        return self.seq + max(len(self.rows), 1) - 1


@dataclass(slots=True)
class _Part:
    """What of a block is new."""

    clock_id: str
    first: int
    last: int
    columns: Columns


def append_blocks(connection: Connection, blocks: Iterable[NewBlock], *, now_ns: int | None = None) -> int:
    """Store blocks and their 1 Hz roll-up; a batch that is there already, alone or joined, changes nothing.

    Args:
        connection: in a transaction; the blocks are durable when it is committed.
        blocks: in any order.
        now_ns: realtime.

    Returns:
        How many batches were new.

    Raises:
        BadSegmentError: a block without times, with unknown columns or with columns of different lengths.
    """
    stored_ns = time.time_ns() if now_ns is None else now_ns
    by_source: dict[_Key, list[NewBlock]] = {}
    for block in blocks:
        by_source.setdefault((block.agent_id, block.boot_id, block.source_id), []).append(block)
    keys = sorted(by_source)
    lock_sources(connection, keys)
    spans = [_span(by_source[key]) for key in keys]
    parts: list[tuple[_Key, _Part]] = []
    for key, taken in zip(keys, _stored_ranges(connection, keys, spans), strict=True):
        parts += [(key, part) for part in _new_parts(by_source[key], taken)]
    if not parts:
        return 0
    t_ns = [part.columns["t_ns"] for _, part in parts]
    lengths = [len(times) for times in t_ns]
    # Twenty samples are too few to pay for numpy's calls: all blocks go through it at once.
    together, starts = np.concatenate(t_ns), np.concatenate(([0], np.cumsum(lengths)[:-1]))
    earliest = np.minimum.reduceat(together, starts).tolist()
    latest = np.maximum.reduceat(together, starts).tolist()
    rows = [
        (*key, part.first, part.last, part.clock_id, start, end, n, stored_ns, PACKED, pack(part.columns))
        for (key, part), start, end, n in zip(parts, earliest, latest, lengths, strict=True)
    ]
    # Twelve values a block, hundreds of blocks a second: the driver takes tuples at a third of the cost.
    _INSERT.run(connection, rows)
    roll_up(connection, [((key[0], key[2], part.clock_id), part.columns) for key, part in parts])
    return sum(part.last - part.first + 1 for _, part in parts)


def _span(blocks: Sequence[NewBlock]) -> tuple[int, int]:
    """Return the first and the last batch of one source's blocks."""
    if len(blocks) == 1:
        return blocks[0].seq, blocks[0].seq_last
    return min(b.seq for b in blocks), max(b.seq_last for b in blocks)


def _new_parts(blocks: Sequence[NewBlock], taken: list[tuple[int, int]]) -> Iterator[_Part]:
    """Yield what of one source's blocks is in none of the ranges, nor in a block before."""
    for block in sorted(blocks, key=lambda block: block.seq) if len(blocks) > 1 else blocks:
        columns = normalise(block.columns)
        if block.rows and sum(block.rows) != len(columns["t_ns"]):
            raise BadSegmentError(
                f"batches of {sum(block.rows)} polls together hold {len(columns['t_ns'])} times"
            )
        seq_last = block.seq_last
        in_the_way = [(f, last) for f, last in taken if f <= seq_last and last >= block.seq]
        taken.append((block.seq, seq_last))
        if not in_the_way:
            yield _Part(block.clock_id, block.seq, seq_last, columns)
            continue
        edges = np.concatenate(([0], np.cumsum(block.rows or (len(columns["t_ns"]),)))).tolist()
        first: int | None = None
        for seq in range(block.seq, seq_last + 2):
            free = seq <= seq_last and not any(f <= seq <= last for f, last in in_the_way)
            if free and first is None:
                first = seq
            elif not free and first is not None:
                cut = slice(edges[first - block.seq], edges[seq - block.seq])
                yield _Part(
                    block.clock_id, first, seq - 1, {name: values[cut] for name, values in columns.items()}
                )
                first = None


_COLUMNS = (
    "agent_id", "boot_id", "source_id", "seq_first", "seq_last", "clock_id", "start_ns", "end_ns", "row_count",
    "stored_realtime_ns", "codec", "payload",
)  # fmt: skip
_INSERT = BulkInsert(table_of(SampleSegment), _COLUMNS)


def _stored_ranges(
    connection: Connection, keys: Sequence[_Key], spans: Sequence[tuple[int, int]]
) -> list[list[tuple[int, int]]]:
    """Return for each source the stored ranges of batches within its span, and the one that reaches into it."""
    found: list[list[tuple[int, int]]] = [[] for _ in keys]
    wanted = json.dumps([[i, *key, *span] for i, (key, span) in enumerate(zip(keys, spans, strict=True))])
    for at, first, last in connection.exec_driver_sql(_STORED_RANGES[connection.dialect.name], (wanted,)):
        found[at].append((first, last))
    return found


# Ranges never overlap, so of all that begin before the span only the last one can reach it: asking for
# `seq_last >= first` instead would read the source's whole past at each block. One statement asks for all sources:
# there are thousands a second. CROSS JOIN keeps SQLite from looking at the segments first.
_MINE = "s.agent_id = w.agent_id AND s.boot_id = w.boot_id AND s.source_id = w.source_id"
_RANGES_OF = f"""
SELECT w.at, s.seq_first, s.seq_last FROM wanted AS w CROSS JOIN sample_segments AS s
WHERE {_MINE} AND s.seq_first <= w.seq_last AND s.seq_first >= COALESCE(
  (SELECT max(seq_first) FROM sample_segments AS s WHERE {_MINE} AND s.seq_first <= w.seq_first), w.seq_first)
"""  # noqa: S608
_FIELDS = ", ".join(f"json_extract(value, '$[{i}]')" for i in range(6))
_STORED_RANGES = {
    "sqlite": "WITH wanted(at, agent_id, boot_id, source_id, seq_first, seq_last) AS MATERIALIZED"  # noqa: S608
    f" (SELECT {_FIELDS} FROM json_each(?))" + _RANGES_OF,
    "postgresql": "WITH wanted AS (SELECT (v ->> 0)::int AS at, v ->> 1 AS agent_id, v ->> 2 AS boot_id,"  # noqa: S608
    " v ->> 3 AS source_id, (v ->> 4)::bigint AS seq_first, (v ->> 5)::bigint AS seq_last"
    " FROM json_array_elements(%s::json) AS v)" + _RANGES_OF,
}
