"""One session with the coordinator: control both ways, samples up, until either side ends it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from harness_proto.v1 import fleet_pb2, telemetry_pb2

from harness_agent.clock_offset import ClockOffsetEstimator
from harness_agent.handler import Handler
from harness_agent.outbox import Outbox
from harness_agent.sample_ranges import SAMPLE_RANGES, join_batches
from harness_agent.spool import READ_BYTES, LaneName

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
WELCOME_TIMEOUT_S = 15.0
HEARTBEAT_JITTER = 0.1
"""Agents that were started together do not beat together for long."""
FIRST_BEATS = 4
"""Of a session come in time whatever the agent does: the clock's offset is found by them."""
IDLE_BEATS = 2
"""An agent that holds nothing beats at every second time, where a lease lasts for four beats: an agent that is silent
for one lease is taken for lost."""
SILENT_HEARTBEATS = 3
"""Each heartbeat is answered; after three without a word the connection is taken for half-open."""
LONGEST_UNANSWERED_S = 10.0
"""Samples are gathered for so long where the last message of them is not acknowledged yet."""
LEAST_SILENCE_S = 5.0
SAMPLES_STALLED_S = 60.0
"""Batches sent and not acknowledged for so long are sent again on a new stream."""
MESSAGE_BUNDLES = "message_bundles"
"""The feature that a coordinator's welcome names: a result costs it less in company than alone."""
_SESSION = "/harness.v1.Fleet/Session"
_PUSH_SAMPLES = "/harness.v1.Fleet/PushSamples"


class SessionEndedError(Exception):
    """The coordinator ended the session, or went silent."""

    def __init__(self, reason: str, *, refused_for_good: bool = False) -> None:
        super().__init__(reason)
        self.refused_for_good = refused_for_good


