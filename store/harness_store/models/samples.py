"""Raw samples as segments, and their 1 Hz roll-up."""

from __future__ import annotations

from sqlalchemy import Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from harness_store.models.base import Base, IntKey, TextKey

PACKED = "packed"
"""Codec of a block as it arrived: about a second of one source."""
ARROW_ZSTD = "arrow-zstd"
"""Codec of a compacted segment."""

_FRESH = text(f"codec = '{PACKED}'")


class SampleSegment(Base):
    """Polls of one source, batches `seq_first` to `seq_last` of one agent process."""

    __tablename__ = "sample_segments"

    agent_id: Mapped[TextKey]
    boot_id: Mapped[TextKey]
    source_id: Mapped[TextKey]
    seq_first: Mapped[IntKey]
    seq_last: Mapped[int]
    clock_id: Mapped[str]
    start_ns: Mapped[int]
    end_ns: Mapped[int]
    row_count: Mapped[int]
    stored_realtime_ns: Mapped[int]
    codec: Mapped[str]
    payload: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (
        Index("ix_sample_segments_time", "agent_id", "source_id", "clock_id", "start_ns", "end_ns"),
        # Blocks that wait for compaction: few, so that finding them never reads the compacted past.
        Index(
            "ix_sample_segments_fresh",
            "agent_id",
            "boot_id",
            "source_id",
            "seq_first",
            sqlite_where=_FRESH,
            postgresql_where=_FRESH,
        ),
    )


class Samples1Hz(Base):
    """One second of one source, for dashboards and SQL; `second` is floor(t_ns / 1e9)."""

    __tablename__ = "samples_1hz"

    agent_id: Mapped[TextKey]
    source_id: Mapped[TextKey]
    clock_id: Mapped[TextKey]
    second: Mapped[IntKey]
    realtime_s: Mapped[float | None]
    """Unix time of the second's begin, where the clock's offset was known when the samples came."""
    n: Mapped[int]
    power_n: Mapped[int]
    """How many of the n samples had a power reading."""
    power_w_avg: Mapped[float | None]
    power_w_min: Mapped[float | None]
    power_w_max: Mapped[float | None]
    energy_j_last: Mapped[float | None]
    memory_used_bytes_max: Mapped[float | None]
    temperature_c_max: Mapped[float | None]
