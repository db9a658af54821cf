"""One writer at a time for the segments of a source."""

from __future__ import annotations

from sqlalchemy import Connection, text


def lock_source(connection: Connection, agent_id: str, boot_id: str, source_id: str) -> None:
    """Keep others from writing segments of a source until the transaction ends.

    SQLite has one writer anyway. On PostgreSQL two streams of one agent may reach two coordinators.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 1))"),
            {"key": f"{agent_id}/{boot_id}/{source_id}"},
        )
