"""The smallest coordinator that speaks the wire: a real gRPC server that hands out what a test gives it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from harness_proto.v1 import fleet_pb2, fleet_pb2_grpc, telemetry_pb2, work_pb2

HEARTBEAT_S = 0.2


class MiniCoordinator(fleet_pb2_grpc.FleetServicer):
    """Stores what agents tell, acknowledges it, and leases the runs it was given."""

    def __init__(self) -> None:
        self.hellos: list[fleet_pb2.Hello] = []
        self.messages: list[fleet_pb2.AgentMessage] = []
        """Spooled messages in order of arrival, each once."""
        self.resent = 0
        self.heartbeats: list[fleet_pb2.Heartbeat] = []
        self.requests: list[fleet_pb2.WorkRequest] = []
        self.batches: dict[tuple[str, str, int], telemetry_pb2.SampleBatch] = {}
        self.goodbyes: list[str] = []
        self.offers: deque[fleet_pb2.LeaseOffer] = deque()
        self.more: dict[str, deque[list[work_pb2.Task]]] = defaultdict(deque)
        self.features: list[str] = []
        """Of the welcome; none: a coordinator of the first version, which takes one batch a message."""
        self.sample_messages: list[tuple[float, telemetry_pb2.SampleBatch]] = []
        """Messages of joined samples with the time of their arrival."""
        self.acknowledge_samples_after_s = 0.0
        self.lease_s = 10.0
        self.acknowledge = True
        self.answer_heartbeats = True
        self.refusal: fleet_pb2.Refusal | None = None
        self.port = 0
        self._stored: set[tuple[str, int]] = set()
        self._outboxes: list[asyncio.Queue[fleet_pb2.CoordinatorMessage | None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: grpc.aio.Server | None = None
        self._thread: threading.Thread | None = None
        self._stop = asyncio.Event()

    # What a test does -------------------------------------------------------------------------------

    def start(self) -> str:
        """Listen, on the same port as before after a stop; returns HOST:PORT."""
        ready = threading.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            fleet_pb2_grpc.add_FleetServicer_to_server(self, self._server)
            self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
            await self._server.start()
            self._stop = asyncio.Event()
            ready.set()
            await self._stop.wait()
            await self._server.stop(None)

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        assert ready.wait(10.0)
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Vanish at once, as after a kill."""
        if self._loop is None or self._server is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10.0)
        assert not self._thread.is_alive()
        self._outboxes.clear()

    def send(self, **body: Any) -> None:
        """Send a message to every connected agent."""
        assert self._loop is not None
        for outbox in self._outboxes:
            self._loop.call_soon_threadsafe(outbox.put_nowait, fleet_pb2.CoordinatorMessage(**body))

    def wait_for(self, condition: Callable[[], object], what: str, deadline_s: float = 20.0) -> None:
        """Wait until a condition holds, or fail with what was waited for."""
        end_s = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end_s, f"not within {deadline_s:g} s: {what}; {self.summary()}"
            time.sleep(0.01)

    def bodies(self, kind: str) -> list[Any]:
        """Return the bodies of one kind, in order."""
        return [
            getattr(message, kind) for message in tuple(self.messages) if message.WhichOneof("body") == kind
        ]

    def phases(self, run_id: str) -> list[str]:
        """Return the phases that a run went through."""
        updates = [update for update in self.bodies("run_update") if update.run_id == run_id]
        return [fleet_pb2.RunUpdate.Phase.Name(update.phase) for update in updates]

    def generations(self, *, warmup: bool = False) -> list[work_pb2.Generation]:
        """Return the generations of tasks, or of warm-up queries."""
        return [generation for generation in self.bodies("generation") if generation.warmup == warmup]

    def ended(self, run_id: str) -> bool:
        """Whether a run is over."""
        return bool({"ENDED", "FAILED"} & set(self.phases(run_id)))

    def summary(self) -> str:
        """Return what arrived, for a failing test."""
        kinds = [message.WhichOneof("body") for message in tuple(self.messages)]
        return f"messages {kinds[-20:]}, requests {len(self.requests)}, heartbeats {len(self.heartbeats)}"

    # What an agent sees -----------------------------------------------------------------------------

    async def Session(  # noqa: N802 - the name is the wire's
        self, request_iterator: AsyncIterator[fleet_pb2.AgentMessage], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[fleet_pb2.CoordinatorMessage]:
        first = await anext(aiter(request_iterator))
        assert first.WhichOneof("body") == "hello"
        self.hellos.append(first.hello)
        if self.refusal is not None:
            yield fleet_pb2.CoordinatorMessage(refusal=self.refusal)
            return
        welcome = fleet_pb2.Welcome(
            version="test",
            heartbeat_s=HEARTBEAT_S,
            lease_s=self.lease_s,
            coordinator_id="mini",
            features=self.features,
        )
        yield fleet_pb2.CoordinatorMessage(welcome=welcome)
        outbox: asyncio.Queue[fleet_pb2.CoordinatorMessage | None] = asyncio.Queue()
        self._outboxes.append(outbox)
        reading = asyncio.create_task(self._read(request_iterator, outbox))
        try:
            while (message := await outbox.get()) is not None:
                yield message
        finally:
            reading.cancel()
            if outbox in self._outboxes:
                self._outboxes.remove(outbox)

    async def PushSamples(  # noqa: N802 - the name is the wire's
        self, request_iterator: AsyncIterator[telemetry_pb2.SampleBatch], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[telemetry_pb2.SampleAck]:
        async for batch in request_iterator:
            if batch.ranges:
                self.sample_messages.append((time.monotonic(), batch))
                await asyncio.sleep(self.acknowledge_samples_after_s)
                acks = [
                    telemetry_pb2.SampleAck(
                        boot_id=each.boot_id,
                        source_id=each.source_id,
                        seq=each.seq_first + len(each.rows) - 1,
                    )
                    for each in batch.ranges
                ]
                yield telemetry_pb2.SampleAck(acks=acks)
                continue
            key = (batch.boot_id, batch.source_id, batch.seq)
            self.resent += key in self.batches
            self.batches[key] = batch
            if self.acknowledge:
                yield telemetry_pb2.SampleAck(boot_id=batch.boot_id, source_id=batch.source_id, seq=batch.seq)

    async def _read(
        self,
        request_iterator: AsyncIterator[fleet_pb2.AgentMessage],
        outbox: asyncio.Queue[fleet_pb2.CoordinatorMessage | None],
    ) -> None:
        try:
            async for message in request_iterator:
                received_ns = time.time_ns()
                reply = self._answer(message, received_ns)
                if reply is not None:
                    outbox.put_nowait(reply)
        finally:
            outbox.put_nowait(None)

    def _answer(
        self, message: fleet_pb2.AgentMessage, received_ns: int
    ) -> fleet_pb2.CoordinatorMessage | None:
        kind = message.WhichOneof("body")
        if message.seq > 0:
            return self._store(message)
        if kind == "heartbeat":
            self.heartbeats.append(message.heartbeat)
            reply = fleet_pb2.HeartbeatReply(
                agent_sent_monotonic_ns=message.heartbeat.sent_monotonic_ns,
                received_realtime_ns=received_ns,
                sent_realtime_ns=time.time_ns(),
            )
            return fleet_pb2.CoordinatorMessage(heartbeat_reply=reply) if self.answer_heartbeats else None
        if kind == "work_request":
            self.requests.append(message.work_request)
            return self._work(message.work_request)
        if kind == "goodbye":
            self.goodbyes.append(message.goodbye.reason)
        return None

    def _store(self, message: fleet_pb2.AgentMessage) -> fleet_pb2.CoordinatorMessage | None:
        key = (message.boot_id, message.seq)
        if key in self._stored:
            self.resent += 1
        else:
            self._stored.add(key)
            self.messages.append(message)
        if not self.acknowledge:
            return None
        return fleet_pb2.CoordinatorMessage(ack=fleet_pb2.Ack(boot_id=message.boot_id, seq=message.seq))

    def _work(self, request: fleet_pb2.WorkRequest) -> fleet_pb2.CoordinatorMessage | None:
        if not request.run_id:
            return fleet_pb2.CoordinatorMessage(lease=self.offers.popleft()) if self.offers else None
        waiting = self.more[request.run_id]
        if waiting:
            offer = fleet_pb2.LeaseOffer(run_id=request.run_id, tasks=waiting.popleft())
            return fleet_pb2.CoordinatorMessage(lease=offer)
        return fleet_pb2.CoordinatorMessage(no_work=fleet_pb2.NoWork(run_id=request.run_id))
