"""One writer at a time for the segments of a source."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text


def lock_sources(connection: Connection, keys: Sequence[tuple[str, str, str]]) -> None:
    """Keep others from writing segments of these sources until the transaction ends.

    SQLite has one writer anyway. On PostgreSQL two streams of one agent may reach two coordinators.

    Args:
        connection: in a transaction.
        keys: agent, boot and source of each, sorted: two that lock the same sources must do so in one order.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(
            text(
                "SELECT pg_advisory_xact_lock(hashtextextended(key, 1)) FROM unnest(CAST(:keys AS text[])) AS key"
            ),
            {"keys": ["/".join(key) for key in keys]},
        )
