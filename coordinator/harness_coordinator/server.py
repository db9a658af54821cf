"""The coordinator process: opens the store, serves gRPC, runs the loops, stops cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from harness_proto.v1 import datasets_pb2_grpc, fleet_pb2_grpc, jobs_pb2_grpc, verdicts_pb2_grpc
from harness_store.database import Store, open_store

from harness_coordinator.authority import Authority, ServerFiles
from harness_coordinator.checkpointing import keep_log_short
from harness_coordinator.compacting import Compactor
from harness_coordinator.datasets_service import DatasetsService
from harness_coordinator.dispatch import Dispatcher
from harness_coordinator.enrolment import MAX_REQUEST_BYTES, MAX_TOGETHER, Enrolment, EnrolmentService
from harness_coordinator.fleet_service import FleetService
from harness_coordinator.housekeeping import Housekeeper
from harness_coordinator.jobs_service import JobsService
from harness_coordinator.measuring import Measurer
from harness_coordinator.repeating import repeat
from harness_coordinator.roles import Gate, Roster
from harness_coordinator.sessions import Sessions
from harness_coordinator.settings import MAX_MESSAGE_BYTES, ROSTER_EVERY_S, CoordinatorSettings
from harness_coordinator.verdicts_service import VerdictsService
from harness_coordinator.write_queue import WriteQueue

STOP_GRACE_S = 2.0
KEEPALIVE_MS = 20_000
MAX_METADATA_BYTES = 16 * 1024
STREAM_WINDOW_BYTES = 512 * 1024
"""What a peer may send of a stream before it is read: 5 MB a second from an agent 100 ms away."""
GC_ALLOCATIONS = 50_000
"""Objects made and not yet freed before cycles are looked for; messages hold none."""

_log = logging.getLogger(__name__)


class ListenError(Exception):
    """The address cannot be listened on."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a coordinator answers."""

    address: str
    enrolment: str | None
    """For machines without a certificate; None without TLS."""


async def serve(
    settings: CoordinatorSettings, *, on_ready: Callable[[Listening], None] = lambda _: None
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: where to listen and which database to use.
        on_ready: called with the bound addresses once agents and people can connect.

    Raises:
        ListenError: the address is taken or not ours, or would be open to a network without TLS.
        AuthorityError: the files for TLS are damaged or readable by others.
        StoreError: the database cannot be used.
    """
    authority = None if settings.tls_dir is None else Authority.load(settings.tls_dir)
    files = None if authority is None else authority.server_files()
    if authority is None:
        check_loopback(settings.listen)
    store = open_store(settings.database_url)
    writes = WriteQueue(store)
    try:
        await _serve(store, writes, settings, on_ready, authority, files)
    finally:
        writes.close()
        store.close()


async def _serve(
    store: Store,
    writes: WriteQueue,
    settings: CoordinatorSettings,
    on_ready: Callable[[Listening], None],
    authority: Authority | None,
    files: ServerFiles | None,
) -> None:
    sessions = Sessions()
    runs_over = asyncio.Event()
    dispatcher = Dispatcher(store, writes, sessions, settings)
    roster = None if authority is None else Roster(store)
    enrolment = (
        None
        if authority is None or roster is None
        else Enrolment(authority, writes, roster, settings.certificate_days)
    )
    gate = Gate(roster)
    server = grpc.aio.server(options=_options(MAX_MESSAGE_BYTES), interceptors=[gate])
    fleet_pb2_grpc.add_FleetServicer_to_server(
        FleetService(
            writes=writes,
            sessions=sessions,
            dispatcher=dispatcher,
            settings=settings,
            coordinator_id=uuid.uuid4().hex[:12],
            runs_over=runs_over,
            gate=gate,
            enrolment=enrolment,
        ),
        server,
    )
    jobs_pb2_grpc.add_JobsServicer_to_server(
        JobsService(store=store, writes=writes, sessions=sessions, dispatcher=dispatcher), server
    )
    datasets_pb2_grpc.add_DatasetsServicer_to_server(
        DatasetsService(store=store, writes=writes, gate=gate), server
    )
    verdicts_pb2_grpc.add_VerdictsServicer_to_server(VerdictsService(store=store, writes=writes), server)
    address = _bind(server, settings.listen, files, clients_have_certificates=True)
    servers = [server]
    enrolment_address = None
    if enrolment is not None and files is not None:
        entrance = grpc.aio.server(options=_options(MAX_REQUEST_BYTES), maximum_concurrent_rpcs=MAX_TOGETHER)
        fleet_pb2_grpc.add_FleetServicer_to_server(EnrolmentService(enrolment), entrance)
        listen = settings.listen_enrolment or _next_port(settings.listen)
        enrolment_address = _bind(entrance, listen, files, clients_have_certificates=False)
        servers.append(entrance)
    for each in servers:
        await each.start()
    loops = [
        asyncio.create_task(dispatcher.run(), name="dispatch"),
        asyncio.create_task(Measurer(store, writes, sessions, settings, runs_over).run(), name="measure"),
        asyncio.create_task(
            Housekeeper(writes, sessions, dispatcher, settings, runs_over).run(), name="housekeep"
        ),
        asyncio.create_task(Compactor(store, writes).run(), name="compact"),
        asyncio.create_task(keep_log_short(store), name="checkpoint"),
    ]
    if roster is not None:
        await asyncio.to_thread(roster.load)
        loops.append(asyncio.create_task(_reload(roster), name="roster"))
    # Modules and statements live as long as the process: a quarter of the processor went into looking at them again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)
    on_ready(Listening(address, enrolment_address))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # A loop that is not the main thread's, or Windows', takes no handlers: who runs it stops it by cancelling.
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, stop.set)
    try:
        await stop.wait()
    finally:
        _log.info("stopping")
        await asyncio.gather(*(each.stop(STOP_GRACE_S) for each in servers))
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


async def _reload(roster: Roster) -> None:
    await repeat("reading the certificates", lambda: asyncio.to_thread(roster.load), ROSTER_EVERY_S)


def check_loopback(listen: str) -> None:
    """Refuse to listen on anything but loopback: without TLS anybody on the network could read and write."""
    host = listen.rpartition(":")[0].strip("[]")
    if not (host in {"localhost", "::1"} or host.startswith("127.")):
        raise ListenError(
            f"--listen {listen}: without TLS the coordinator listens on loopback only (127.0.0.1:PORT);"
            " run `harness coordinator init` once, which makes the certificates, and start it again"
        )


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_MS // 2),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.so_reuseport", 0),
        # Otherwise each connection is probed for its bandwidth all the time: a third of gRPC's own processor time.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", STREAM_WINDOW_BYTES),
    ]


def _next_port(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    return f"{host}:{int(port) + 1 if int(port) else 0}"


def _bind(
    server: grpc.aio.Server, listen: str, files: ServerFiles | None, *, clients_have_certificates: bool
) -> str:
    host, _, port = listen.rpartition(":")
    try:
        if files is None:
            bound = server.add_insecure_port(listen)
        else:
            bound = server.add_secure_port(
                listen,
                grpc.ssl_server_credentials(
                    [(files.key, files.chain)],
                    root_certificates=files.ca if clients_have_certificates else None,
                    require_client_auth=clients_have_certificates,
                ),
            )
    except RuntimeError:
        bound = 0
    if bound == 0:
        raise ListenError(f"--listen {listen}: the address is taken or not of this machine")
    return f"{host}:{bound if port == '0' else port}"
