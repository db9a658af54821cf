"""Files of the spool: append-only segments of length-prefixed records, each with a checksum."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_HEADER = struct.Struct("<IIQIH")
"""Payload length, CRC-32 of what follows it, sequence number, samples inside, length of the source id."""
_CHECKED_FROM = 8
MOST_PAYLOAD_BYTES = 64 * 1024 * 1024
"""A longer length can only be damage."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message that waits for its acknowledgement."""

    seq: int
    payload: bytes
    source_id: str = ""
    """The source of a sample batch; empty for control messages."""
    samples: int = 0


@dataclass(slots=True, eq=False)
class Segment:
    """What is known of one file without reading it again."""

    path: Path
    boot_id: str
    size: int = 0
    """Bytes that are durable."""
    samples: int = 0
    last_seq: dict[str, int] = field(default_factory=dict[str, int])
    """Highest sequence number by source."""
    sealed: bool = False
    deleted: bool = False

    def note(self, record: Record, size: int) -> None:
        """Take a durable record into the index."""
        self.size += size
        self.samples += record.samples
        self.last_seq[record.source_id] = record.seq


def encode(record: Record) -> bytes:
    """Return a record's bytes in the file."""
    source = record.source_id.encode()
    rest = struct.pack("<QIH", record.seq, record.samples, len(source)) + source + record.payload
    return struct.pack("<II", len(record.payload), zlib.crc32(rest)) + rest


def read_records(path: Path, offset: int, end: int | None = None) -> Iterator[tuple[Record, int]]:
    """Yield whole records and the offset behind each, up to the first that is torn or damaged.

    Args:
        path: the segment.
        offset: where a record begins.
        end: read no further than this; None: to the end of the file.
    """
    with path.open("rb") as file:
        file.seek(offset)
        while end is None or offset < end:
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                return
            length, checksum, seq, samples, source_length = _HEADER.unpack(head)
            if length > MOST_PAYLOAD_BYTES:
                return
            rest = file.read(source_length + length)
            if len(rest) < source_length + length:
                return
            if zlib.crc32(rest, zlib.crc32(head[_CHECKED_FROM:])) != checksum:
                return
            offset += len(head) + len(rest)
            source = rest[:source_length].decode("utf-8", "replace")
            yield Record(seq, rest[source_length:], source, samples), offset


def index_segment(path: Path, boot_id: str) -> Segment:
    """Read a segment left by an earlier process; a torn last record (a crash while writing) is left out."""
    segment = Segment(path, boot_id, sealed=True)
    before = 0
    for record, after in read_records(path, 0):
        segment.note(record, after - before)
        before = after
    return segment
