"""Compaction beside the daily work: every source that has ten minutes of blocks, a few at a time."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from harness_store import segments
from harness_store.compaction import MAX_SEGMENTS, due_sources
from harness_store.database import Store
from harness_store.rows import chunks

from harness_coordinator.repeating import repeat
from harness_coordinator.write_queue import WriteQueue

COMPACT_EVERY_S = 30.0
"""Small blocks stay few without rewriting a segment often."""


class Compactor:
    """One slow loop."""

    def __init__(self, store: Store, writes: WriteQueue) -> None:
        self._store = store
        self._writes = writes

    async def run(self) -> None:
        """Compact until cancelled."""
        await repeat("compaction", self.round, COMPACT_EVERY_S)

    async def round(self) -> None:
        """Compact every source that is due: a thousand agents of eight fill thirteen segments a second."""
        for sources in chunks(await asyncio.to_thread(self._due), MAX_SEGMENTS):
            more = True
            while more:
                began_s = time.monotonic()
                more = (await self._writes.run(partial(segments.compact, sources=sources))).more
                # Agents' messages wait meanwhile: half of the time is theirs alone.
                await asyncio.sleep(time.monotonic() - began_s)

    def _due(self) -> list[tuple[str, str, str]]:
        with self._store.read() as connection:
            return due_sources(connection)
