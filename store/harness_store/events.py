"""Events: things that happened and that a person may want to know."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from harness_store.models import Event


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event as stored."""

    event_id: int
    at_realtime_ns: int
    agent_id: str | None
    job_id: str | None
    run_id: str | None
    task_id: str | None
    kind: str
    detail: str


def add(
    connection: Connection,
    *,
    kind: str,
    detail: str = "",
    agent_id: str | None = None,
    job_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    at_realtime_ns: int | None = None,
) -> None:
    """Record an event, now unless `at_realtime_ns` says when."""
    connection.execute(
        insert(Event),
        {
            "kind": kind,
            "detail": detail,
            "agent_id": agent_id,
            "job_id": job_id,
            "run_id": run_id,
            "task_id": task_id,
            "at_realtime_ns": time.time_ns() if at_realtime_ns is None else at_realtime_ns,
        },
    )


def recent(connection: Connection, *, limit: int = 100, job_id: str | None = None) -> list[EventRow]:
    """Return the latest events, newest first, of one job where given."""
    query = select(*Event.__table__.columns).order_by(Event.event_id.desc()).limit(limit)
    if job_id is not None:
        query = query.where(Event.job_id == job_id)
    return [EventRow(**row._mapping) for row in connection.execute(query)]
