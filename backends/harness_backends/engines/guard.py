"""Stand between the agent and one engine, so that neither a kill nor a crash leaves an engine behind.

Run as a file by a bare interpreter: guard.py GRACE_S PROGRAM [ARGUMENT...]. The engine gets a process group
of its own. When standard input ends (the agent closed it, or died) or on SIGTERM, the whole group gets
SIGTERM, and SIGKILL after GRACE_S seconds. Exits with the engine's code, 128 + n for signal n.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
TERMINATED = 128 + signal.SIGTERM


def main(arguments: list[str]) -> int:
    """Run the engine and return its exit code."""
    grace_s = float(arguments[0])
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    terminated: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: terminated.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    prctl = _linux_prctl()
    guard = os.getpid()

    def tie_to_guard() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != guard:
                os._exit(TERMINATED)

    if prctl is not None:
        # Workers that outlive their parent come to this process, which can then end them.
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        engine = subprocess.Popen(
            arguments[1:],
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=tie_to_guard,  # noqa: PLW1509 - this process has one thread
        )
    except OSError as error:
        sys.stderr.write(f"cannot start {arguments[1]}: {error}\n")
        return 127
    while engine.poll() is None and not terminated:
        readable, _, _ = select.select([0, wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 4096)
        if 0 in readable and not os.read(0, 4096):
            break
    if engine.poll() is None:
        _signal_group(engine.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.wait(max(0.0, deadline - time.monotonic()))
    _signal_group(engine.pid, signal.SIGKILL)
    code = engine.wait()
    _end_adopted()
    return code if code >= 0 else 128 - code


def _linux_prctl() -> ctypes._NamedFuncPointer | None:
    if sys.platform != "linux":
        return None
    return ctypes.CDLL(None, use_errno=True).prctl


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _end_adopted() -> None:
    """Kill and reap descendants that left the group and lost their parent."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    for _ in range(1000):
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        try:
            pids = [int(pid) for pid in children.read_text().split()]
        except OSError:
            return
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
