"""The coordinator process: opens the store, serves gRPC, runs the loops, stops cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import uuid
from collections.abc import Callable

import grpc
from harness_proto.v1 import fleet_pb2_grpc, jobs_pb2_grpc
from harness_store.database import Store, open_store

from harness_coordinator.dispatch import Dispatcher
from harness_coordinator.fleet_service import FleetService
from harness_coordinator.housekeeping import Housekeeper
from harness_coordinator.jobs_service import JobsService
from harness_coordinator.measuring import Measurer
from harness_coordinator.sessions import Sessions
from harness_coordinator.settings import MAX_MESSAGE_BYTES, CoordinatorSettings
from harness_coordinator.write_queue import WriteQueue

STOP_GRACE_S = 2.0
KEEPALIVE_MS = 20_000

_log = logging.getLogger(__name__)


class ListenError(Exception):
    """The address cannot be listened on."""


async def serve(settings: CoordinatorSettings, *, on_ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: where to listen and which database to use.
        on_ready: called with the bound HOST:PORT once agents and people can connect.

    Raises:
        ListenError: the address is taken or not ours, or would be open to a network without TLS.
        StoreError: the database cannot be used.
    """
    check_loopback(settings.listen)
    store = open_store(settings.database_url)
    writes = WriteQueue(store)
    try:
        await _serve(store, writes, settings, on_ready)
    finally:
        writes.close()
        store.close()


async def _serve(
    store: Store, writes: WriteQueue, settings: CoordinatorSettings, on_ready: Callable[[str], None]
) -> None:
    sessions = Sessions()
    runs_over = asyncio.Event()
    dispatcher = Dispatcher(store, writes, sessions, settings)
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_MS // 2),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.so_reuseport", 0),
        ]
    )
    fleet_pb2_grpc.add_FleetServicer_to_server(
        FleetService(
            writes=writes,
            sessions=sessions,
            dispatcher=dispatcher,
            settings=settings,
            coordinator_id=uuid.uuid4().hex[:12],
            runs_over=runs_over,
        ),
        server,
    )
    jobs_pb2_grpc.add_JobsServicer_to_server(
        JobsService(store=store, writes=writes, sessions=sessions, dispatcher=dispatcher), server
    )
    address = _bind(server, settings.listen)
    await server.start()
    loops = [
        asyncio.create_task(dispatcher.run(), name="dispatch"),
        asyncio.create_task(Measurer(store, writes, settings, runs_over).run(), name="measure"),
        asyncio.create_task(Housekeeper(writes, dispatcher, settings, runs_over).run(), name="housekeep"),
    ]
    on_ready(address)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, stop.set)
    try:
        await stop.wait()
    finally:
        _log.info("stopping")
        await server.stop(STOP_GRACE_S)
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


def check_loopback(listen: str) -> None:
    """Refuse to listen on anything but loopback: without TLS anybody on the network could read and write."""
    host = listen.rpartition(":")[0].strip("[]")
    if not (host in {"localhost", "::1"} or host.startswith("127.")):
        raise ListenError(
            f"--listen {listen}: without TLS the coordinator listens on loopback only (127.0.0.1:PORT);"
            " reach it from other machines through an SSH tunnel"
        )


def _bind(server: grpc.aio.Server, listen: str) -> str:
    host, _, port = listen.rpartition(":")
    try:
        bound = server.add_insecure_port(listen)
    except RuntimeError:
        bound = 0
    if bound == 0:
        raise ListenError(f"--listen {listen}: the address is taken or not of this machine")
    return f"{host}:{bound if port == '0' else port}"
