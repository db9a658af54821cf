"""Power sources and devices, as their agents describe them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from harness_store.models import Device, Source
from harness_store.rows import as_row, upsert


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One source as its agent described it; numbers it does not know are None."""

    source_id: str
    vendor: str
    device_id: str
    device_name: str
    scope: str
    energy_source: str
    has_energy: bool
    has_power: bool
    contained_in: str = ""
    counter_resolution_j: float | None = None
    counter_wrap_j: float | None = None
    max_power_w: float | None = None
    power_period_s: float | None = None
    counter_period_s: float | None = None
    averaging_s: float | None = None
    memory_total_bytes: float | None = None
    facts_json: str = "{}"
    notes_json: str = "[]"
    gone_reason: str | None = None
    gone_ns: int | None = None


def upsert_sources(connection: Connection, agent_id: str, sources: Sequence[SourceRecord]) -> None:
    """Store what an agent says of its sources and their devices; a source that is named again is not gone."""
    now_ns = time.time_ns()
    upsert(
        connection,
        Source,
        [{"agent_id": agent_id, **as_row(s), "updated_realtime_ns": now_ns} for s in sources],
    )
    devices: dict[str, dict[str, object]] = {}
    for source in sources:
        row = devices.setdefault(
            source.device_id,
            {
                "agent_id": agent_id,
                "device_id": source.device_id,
                "vendor": source.vendor,
                "name": source.device_name,
                "memory_total_bytes": None,
            },
        )
        if row["memory_total_bytes"] is None:
            row["memory_total_bytes"] = source.memory_total_bytes
    upsert(connection, Device, list(devices.values()))


def mark_source_gone(
    connection: Connection, agent_id: str, source_id: str, reason: str, gone_ns: int
) -> None:
    """Note that a source stopped answering, when (the agent's monotonic ns) and why."""
    connection.execute(
        update(Source)
        .where(Source.agent_id == agent_id, Source.source_id == source_id)
        .values(gone_reason=reason or "no reason given", gone_ns=gone_ns)
    )


def sources_of(connection: Connection, agent_id: str) -> list[SourceRecord]:
    """Return every source an agent ever named, by id; those that stopped have a `gone_reason`."""
    columns = [getattr(Source, name) for name in SourceRecord.__dataclass_fields__]
    query = select(*columns).where(Source.agent_id == agent_id).order_by(Source.source_id)
    return [SourceRecord(**row._mapping) for row in connection.execute(query)]
