"""The Fleet service: agents' sessions and their samples."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from harness_proto.v1 import fleet_pb2, fleet_pb2_grpc, telemetry_pb2
from harness_store import events, fleet, leases
from harness_store.errors import StoreError
from harness_store.rows import chunks

from harness_coordinator.dispatch import Dispatcher
from harness_coordinator.enrolment import Enrolment, answer
from harness_coordinator.heartbeats import heartbeat_of, store_heartbeats
from harness_coordinator.ingest import Told, apply_told
from harness_coordinator.roles import Caller, Gate
from harness_coordinator.sample_intake import SAMPLE_RANGES, take_samples
from harness_coordinator.sessions import AgentSession, Sessions, devices_of
from harness_coordinator.settings import RETRY_DELAYS_S, CoordinatorSettings
from harness_coordinator.source_records import source_record
from harness_coordinator.version import VERSION
from harness_coordinator.write_queue import WriteQueue

MESSAGE_BUNDLES = "message_bundles"
"""The feature that a welcome names: `AgentMessage.bundle` is understood."""

MAX_PENDING_MESSAGES = 256
"""Messages and bundles of one session that are taken together."""

MOST_APPLIED = 2_048
"""Messages of one session applied in one transaction, about twice what an agent bundles."""

_log = logging.getLogger(__name__)


class ForeignBatchError(Exception):
    """An agent sent samples in another agent's name."""


