"""Sample batches of one agent's stream: stored in groups, acknowledged in order once they are on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from harness_proto.v1 import telemetry_pb2
from harness_store import segments

from harness_coordinator.sample_columns import MalformedBatchError, columns_of
from harness_coordinator.write_queue import WriteQueue

MAX_WAITING = 256
"""Batches of one stream that wait for the store; beyond it gRPC's flow control slows the agent down."""

MAX_GROUP = 64
"""Batches stored together: a second of eight sources eight times over, a few hundred kB."""

_log = logging.getLogger(__name__)


async def take_samples(
    batches: AsyncIterator[telemetry_pb2.SampleBatch], writes: WriteQueue
) -> AsyncIterator[telemetry_pb2.SampleAck]:
    """Store batches in the order they come and yield an acknowledgement for each source of a stored group.

    An acknowledgement covers everything before it, so the first group that cannot be stored ends the stream:
    the agent then sends again from the last acknowledged batch. A malformed batch is acknowledged like a
    stored one, since asking for it again would not mend it.

    Raises:
        Exception: what the store raised; nothing of the group is stored or acknowledged then.
    """
    waiting: asyncio.Queue[telemetry_pb2.SampleBatch | None] = asyncio.Queue(MAX_WAITING)

    async def fill() -> None:
        try:
            async for batch in batches:
                await waiting.put(batch)
        finally:
            await waiting.put(None)

    filler = asyncio.create_task(fill())
    try:
        over = False
        while not over:
            group = [await waiting.get()]
            while not waiting.empty() and len(group) < MAX_GROUP:
                group.append(waiting.get_nowait())
            over = group[-1] is None
            taken = [batch for batch in group if batch is not None]
            blocks = [block for batch in taken if (block := _block(batch)) is not None]
            if blocks:
                await writes.run_together(segments.append_blocks, blocks)
            last = {(b.boot_id, b.source_id): b.seq for b in taken}
            for (boot_id, source_id), seq in last.items():
                yield telemetry_pb2.SampleAck(boot_id=boot_id, source_id=source_id, seq=seq)
        await filler
    finally:
        filler.cancel()


def _block(batch: telemetry_pb2.SampleBatch) -> segments.NewBlock | None:
    try:
        columns = columns_of(batch)
    except MalformedBatchError as error:
        _log.warning("agent %s sent samples that cannot be used: %s", batch.agent_id, error)
        return None
    if "\x00" in batch.source_id + batch.boot_id + batch.clock_id:
        # PostgreSQL takes no such text, and asking for the batch again would not mend it.
        _log.warning("agent %s sent samples of a source whose name holds a zero byte", batch.agent_id)
        return None
    return segments.NewBlock(
        agent_id=batch.agent_id,
        boot_id=batch.boot_id,
        source_id=batch.source_id,
        clock_id=batch.clock_id,
        seq=batch.seq,
        columns=columns,
    )
