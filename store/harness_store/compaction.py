"""Compaction: many small blocks of a source become one segment, at about a fifth of their size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from harness_store.models import ARROW_ZSTD, PACKED, SampleSegment
from harness_store.sample_columns import concatenate, unpack
from harness_store.segment_codec import encode_segment
from harness_store.source_lock import lock_sources

SEGMENT_ROWS = 12_000
"""Ten minutes at 20 Hz."""

SEGMENT_NS = 600_000_000_000

QUIET_NS = 600_000_000_000
"""Blocks that wait this long are compacted although they are few: their source is silent, or its process over."""

MAX_SEGMENTS = 16
"""Made in one transaction: about 0.2 s during which nobody else writes on SQLite."""

SourceKey = tuple[str, str, str]
"""Agent, boot and source."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What one call did; `more` says that calling again at once would do more."""

    segments: int
    blocks: int
    more: bool


def due_sources(
    connection: Connection, *, now_ns: int | None = None, everything: bool = False
) -> list[SourceKey]:
    """Return the sources, of one process each, whose blocks make ten minutes or wait since ten minutes.

    Reads the numbers of every block that is not compacted, so it belongs on a connection that holds up nobody.

    Args:
        connection: may only read.
        now_ns: realtime.
        everything: return also those that have less.
    """
    now = time.time_ns() if now_ns is None else now_ns
    s = SampleSegment
    sources = connection.execute(
        select(
            s.agent_id,
            s.boot_id,
            s.source_id,
            func.sum(s.row_count).label("rows"),
            func.min(s.start_ns).label("start_ns"),
            func.max(s.end_ns).label("end_ns"),
            func.max(s.stored_realtime_ns).label("stored_ns"),
        )
        .where(s.codec == PACKED)
        .group_by(s.agent_id, s.boot_id, s.source_id)
        .order_by(s.agent_id, s.boot_id, s.source_id)
    )
    return [
        (source.agent_id, source.boot_id, source.source_id)
        for source in sources
        if everything
        or source.stored_ns < now - QUIET_NS
        or source.rows >= SEGMENT_ROWS
        or source.end_ns - source.start_ns >= SEGMENT_NS
    ]


def compact(
    connection: Connection,
    *,
    now_ns: int | None = None,
    everything: bool = False,
    sources: Sequence[SourceKey] | None = None,
) -> Compacted:
    """Merge blocks that follow each other into segments of about ten minutes, in the caller's transaction.

    Readers see either the blocks or the segment. Numbers missing between two blocks keep them in different
    segments, so that a block that arrives late is still new.

    Args:
        connection: in a transaction.
        now_ns: realtime.
        everything: compact also what is not ten minutes yet.
        sources: of `due_sources`, which are looked for where none are given.
    """
    now = time.time_ns() if now_ns is None else now_ns
    if sources is None:
        sources = due_sources(connection, now_ns=now, everything=everything)
    segments = blocks = 0
    for key in sources:
        if segments >= MAX_SEGMENTS:
            return Compacted(segments, blocks, more=True)
        lock_sources(connection, [key])
        made = _compact_source(connection, key, MAX_SEGMENTS - segments, everything=everything, now_ns=now)
        segments += made[0]
        blocks += made[1]
    return Compacted(segments, blocks, more=segments >= MAX_SEGMENTS)


def _compact_source(
    connection: Connection, key: SourceKey, limit: int, *, everything: bool, now_ns: int
) -> tuple[int, int]:
    s = SampleSegment
    rows = connection.execute(
        select(s.seq_first, s.seq_last, s.clock_id, s.start_ns, s.end_ns, s.row_count, s.stored_realtime_ns)
        .where(s.agent_id == key[0], s.boot_id == key[1], s.source_id == key[2], s.codec == PACKED)
        .order_by(s.seq_first)
    ).all()
    quiet_ns = now_ns - QUIET_NS
    # A source that is silent as a whole has nothing younger in its last group.
    due = [g for g in _groups(rows) if everything or g.full or g.stored_ns < quiet_ns][:limit]
    for group in due:
        _merge(connection, key, group)
    return len(due), sum(len(group.blocks) for group in due)


@dataclass
class _Group:
    """Blocks that make a segment, and what is known of them together."""

    blocks: list[Row[*tuple[Any, ...]]] = field(default_factory=list[Row[*tuple[Any, ...]]])
    row_count: int = 0
    start_ns: int = 0
    end_ns: int = 0
    stored_ns: int = 0

    @property
    def full(self) -> bool:
        return self.row_count >= SEGMENT_ROWS or self.end_ns - self.start_ns >= SEGMENT_NS

    def takes(self, block: Row[*tuple[Any, ...]]) -> bool:
        last = self.blocks[-1]
        return not self.full and block.seq_first == last.seq_last + 1 and block.clock_id == last.clock_id

    def add(self, block: Row[*tuple[Any, ...]]) -> None:
        self.start_ns = min(self.start_ns, block.start_ns) if self.blocks else block.start_ns
        self.end_ns = max(self.end_ns, block.end_ns) if self.blocks else block.end_ns
        self.stored_ns = max(self.stored_ns, block.stored_realtime_ns)
        self.row_count += block.row_count
        self.blocks.append(block)


def _groups(rows: Sequence[Row[*tuple[Any, ...]]]) -> list[_Group]:
    groups: list[_Group] = []
    for row in rows:
        if not groups or not groups[-1].takes(row):
            groups.append(_Group())
        groups[-1].add(row)
    return groups


def _merge(connection: Connection, key: SourceKey, group: _Group) -> None:
    s = SampleSegment
    first, last = group.blocks[0].seq_first, group.blocks[-1].seq_last
    mine = (
        s.agent_id == key[0],
        s.boot_id == key[1],
        s.source_id == key[2],
        s.seq_first >= first,
        s.seq_first <= last,
        s.codec == PACKED,
    )
    payloads = connection.execute(select(s.payload).where(*mine).order_by(s.seq_first)).scalars()
    columns = concatenate([unpack(payload) for payload in payloads])
    connection.execute(delete(s).where(*mine))
    connection.execute(
        insert(s),
        {
            "agent_id": key[0],
            "boot_id": key[1],
            "source_id": key[2],
            "seq_first": first,
            "seq_last": last,
            "clock_id": group.blocks[0].clock_id,
            "start_ns": group.start_ns,
            "end_ns": group.end_ns,
            "row_count": group.row_count,
            "stored_realtime_ns": group.stored_ns,
            "codec": ARROW_ZSTD,
            "payload": encode_segment(columns),
        },
    )