class FleetService(fleet_pb2_grpc.FleetServicer):
    """Answers agents."""

    def __init__(
        self,
        *,
        writes: WriteQueue,
        sessions: Sessions,
        dispatcher: Dispatcher,
        settings: CoordinatorSettings,
        coordinator_id: str,
        runs_over: asyncio.Event,
        gate: Gate,
        enrolment: Enrolment | None,
    ) -> None:
        self._writes = writes
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._settings = settings
        self._coordinator_id = coordinator_id
        self._runs_over = runs_over
        self._gate = gate
        self._enrolment = enrolment

    async def Enroll(  # noqa: N802 - the name is the wire's
        self, request: fleet_pb2.EnrollRequest, context: grpc.aio.ServicerContext
    ) -> fleet_pb2.EnrollResponse:
        """Renew the caller's certificate; the first one is had at the enrolment address."""
        caller = await self._gate.caller(context)
        if caller is None or self._enrolment is None:
            return await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                "this coordinator listens on loopback without TLS: no certificate is needed",
            )
        return await answer(self._enrolment.renew(request, caller), context, context.peer())

    async def Session(  # noqa: N802 - the name is the wire's
        self, request_iterator: AsyncIterator[fleet_pb2.AgentMessage], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[fleet_pb2.CoordinatorMessage]:
        """Serve one agent until it leaves, the link breaks, or a newer session of it arrives."""
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("body") != "hello":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a session begins with a hello")
            return
        hello = first.hello
        caller = await self._gate.caller(context)
        if caller is not None and hello.agent_id != caller.subject:
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the certificate is agent {caller.subject}'s, and the hello says {hello.agent_id}",
            )
            return
        try:
            state = await self._writes.run(lambda c: self._register(c, hello))
        except StoreError as error:
            retry = isinstance(error, fleet.DuplicateNameError)
            yield fleet_pb2.CoordinatorMessage(refusal=fleet_pb2.Refusal(reason=str(error), retry=retry))
            return
        session = AgentSession(
            agent_id=hello.agent_id,
            boot_id=hello.boot_id,
            name=hello.name,
            labels=dict(hello.labels),
            engines=frozenset(e.name for e in hello.engines if e.available),
            devices=devices_of(hello.sources, hello.host),
            draining=state == "drained",
        )
        self._sessions.add(session)
        session.send(
            welcome=fleet_pb2.Welcome(
                version=VERSION,
                heartbeat_s=self._settings.heartbeat_s,
                lease_s=self._settings.lease_s,
                coordinator_id=self._coordinator_id,
                features=[SAMPLE_RANGES, MESSAGE_BUNDLES],
            )
        )
        reader = asyncio.create_task(self._read(session, request_iterator))
        reader.add_done_callback(lambda _: session.close())
        try:
            while (message := await session.outbox.get()) is not None:
                yield message
            if reader.done():
                reader.result()
        finally:
            reader.cancel()
            self._sessions.remove(session)

    async def PushSamples(  # noqa: N802 - the name is the wire's
        self, request_iterator: AsyncIterator[telemetry_pb2.SampleBatch], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[telemetry_pb2.SampleAck]:
        """Store sample batches and acknowledge them once they are on disk."""
        caller = await self._gate.caller(context)
        batches = request_iterator if caller is None else _own_batches(request_iterator, caller)
        try:
            async for ack in take_samples(batches, self._writes):
                yield ack
        except ForeignBatchError as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it was, the agent keeps its samples and tries again
            _log.error("samples were not stored: %s", error)
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"samples were not stored: {error}")

    def _register(self, connection: Any, hello: fleet_pb2.Hello) -> str | None:
        now_ns = time.time_ns()
        fleet.register_agent(
            connection,
            agent_id=hello.agent_id,
            name=hello.name,
            boot_id=hello.boot_id,
            clock_id=hello.clock_id,
            version=hello.version,
            hostname=hello.host.hostname,
            host_json=json.dumps(MessageToDict(hello.host, preserving_proto_field_name=True)),
            labels_json=json.dumps(dict(hello.labels)),
            engines_json=json.dumps(
                [MessageToDict(e, preserving_proto_field_name=True) for e in hello.engines]
            ),
            features_json=json.dumps(list(hello.features)),
            coordinator_id=self._coordinator_id,
            monotonic_ns=hello.monotonic_ns,
            now_ns=now_ns,
        )
        fleet.upsert_sources(connection, hello.agent_id, [source_record(s) for s in hello.sources])
        return fleet.states(connection, [hello.agent_id]).get(hello.agent_id)

    async def _read(
        self, session: AgentSession, request_iterator: AsyncIterator[fleet_pb2.AgentMessage]
    ) -> None:
        """Read messages; those with a sequence number are applied in groups, in order, then acknowledged."""
        inbox: asyncio.Queue[fleet_pb2.AgentMessage | None] = asyncio.Queue(MAX_PENDING_MESSAGES)

        async def fill() -> None:
            try:
                async for message in request_iterator:
                    await inbox.put(message)
            finally:
                await inbox.put(None)

        filler = asyncio.create_task(fill())
        try:
            while True:
                message = await inbox.get()
                if message is None:
                    return
                group = _unbundled(message)
                while not inbox.empty() and len(group) < MAX_PENDING_MESSAGES:
                    waiting = inbox.get_nowait()
                    if waiting is None:
                        await self._handle(session, group)
                        return
                    group += _unbundled(waiting)
                await self._handle(session, group)
        finally:
            filler.cancel()

    async def _handle(self, session: AgentSession, group: list[fleet_pb2.AgentMessage]) -> None:
        for kept in chunks((m for m in group if m.seq > 0), MOST_APPLIED):
            applied = await self._writes.run_together(apply_told, [Told(session.agent_id, kept)])
            for boot in dict.fromkeys(m.boot_id for m in kept):
                seq = max(m.seq for m in kept if m.boot_id == boot)
                session.send(ack=fleet_pb2.Ack(boot_id=boot, seq=seq))
            for start in applied.starts:
                self._dispatcher.failed_starts.note(start)
            if applied.runs_over:
                self._runs_over.set()
                self._dispatcher.wake()
        for message in group:
            kind = message.WhichOneof("body")
            if kind == "heartbeat":
                await self._heartbeat(session, message.heartbeat)
            elif kind == "work_request":
                await self._work_request(session, message.work_request)
            elif kind == "goodbye":
                await self._writes.run(
                    lambda c, m=message: events.add(
                        c, kind="agent_left", agent_id=session.agent_id, detail=m.goodbye.reason
                    )
                )

    async def _heartbeat(self, session: AgentSession, message: fleet_pb2.Heartbeat) -> None:
        received_ns = time.time_ns()
        session.loaded_model = message.loaded_model
        beat = heartbeat_of(
            message,
            agent_id=session.agent_id,
            boot_id=session.boot_id,
            received_ns=received_ns,
            expires_ns=received_ns + int(self._settings.lease_s * 1e9),
            coordinator_id=self._coordinator_id,
        )
        lost = (await self._writes.run_together(store_heartbeats, [beat], patient=True)).get(beat)
        if lost is None:
            session.refuse("this agent was removed from the fleet")
            return
        reply = fleet_pb2.HeartbeatReply(
            agent_sent_monotonic_ns=message.sent_monotonic_ns,
            received_realtime_ns=received_ns,
            lost=[fleet_pb2.HeldTask(task_id=t, attempt=a) for t, a in lost],
        )
        reply.sent_realtime_ns = time.time_ns()
        session.send(heartbeat_reply=reply)

    async def _work_request(self, session: AgentSession, request: fleet_pb2.WorkRequest) -> None:
        if request.run_id:
            session.wants_tasks[request.run_id] = request.tasks
        else:
            # Everything an earlier process of this agent had to tell came before this request: what it
            # still holds will never be finished.
            now_ns = time.time_ns()
            given_back = await self._writes.run(
                lambda c: leases.release_older_boots(
                    c, session.agent_id, session.boot_id, now_ns=now_ns, retry_delays_s=RETRY_DELAYS_S
                )
            )
            if given_back:
                self._runs_over.set()
            session.wants_new_run = True
        self._dispatcher.wake()


def _unbundled(message: fleet_pb2.AgentMessage) -> list[fleet_pb2.AgentMessage]:
    """Return the messages of a bundle, or the message itself; a bundle in a bundle is skipped as unknown."""
    return list(message.bundle.messages) if message.WhichOneof("body") == "bundle" else [message]


async def _own_batches(
    batches: AsyncIterator[telemetry_pb2.SampleBatch], caller: Caller
) -> AsyncIterator[telemetry_pb2.SampleBatch]:
    async for batch in batches:
        if batch.agent_id != caller.subject:
            raise ForeignBatchError(
                f"the certificate is agent {caller.subject}'s, and a sample batch says {batch.agent_id}"
            )
        yield batch
