"""SQLite's log is copied into the database beside the writer: in a commit it would hold up everybody for it."""

from __future__ import annotations

import asyncio

from harness_store.database import Store

from harness_coordinator.repeating import repeat

CHECKPOINT_EVERY_S = 1.0
"""Ten megabytes of log from a thousand agents."""


async def keep_log_short(store: Store) -> None:
    """Copy what the log holds every second until cancelled; PostgreSQL does so by itself."""
    if store.dialect == "sqlite":
        await repeat("copying the log", lambda: asyncio.to_thread(store.checkpoint), CHECKPOINT_EVERY_S)
