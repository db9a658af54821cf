"""One running engine: started behind the guard, watched, ready or not, stopped without remains."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import httpx

from harness_backends.engines.adapter import EnginePlan
from harness_backends.engines.errors import EngineStartError

GUARD = Path(__file__).with_name("guard.py")
STOP_GRACE_S = 5.0
"""Between SIGTERM and SIGKILL; vLLM needs 2 to 3 s to end its workers."""
FIRST_POLL_S = 0.02
LONGEST_POLL_S = 0.25
REASON_LINES = 3
_LOG_TAIL_BYTES = 65_536
_MEMORY = re.compile(
    r"out of memory|OutOfMemory|bad_alloc|(failed|unable) to allocate|cannot allocate|(not enough|insufficient) memory",
    re.IGNORECASE,
)
"""Engines write this line first and several that follow from it afterwards."""
_EXCEPTION = re.compile(r"(?:^|[\s)\]])([A-Za-z_][\w.]*(?:Error|Exception): \S.*)")
"""The first of these is the cause: what a server with worker processes says last is only that one of them failed."""
_LOG_PREFIX = re.compile(r"^[\d.:\-T ,+]+\s[A-Z]?\s*")


class EngineProcess:
    """An engine that this agent has started, or one that already runs elsewhere (`plan.argv` empty)."""

    def __init__(self, plan: EnginePlan, log_path: Path, process: asyncio.subprocess.Process | None) -> None:
        self.plan = plan
        self.log_path = log_path
        self._process = process
        self._started_s = time.monotonic()
        self._stopping = False
        self.exited = asyncio.ensure_future(self._watch())
        """Done when the engine has ended by itself or by `stop`; its result is the exit code."""

    @classmethod
    async def start(cls, plan: EnginePlan, run_dir: Path, grace_s: float = STOP_GRACE_S) -> EngineProcess:
        """Start the engine of a plan with its log in `run_dir`/engine.log.

        Args:
            plan: what the adapter prepared.
            run_dir: existing directory of this run; the engine's working directory.
            grace_s: seconds between SIGTERM and SIGKILL at the stop.

        Raises:
            EngineStartError: the program cannot be started at all.
        """
        log_path = run_dir / "engine.log"
        if not plan.argv:
            return cls(plan, log_path, None)
        with log_path.open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-I",
                    "-S",
                    str(GUARD),
                    str(grace_s),
                    *plan.argv,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=run_dir,
                    env={**os.environ, **plan.environment},
                    start_new_session=True,
                )
            except OSError as error:
                raise EngineStartError(f"The engine's guard process cannot be started: {error}.") from error
        return cls(plan, log_path, process)

    @property
    def pids(self) -> tuple[int, ...]:
        """Roots of the engine's process tree; empty where it runs elsewhere."""
        return () if self._process is None else (self._process.pid,)

    async def wait_ready(self, timeout_s: float) -> float:
        """Wait until the engine answers its ready check.

        Args:
            timeout_s: how long loading may take.

        Returns:
            Seconds from start to ready.

        Raises:
            EngineStartError: it ended first (the log's last lines are in the message) or took too long.
        """
        if self.plan.ready_url:
            ready = asyncio.ensure_future(self._poll_ready())
            try:
                await asyncio.wait(
                    {ready, self.exited}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                ready.cancel()
            if self.exited.done():
                raise EngineStartError(f"The engine did not start: {self.exit_reason()}")
            if not ready.done() or ready.cancelled():
                raise EngineStartError(
                    f"The engine was not ready within {timeout_s:g} s; its last lines: {self.log_tail()}"
                )
        return time.monotonic() - self._started_s

    async def stop(self) -> None:
        """End the engine and everything it started; returns when nothing of it is left."""
        self._stopping = True
        if self._process is None:
            self.exited.cancel()
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        done, _ = await asyncio.wait({self.exited}, timeout=STOP_GRACE_S + 3.0)
        if not done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self.exited

    def exit_reason(self) -> str:
        """Tell how the engine ended, in one sentence with the log's last lines."""
        code = self.exited.result() if self.exited.done() and not self.exited.cancelled() else None
        how = "it ended" if code is None else f"it ended with exit code {code}"
        if code is not None and code > 128:
            with contextlib.suppress(ValueError):
                how = f"it was ended by {signal.Signals(code - 128).name}"
        tail = self.log_tail()
        return f"{how}; its last lines: {tail}" if tail else f"{how} and wrote nothing to {self.log_path}."

    def log_tail(self, lines: int = REASON_LINES) -> str:
        """Return the log's last lines, without their time stamps, joined by ` | `, the cause first.

        The cause is the last line about a lack of memory, else the first exception, where it is not among them.
        """
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return ""
        kept = [_LOG_PREFIX.sub("", line).strip() for line in text.splitlines() if _tells(line)]
        earlier, last = kept[:-lines], kept[-lines:]
        cause = [line for line in earlier if _MEMORY.search(line)][-1:]
        if not cause:
            cause = [found.group(1) for line in earlier if (found := _EXCEPTION.search(line))][:1]
        return " | ".join([*(line for line in cause if not any(line in other for other in last)), *last])

    async def _watch(self) -> int:
        if self._process is None:
            await asyncio.get_running_loop().create_future()
            return 0
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    async def _poll_ready(self) -> None:
        pause_s = FIRST_POLL_S
        async with httpx.AsyncClient(trust_env=False, headers=dict(self.plan.headers)) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    reply = await client.get(self.plan.ready_url, timeout=2.0)
                    if reply.status_code == httpx.codes.OK:
                        return
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 1.3, LONGEST_POLL_S)


def free_port() -> int:
    """Return a loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tells(line: str) -> bool:
    """Leave out the lines of a Python traceback that only point at code."""
    text = line.strip()
    return (
        bool(text)
        and not text.startswith(("Traceback (", 'File "', "^", "~"))
        and not line.startswith("    ")
    )
