"""Raw samples as segments, and their 1 Hz roll-up."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
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


class SampleSeries(Base):
    """One source on one clock under a small number, which its seconds carry in place of three names."""

    __tablename__ = "sample_series"

    series: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    agent_id: Mapped[str]
    source_id: Mapped[str]
    clock_id: Mapped[str]

    __table_args__ = (UniqueConstraint("agent_id", "source_id", "clock_id"),)


class SampleSecond(Base):
    """One second of one series; `second` is floor(t_ns / 1e9). For reading there is the view `samples_1hz`."""

    __tablename__ = "sample_seconds"

    series: Mapped[IntKey]
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

    # The rows of a source lie together and carry their key once: half of the cost, a quarter of the bytes.
    __table_args__ = ({"sqlite_with_rowid": False},)


def _view() -> Table:
    # Of a metadata of its own: nobody creates or compares it as a table.
    names = [Column(name, Text, nullable=False) for name in ("agent_id", "source_id", "clock_id")]
    values = [c for c in SampleSecond.__table__.columns if c.name != "series"]
    return Table(
        "samples_1hz", MetaData(), *names, *(Column(c.name, c.type, nullable=c.nullable) for c in values)
    )


SAMPLES_1HZ = _view()
"""The view for dashboards and SQL: seconds with the names of their series."""