class Session:
    """Sends hello, heartbeats, requests and the spool; hands what comes to the handler."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        outbox: Outbox,
        handler: Handler,
        clock: ClockOffsetEstimator,
        requests: Callable[[], Mapping[str, int]],
    ) -> None:
        # Records leave the spool as the bytes they are: nothing is parsed and built again.
        self._control: Any = channel.stream_stream(
            _SESSION,
            request_serializer=_as_it_is,
            response_deserializer=fleet_pb2.CoordinatorMessage.FromString,
        )
        self._samples: Any = channel.stream_stream(
            _PUSH_SAMPLES,
            request_serializer=_as_it_is,
            response_deserializer=telemetry_pb2.SampleAck.FromString,
        )
        self._outbox = outbox
        self._handler = handler
        self._clock = clock
        self._requests = requests
        self._to_request: dict[str, int] = {}
        self._wake_control = asyncio.Event()
        self._wake_samples = asyncio.Event()
        self._heartbeat_due = False
        self._idle_beats = 1
        self._is_busy = True
        """Whether the last look found anything held; until the first one it is taken to be so."""
        self._awaits_sample_ack = False
        self._goodbye = ""
        self._said_goodbye = asyncio.Event()
        self._coordinator_id = ""
        self._head = fleet_pb2.AgentMessage()
        self._last_sample_ack_s = 0.0
        self._joins_samples = False
        self._bundles_messages = False
        self._hurries = False
        self.welcomed = False

    def wake(self) -> None:
        """Look into the spool."""
        self._wake_control.set()
        self._wake_samples.set()

    def request_work(self, run_id: str, tasks: int) -> None:
        """Send a request once everything before it in the spool is sent."""
        self._to_request[run_id] = tasks
        self._wake_control.set()

    def has_unacknowledged(self) -> bool:
        """Whether anything in the spool still waits."""
        return any(self._outbox.spool.pending(lane) for lane in LaneName)

    def hurry(self) -> None:
        """Hold no samples back any more."""
        self._hurries = True
        self.wake()

    async def say_goodbye(self, reason: str, timeout_s: float) -> None:
        """Take leave, after everything that is durable by now."""
        self._goodbye = reason
        self._wake_control.set()
        try:
            await asyncio.wait_for(self._said_goodbye.wait(), timeout_s)
        except TimeoutError:
            return

    async def run(self, hello: fleet_pb2.Hello, on_welcome: Callable[[fleet_pb2.Welcome], None]) -> None:
        """Hold the session until it ends.

        Args:
            hello: the first message.
            on_welcome: called once the coordinator has accepted it.

        Raises:
            SessionEndedError: refused, or silent.
            grpc.aio.AioRpcError: the link broke.
        """
        self._head.agent_id, self._head.boot_id = hello.agent_id, hello.boot_id
        call = self._control()
        try:
            await _write(call, self._message(hello=hello))
            welcome = await self._welcome(call)
            self._coordinator_id = welcome.coordinator_id
            self._joins_samples = SAMPLE_RANGES in welcome.features
            self._bundles_messages = MESSAGE_BUNDLES in welcome.features
            self.welcomed = True
            self._to_request.update(self._requests())
            on_welcome(welcome)
            heartbeat_s = welcome.heartbeat_s or 5.0
            self._idle_beats = IDLE_BEATS if welcome.lease_s >= 2 * IDLE_BEATS * heartbeat_s else 1
            await _first_to_end(
                self._receive(call, heartbeat_s),
                self._send(call),
                self._tick(heartbeat_s),
                self._push_samples(),
            )
        finally:
            call.cancel()

    async def _welcome(self, call: Any) -> fleet_pb2.Welcome:
        try:
            first = await asyncio.wait_for(call.read(), WELCOME_TIMEOUT_S)
        except TimeoutError:
            raise SessionEndedError(f"no answer to the hello within {WELCOME_TIMEOUT_S:g} s") from None
        if not isinstance(first, fleet_pb2.CoordinatorMessage):  # the end of the stream
            await _raise_status(call)
            raise SessionEndedError("it closed the session without a word")
        if first.WhichOneof("body") == "refusal":
            raise SessionEndedError(first.refusal.reason, refused_for_good=not first.refusal.retry)
        if first.WhichOneof("body") != "welcome":
            raise SessionEndedError("its first message was no welcome")
        return first.welcome

    async def _receive(self, call: Any, heartbeat_s: float) -> None:
        while True:
            beat_s = heartbeat_s * (1 if self._is_busy else self._idle_beats)
            silence_s = max(SILENT_HEARTBEATS * beat_s, LEAST_SILENCE_S)
            try:
                message = await asyncio.wait_for(call.read(), silence_s)
            except TimeoutError:
                raise SessionEndedError(f"nothing came for {silence_s:g} s") from None
            if not isinstance(message, fleet_pb2.CoordinatorMessage):  # the end of the stream
                await _raise_status(call)
                return
            self._take(message, time.monotonic_ns())

    def _take(self, message: fleet_pb2.CoordinatorMessage, t_ns: int) -> None:
        kind = message.WhichOneof("body")
        if kind == "ack":
            self._outbox.acknowledge(message.ack.boot_id, message.ack.seq)
        elif kind == "heartbeat_reply":
            reply = message.heartbeat_reply
            self._clock.add(
                self._coordinator_id,
                reply.agent_sent_monotonic_ns,
                reply.received_realtime_ns,
                reply.sent_realtime_ns,
                t_ns,
            )
            if reply.lost:
                lost = [(held.task_id, held.attempt) for held in reply.lost]
                self._handler.cancel(lost, "its lease was lost")
        elif kind == "lease":
            self._handler.lease(message.lease)
        elif kind == "no_work":
            self._handler.no_work(message.no_work.run_id)
        elif kind == "cancel":
            tasks = [(held.task_id, held.attempt) for held in message.cancel.tasks]
            self._handler.cancel(tasks, message.cancel.reason or "cancelled")
        elif kind == "drain":
            self._handler.drain(message.drain.reason)
        elif kind == "refusal":
            refusal = message.refusal
            raise SessionEndedError(refusal.reason, refused_for_good=not refusal.retry)
        # Other kinds are of a newer coordinator and may be skipped.

    async def _tick(self, heartbeat_s: float) -> None:
        for number in itertools.count():
            told = self._handler.heartbeat()
            is_busy = bool(told.held or told.watermarks)
            # The first after the work tells that it is over.
            if is_busy or self._is_busy or number < FIRST_BEATS or number % self._idle_beats == 0:
                self._heartbeat_due = True
                self._wake_control.set()
            self._is_busy = is_busy
            jitter = random.uniform(1 - HEARTBEAT_JITTER, 1 + HEARTBEAT_JITTER)  # noqa: S311 - no secret
            await asyncio.sleep(heartbeat_s * jitter)

    async def _send(self, call: Any) -> None:
        reader = self._outbox.spool.reader(LaneName.CONTROL)
        while True:
            self._wake_control.clear()
            if self._heartbeat_due:
                self._heartbeat_due = False
                await _write(call, self._heartbeat())
            # In this order: what was said before a wish is durable by then, and so it is among what is read.
            wishes = dict(self._to_request)
            is_settled = self._outbox.spool.is_settled(LaneName.CONTROL)
            records = await asyncio.to_thread(reader.read)
            if self._bundles_messages and len(records) > 1:
                await _write(call, bundle([record.payload for record in records]))
            else:
                for record in records:
                    await _write(call, record.payload)
            if records:
                continue
            # Only now: the end of one run, and what an earlier process had to tell, come before the wish for another.
            for run_id, tasks in wishes.items():
                if (not run_id and not is_settled) or self._to_request.get(run_id) != tasks:
                    continue
                del self._to_request[run_id]
                request = fleet_pb2.WorkRequest(run_id=run_id, tasks=tasks)
                await _write(call, self._message(work_request=request))
            if self._goodbye:
                await _write(call, self._message(goodbye=fleet_pb2.Goodbye(reason=self._goodbye)))
                await call.done_writing()
                self._said_goodbye.set()
                await asyncio.get_running_loop().create_future()
            await self._wake_control.wait()

    async def _push_samples(self) -> None:
        """Send samples, on a new stream whenever the old one stalls."""
        while True:
            call = self._samples()
            self._last_sample_ack_s = time.monotonic()
            try:
                await _first_to_end(self._send_samples(call), self._receive_sample_acks(call))
            finally:
                call.cancel()

    async def _send_samples(self, call: Any) -> None:
        reader = self._outbox.spool.reader(LaneName.SAMPLES)
        while True:
            self._wake_samples.clear()
            records = await asyncio.to_thread(reader.read)
            if self._joins_samples and records:
                self._awaits_sample_ack = True
                await _write(
                    call,
                    await asyncio.to_thread(
                        join_batches, self._head.agent_id, [record.payload for record in records]
                    ),
                )
                if sum(len(record.payload) for record in records) < READ_BYTES:
                    await self._gather_samples()
            else:
                for record in records:
                    await _write(call, record.payload)
            if not records:
                await self._wake_samples.wait()
            if not self._outbox.spool.pending(LaneName.SAMPLES):
                self._last_sample_ack_s = time.monotonic()
            elif time.monotonic() - self._last_sample_ack_s > SAMPLES_STALLED_S:
                return

    async def _gather_samples(self) -> None:
        """Let samples come together while nobody waits for them, or while the coordinator is busy with the last ones.

        So a coordinator that has too much to do gets fewer and larger messages, which cost it less.
        """
        sent_s = time.monotonic()
        while not self._hurries:
            gather_s = LONGEST_UNANSWERED_S if self._awaits_sample_ack else 0.0
            left_s = sent_s + max(gather_s, self._outbox.samples_every_s) - time.monotonic()
            if left_s <= 0:
                return
            self._wake_samples.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake_samples.wait(), left_s)

    async def _receive_sample_acks(self, call: Any) -> None:
        while True:
            ack = await call.read()
            if not isinstance(ack, telemetry_pb2.SampleAck):  # the end of the stream
                await _raise_status(call)
                raise SessionEndedError("it closed the stream of samples")
            self._last_sample_ack_s = time.monotonic()
            for each in ack.acks or (ack,):
                self._outbox.acknowledge_samples(each.boot_id, each.source_id, each.seq)
            self._awaits_sample_ack = False
            self._wake_samples.set()

    def _heartbeat(self) -> bytes:
        beat = self._handler.heartbeat()
        spool = self._outbox.spool
        beat.spool_bytes, beat.dropped_samples = spool.size_bytes, spool.dropped_samples
        estimate = self._clock.estimate(time.monotonic_ns())
        if estimate is not None:
            beat.clock_offset_ns, beat.clock_offset_error_ns = estimate.offset_ns, estimate.error_ns
        if (drift := self._clock.drift()) is not None:
            beat.clock_drift_ppm, beat.clock_drift_error_ppm = drift.ppm, drift.error_ppm
        beat.sent_realtime_ns, beat.sent_monotonic_ns = time.time_ns(), time.monotonic_ns()
        return self._message(heartbeat=beat)

    def _message(self, **body: Any) -> bytes:
        message = fleet_pb2.AgentMessage(agent_id=self._head.agent_id, boot_id=self._head.boot_id, **body)
        return message.SerializeToString()


async def _first_to_end(*parts: Any) -> None:
    """Run coroutines together until one ends or fails; end the others and pass the failure on."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _write(call: Any, payload: bytes) -> None:
    try:
        await call.write(payload)
    except asyncio.InvalidStateError:
        # The stream ended between two writes; its status says why.
        await _raise_status(call)
        raise SessionEndedError("it closed the stream") from None


async def _raise_status(call: Any) -> None:
    """Raise the stream's error where it ended with one."""
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            code, await call.initial_metadata(), await call.trailing_metadata(), details=await call.details()
        )


def bundle(payloads: Sequence[bytes]) -> bytes:
    """Return messages as the spool holds them in one message; what they hold of a newer version stays."""
    messages = [fleet_pb2.AgentMessage.FromString(payload) for payload in payloads]
    return fleet_pb2.AgentMessage(bundle=fleet_pb2.MessageBundle(messages=messages)).SerializeToString()


def _as_it_is(payload: bytes) -> bytes:
    return payload
