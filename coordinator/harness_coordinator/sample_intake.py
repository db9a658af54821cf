"""Sample batches of one agent's stream: stored in groups, acknowledged in order once they are on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

from harness_proto.v1 import telemetry_pb2
from harness_store import segments

from harness_coordinator.sample_columns import LARGEST_SEQ, MalformedBatchError, columns_of, columns_of_range
from harness_coordinator.write_queue import WriteQueue

SAMPLE_RANGES = "sample_ranges"
"""The feature that a welcome names: `SampleBatch.ranges` is understood."""

MAX_WAITING = 256
"""Messages of one stream that wait for the store; beyond it gRPC's flow control slows the agent down."""

MAX_WAITING_BYTES = 2 * 1024 * 1024
"""The same for large messages, of which an agent that was cut off has thousands."""

MAX_GROUP = 64
"""Messages stored together: a second of eight sources eight times over, a few hundred kB."""

_log = logging.getLogger(__name__)


class _Waiting:
    """Messages between the wire and the store, bounded in number and in bytes."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[tuple[telemetry_pb2.SampleBatch, int] | None] = asyncio.Queue(
            MAX_WAITING
        )
        self._bytes = 0
        self._room = asyncio.Event()

    async def fill(self, messages: AsyncIterator[telemetry_pb2.SampleBatch]) -> None:
        """Take messages until they end."""
        try:
            async for message in messages:
                # Telling its size costs as much as writing it: where nobody waits it does not matter.
                size = 0 if self._messages.empty() else message.ByteSize()
                while self._bytes > MAX_WAITING_BYTES:
                    self._room.clear()
                    await self._room.wait()
                self._bytes += size
                await self._messages.put((message, size))
        finally:
            await self._messages.put(None)

    async def group(self) -> tuple[list[telemetry_pb2.SampleBatch], bool]:
        """Return what waits, at least one message or the end, and whether the stream is over."""
        found: list[telemetry_pb2.SampleBatch] = []
        while not found or (not self._messages.empty() and len(found) < MAX_GROUP):
            item = await self._messages.get()
            if item is None:
                return found, True
            found.append(item[0])
            self._bytes -= item[1]
            self._room.set()
        return found, False


async def take_samples(
    batches: AsyncIterator[telemetry_pb2.SampleBatch], writes: WriteQueue
) -> AsyncIterator[telemetry_pb2.SampleAck]:
    """Store batches in the order they come and yield an acknowledgement for each source of a stored group.

    An acknowledgement covers everything before it, so the first group that cannot be stored ends the stream:
    the agent then sends again from the last acknowledged batch. A malformed batch is acknowledged like a
    stored one, since asking for it again would not mend it. An agent that sends ranges gets all
    acknowledgements of a group in one message.

    Raises:
        Exception: what the store raised; nothing of the group is stored or acknowledged then.
    """
    waiting = _Waiting()
    filler = asyncio.create_task(waiting.fill(batches))
    try:
        over = False
        while not over:
            group, over = await waiting.group()
            blocks = [block for message in group for block in _blocks(message)]
            if blocks:
                # One message is what an agent has to tell now; several are what it could not tell before.
                await writes.run_together(segments.append_blocks, blocks, patient=len(group) == 1)
            acks = [
                telemetry_pb2.SampleAck(boot_id=boot_id, source_id=source_id, seq=seq)
                for (boot_id, source_id), seq in _last_batches(group).items()
                if 0 <= seq <= LARGEST_SEQ
            ]
            if any(message.ranges for message in group):
                yield telemetry_pb2.SampleAck(acks=acks)
            else:
                for ack in acks:
                    yield ack
        await filler
    finally:
        filler.cancel()


def _last_batches(group: Sequence[telemetry_pb2.SampleBatch]) -> dict[tuple[str, str], int]:
    """Return the number of the last batch of each boot and source in these messages."""
    last: dict[tuple[str, str], int] = {}
    for message in group:
        if not message.ranges:
            last[message.boot_id, message.source_id] = message.seq
        for each in message.ranges:
            last[each.boot_id, each.source_id] = each.seq_first + len(each.rows) - 1
    return last


def _blocks(message: telemetry_pb2.SampleBatch) -> list[segments.NewBlock]:
    """Return what of a message can be stored; for the rest the log says why not."""
    found: list[segments.NewBlock] = []
    for each in message.ranges or (message,):
        # PostgreSQL takes no text with a zero byte, and asking for the batch again would not mend it.
        if "\x00" in f"{message.agent_id}{each.source_id}{each.boot_id}{each.clock_id}":
            _log.warning("agent %s sent samples under a name that holds a zero byte", message.agent_id)
            continue
        try:
            if isinstance(each, telemetry_pb2.SampleRange):
                seq, rows, columns = each.seq_first, tuple(each.rows), columns_of_range(each)
            else:
                seq, rows, columns = each.seq, (), columns_of(each)
        except MalformedBatchError as error:
            _log.warning("agent %s sent samples that cannot be used: %s", message.agent_id, error)
            continue
        names = (message.agent_id, each.boot_id, each.source_id, each.clock_id)
        found.append(segments.NewBlock(*names, seq, columns, rows))
    return found
