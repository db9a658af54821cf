"""Upkeep of a database: what must hold of it is checked, old raw data go, everything can be taken out as files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, Table, delete, func, select, text

from harness_store.models import (
    SAMPLES_1HZ,
    Base,
    Certificate,
    Event,
    Generation,
    JoinToken,
    Run,
    RunEnergy,
    SampleSegment,
    Task,
)

EXPORT_ROWS = 5_000
"""Rows read at once; raw segments are some 10 kB each."""
RELATIVE_ERROR = 1e-9
SECRET_TABLES = frozenset({"join_tokens", "certificates", "alembic_version"})
NUMBERED_TABLES = frozenset({"sample_series", "sample_seconds"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    what: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was, or would be, deleted."""

    segments: int
    bytes: int
    events: int
    tokens: int
    certificates: int


def check(connection: Connection) -> list[Finding]:
    """Check a database: its file, results counted once, batches whole, joules conserved."""
    return [
        _file(connection),
        _counted_once(connection),
        _batches_whole(connection),
        _joules_conserved(connection),
    ]


def _file(connection: Connection) -> Finding:
    if connection.dialect.name != "sqlite":
        size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        return Finding("database", True, f"PostgreSQL, {size / 1e6:.1f} MB")
    said = [row[0] for row in connection.execute(text("PRAGMA integrity_check(5)"))]
    return Finding("database file", said == ["ok"], "; ".join(said))


def _counted_once(connection: Connection) -> Finding:
    counted = func.count(Generation.task_id)
    wrong = connection.execute(
        select(Task.task_id)
        .outerjoin(Generation, (Generation.task_id == Task.task_id) & Generation.counted)
        .where(Task.state == "done")
        .group_by(Task.task_id)
        .having(counted != 1)
        .limit(5)
    ).all()
    detail = "each task that is done has exactly one counted result"
    return Finding(
        "results", not wrong, detail if not wrong else f"not so: {', '.join(r.task_id for r in wrong)}"
    )


def _batches_whole(connection: Connection) -> Finding:
    """Ranges of batches must not overlap; what was never acknowledged may be missing, and is counted."""
    s = SampleSegment
    rows = connection.execute(
        select(s.agent_id, s.boot_id, s.source_id, s.seq_first, s.seq_last).order_by(
            s.agent_id, s.boot_id, s.source_id, s.seq_first
        )
    )
    before: tuple[str, ...] = ()
    last, missing, doubled, count = 0, 0, 0, 0
    for agent, boot, source, first, end in rows:
        key = (agent, boot, source)
        last = last if key == before else 0
        missing += max(0, first - last - 1)
        doubled += first <= last
        before, last, count = key, end, count + 1
    return Finding(
        "samples",
        doubled == 0,
        f"{count} segments, {missing} batches missing between them, {doubled} doubled",
    )


def _joules_conserved(connection: Connection) -> Finding:
    e = RunEnergy
    off = func.abs(e.device_joules - e.attributed_joules - e.unattributed_joules)
    wrong = connection.execute(
        select(e.run_id, e.source_id).where(off > RELATIVE_ERROR * func.abs(e.device_joules) + 1e-9).limit(5)
    ).all()
    count = connection.execute(select(func.count()).select_from(RunEnergy)).scalar_one()
    detail = f"attributed + unattributed = device in {count} rows"
    return Finding(
        "joules", not wrong, detail if not wrong else f"not so: {', '.join(r.run_id for r in wrong)}"
    )


def prune(connection: Connection, *, before_realtime_ns: int, dry_run: bool) -> Pruned:
    """Delete raw samples, events and spent credentials older than a time; results and joules stay for ever.

    Samples of an agent with a run that is on, or whose joules are not final, stay whatever their age.
    """
    busy = select(Run.agent_id).where(
        Run.state.in_(("leased", "started", "ready")) | Run.energy_state.in_(("pending", "provisional"))
    )
    old = (
        (
            SampleSegment,
            (SampleSegment.stored_realtime_ns < before_realtime_ns) & SampleSegment.agent_id.not_in(busy),
        ),
        (Event, Event.at_realtime_ns < before_realtime_ns),
        (JoinToken, JoinToken.expires_realtime_ns < before_realtime_ns),
        (Certificate, Certificate.expires_realtime_ns < before_realtime_ns),
    )
    size = connection.execute(
        select(func.coalesce(func.sum(func.length(SampleSegment.payload)), 0)).where(old[0][1])
    ).scalar_one()
    counts = [
        connection.execute(select(func.count()).select_from(model).where(condition)).scalar_one()
        for model, condition in old
    ]
    if not dry_run:
        for model, condition in old:
            connection.execute(delete(model).where(condition))
    return Pruned(counts[0], int(size), *counts[1:])


def export_tables(connection: Connection, folder: Path) -> Iterator[tuple[str, int]]:
    """Write every table as a Parquet file and yield its name and number of rows; credentials are left out.

    The seconds of samples are written with the names of their series, as SQL reads them.
    """
    tables = [t for t in Base.metadata.sorted_tables if t.name not in SECRET_TABLES | NUMBERED_TABLES]
    for table in [*tables, SAMPLES_1HZ]:
        yield table.name, _export(connection, table, folder / f"{table.name}.parquet")


def _export(connection: Connection, table: Table, path: Path) -> int:
    schema = pa.schema([(column.name, _arrow_type(column.type.python_type)) for column in table.columns])
    written = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        rows = connection.execution_options(yield_per=EXPORT_ROWS).execute(select(table))
        for part in rows.mappings().partitions(EXPORT_ROWS):
            writer.write_table(pa.Table.from_pylist([dict(row) for row in part], schema=schema))
            written += len(part)
    return written


def _arrow_type(kind: type) -> pa.DataType:
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), bytes: pa.large_binary()}.get(
        kind, pa.large_string()
    )
