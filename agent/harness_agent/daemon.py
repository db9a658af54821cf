"""The agent process: sampler, spool, link and work, wired together and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from harness_backends.engines.registry import engine_availabilities
from harness_backends.telemetry.source import SourceInfo

from harness_agent.config import AgentConfig
from harness_agent.discovery import Discovery
from harness_agent.enrolment import Credentials, enrol
from harness_agent.errors import AgentError, EnrolmentError, RefusedError, UnreachableError
from harness_agent.host_clock import compare_clocks, read_clocks
from harness_agent.host_facts import host_info
from harness_agent.identity import StateDir
from harness_agent.inventory import Inventory
from harness_agent.learning import discover_learned
from harness_agent.link import Link
from harness_agent.outbox import Outbox
from harness_agent.run import RunSurroundings
from harness_agent.sampler import Sampler
from harness_agent.spool import Spool
from harness_agent.work import Work

__all__ = ["AgentConfig", "AgentError", "run_agent"]

CLOCK_WATCH_S = 1.0
GOODBYE_S = 3.0
"""A stop waits this long for the coordinator to acknowledge what is left; the spool keeps the rest."""
TELL_DROPPED_EVERY_S = 60.0
EXIT_STOPPED = 0
EXIT_NOT_ALLOWED = 3
EXIT_AT_ONCE = 130
_log = logging.getLogger(__name__)


def run_agent(config: AgentConfig) -> int:
    """Serve a coordinator until SIGTERM or SIGINT.

    Args:
        config: what the agent was told.

    Returns:
        0 after a stop; 3 when the coordinator refused this agent or was never reached in the time allowed.

    Raises:
        StateDirError: the state directory is in use or cannot be used.
        EnrolmentError: there is no certificate where one is needed, and no token that gives one.
    """
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells every request of the engines' ready check
    state = StateDir(config.state_dir)
    try:
        return asyncio.run(_Agent(config, state).run())
    except (RefusedError, UnreachableError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_NOT_ALLOWED
    finally:
        state.close()


class _Agent:
    """One agent while it runs."""

    def __init__(self, config: AgentConfig, state: StateDir) -> None:
        self._config = config
        self._state = state
        self._identity = state.identity()
        self._credentials = _credentials(config, state.path / "tls", self._identity.agent_id)
        self._gone: set[str] = set()
        self._hanging: set[str] = set()
        self._dropped_told = 0
        self._dropped_told_s = -TELL_DROPPED_EVERY_S
        self._stop = asyncio.Event()
        self._stop_reason = ""
        self._may_start = asyncio.Event()
        self._work: Work | None = None
        self._link: Link | None = None

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        # While this runs on the main thread a signal must not end the process before the engines are stopped.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._on_signal, number)
        spool = Spool(
            self._state.path / "spool",
            self._identity.boot_id,
            self._config.spool_limit_bytes,
            on_change=lambda: _call_in(loop, self._on_spool_change),
        )
        self._spool = spool
        self._outbox = Outbox(spool, self._identity.agent_id, self._identity.boot_id, self._identity.clock_id)
        try:
            found = await asyncio.to_thread(discover_learned, self._config.providers)
            return await self._serve(found)
        finally:
            await asyncio.to_thread(spool.close)

    async def _serve(self, found: Discovery) -> int:
        infos = {source.info.source_id: source.info for source in found.sources}
        sampler = Sampler(
            found.sources,
            self._outbox.samples,
            _rates_hz(infos, self._config.poll_hz),
            on_gone=self._on_gone,
            on_hang=self._on_hang,
            on_answer=self._on_answer,
            is_idle=self._is_idle,
        )
        work = Work(
            RunSurroundings(
                outbox=self._outbox,
                sources=lambda: [
                    info for source_id, info in infos.items() if source_id not in self._gone | self._hanging
                ],
                track=found.track,
                strangers=found.strangers,
                flush_samples=sampler.flush,
                run_dir=self._state.run_dir,
                may_start=self._may_start,
            )
        )
        engines = await asyncio.to_thread(engine_availabilities)
        inventory = Inventory(
            self._identity,
            self._config.name or socket.gethostname(),
            self._config.labels,
            host_info(),
            list(infos.values()),
            engines,
        )
        link = Link(
            self._config.coordinator,
            self._outbox,
            inventory.hello,
            work,
            exit_if_unreachable_s=self._config.exit_if_unreachable_s,
            credentials=self._credentials,
        )
        work.connect(link.request_work, link.request_answered, link.is_requested)
        self._work, self._link = work, link
        self._on_spool_change()
        sampler.start()
        linked = asyncio.create_task(link.run())
        watching = asyncio.create_task(self._watch_clocks())
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({linked, watching, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reason = self._stop_reason or "the link ended"
            await work.stop(f"the agent was stopped ({reason})")
            await asyncio.to_thread(sampler.stop)
            await link.goodbye(reason, GOODBYE_S)
            for task in (linked, watching, stopped):
                task.cancel()
        for task in (linked, watching):
            with contextlib.suppress(asyncio.CancelledError):
                await task
        _log.info("stopped: %s", reason)
        return EXIT_STOPPED

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            # The guards of the engines see this process end and end them.
            os._exit(EXIT_AT_ONCE)
        self._stop_reason = signal.Signals(number).name
        _log.info("stopping on %s; once more stops at once", self._stop_reason)
        self._stop.set()

    def _on_spool_change(self) -> None:
        """Records became durable, or the disk filled up or has room again."""
        if self._link is None or self._work is None:
            return
        full = self._spool.full_reason
        if full and self._may_start.is_set():
            self._may_start.clear()
            self._link.request_answered("")
            self._outbox.event("spool_full", full)
        elif not full and not self._may_start.is_set():
            self._may_start.set()
            self._work.ask_for_new_run()
        self._tell_of_dropped(full)
        self._link.wake()

    def _tell_of_dropped(self, full: str) -> None:
        """Tell how many samples were given up: when it begins and each minute; heartbeats always carry the sum."""
        dropped, now_s = self._spool.dropped_samples, time.monotonic()
        if dropped == self._dropped_told or (now_s - self._dropped_told_s < TELL_DROPPED_EVERY_S):
            return
        self._outbox.event(
            "samples_dropped",
            f"{dropped - self._dropped_told} samples, the oldest first, were dropped before they could be sent:"
            f" {full or 'the spool was over its bound, or its disk was full'}",
        )
        self._dropped_told, self._dropped_told_s = dropped, now_s

    def _is_idle(self) -> bool:
        return self._work is None or self._work.is_idle()

    def _on_gone(self, source_id: str, reason: str) -> None:
        self._gone.add(source_id)
        self._outbox.source_gone(source_id, reason)

    def _on_hang(self, source_id: str, sentence: str) -> None:
        self._hanging.add(source_id)
        self._outbox.event("source_hangs", f"{source_id}: {sentence}")

    def _on_answer(self, source_id: str, sentence: str) -> None:
        self._hanging.discard(source_id)
        self._outbox.event("source_answers", f"{source_id}: {sentence}")

    async def _watch_clocks(self) -> None:
        before = read_clocks()
        while True:
            await asyncio.sleep(CLOCK_WATCH_S)
            now = read_clocks()
            for event in compare_clocks(before, now):
                _log.warning("%s", event.detail)
                self._outbox.event(event.kind, event.detail)
                if self._link is not None:
                    self._link.clock.start_anew()
            before = now


def _credentials(config: AgentConfig, folder: Path, agent_id: str) -> Credentials | None:
    present = Credentials.load(folder)
    addresses = config.coordinator.split(",")
    host, _, port = addresses[0].rpartition(":")
    if present is None and config.join_token:
        address = config.enrolment or f"{host}:{int(port) + 1}"
        present = enrol(
            folder, address, config.join_token, agent_id=agent_id, name=config.name or socket.gethostname()
        )
        _log.info("enrolled at %s; the certificate is in %s", address, folder)
    if present is None and not all(is_loopback(a.rpartition(":")[0]) for a in addresses):
        raise EnrolmentError(
            f"The coordinator at {config.coordinator} is on a network and this agent has no certificate; get a join"
            " token from `harness token create --role agent` and start the agent with --join-token-file."
        )
    return present


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its loopback address."""
    bare = host.strip("[]")
    return bare in {"localhost", "::1"} or bare.startswith("127.")


def _rates_hz(infos: Mapping[str, SourceInfo], poll_hz: float) -> dict[str, float]:
    """Return the set rate for sources that ask for none of their own."""
    return {source_id: poll_hz for source_id, info in infos.items() if not info.poll_hz > 0}


def _call_in(loop: asyncio.AbstractEventLoop, callback: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
        loop.call_soon_threadsafe(callback)  # pyright: ignore[reportArgumentType]
