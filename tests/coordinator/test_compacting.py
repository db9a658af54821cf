"""Compaction in the coordinator: it keeps up with as many sources as a fleet has."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from harness_coordinator.compacting import Compactor
from harness_coordinator.write_queue import WriteQueue
from harness_store import segments
from harness_store.compaction import MAX_SEGMENTS
from harness_store.database import open_store
from harness_store.models import ARROW_ZSTD, SampleSegment
from sqlalchemy import func, select


def test_more_sources_than_a_transaction_takes_are_compacted_in_one_round(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    writes = WriteQueue(store)
    sources = 2 * MAX_SEGMENTS + 3
    try:
        with store.begin() as c:
            blocks = [
                segments.NewBlock(
                    "a1", "b1", f"g{i}", "c1", 1, {"t_ns": np.array([0, 700_000_000_000], np.int64)}
                )
                for i in range(sources)
            ]
            segments.append_blocks(c, blocks)
        asyncio.run(Compactor(store, writes).round())
        with store.read() as c:
            codecs = c.execute(select(SampleSegment.codec, func.count()).group_by(SampleSegment.codec)).all()
        assert [tuple(row) for row in codecs] == [(ARROW_ZSTD, sources)]
    finally:
        writes.close()
        store.close()
