"""Runs code that a model wrote against tests: a process of its own, limited, without network where that can be had."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from harness_analysis.errors import AnalysisError

MAX_OUTPUT_BYTES = 64 * 1024
STARTING_S = 5.0
"""Wall clock beyond the limit, for namespaces and the interpreter to start on a busy machine."""
UIDS = range(61_184, 65_520)
"""Users that no account has (systemd's dynamic range): code never runs as root, and its processes are counted alone."""

_CHILD = Path(__file__).with_name("sandbox_child.py")
_BLOCK = re.compile(r"```(?:python|py|python3)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_NAMESPACES = ("--net", "--ipc", "--pid", "--fork", "--kill-child")
_PROBE = (
    "import math, json, socket, threading, hashlib, os",
    """
assert math.floor(1.5) == 1
try:
    bytearray({memory_bytes})
except MemoryError:
    pass
else:
    raise SystemExit("memory is not limited")
try:
    child = os.fork()
except OSError:
    pass
else:
    if not child:
        os._exit(0)
    raise SystemExit("the number of processes is not limited")
""",
)
"""Limits that some systems accept and do not keep; the other two end the process by a signal wherever they exist."""
_SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
_WAYS = (("unshare", *_NAMESPACES), ("unshare", "--user", "--map-current-user", *_NAMESPACES))


@dataclass(frozen=True, slots=True)
class Limits:
    """What one answer may use."""

    cpu_s: int = 10
    wall_s: float = 20.0
    memory_bytes: int = 1 << 30
    processes: int = 1
    file_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What the sandbox of this machine can do."""

    command: tuple[str, ...]
    """What starts the child: namespaces where they can be had, then an interpreter."""
    network: bool
    """Whether code can reach the network."""
    sentence: str


class NoSandboxError(AnalysisError):
    """Code cannot be run here with less than the rights of root."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended."""

    passed: bool
    reason: str
    """Why not; empty where the tests passed."""


def code_of(answer: str) -> str:
    """Return the code of an answer: its last Python block, else all of it."""
    blocks = _BLOCK.findall(answer)
    return blocks[-1] if blocks else answer


@lru_cache(maxsize=1)
def sandbox_report() -> SandboxReport:
    """Try what this machine allows, once, by running a program in it.

    Raises:
        NoSandboxError: as root, no interpreter can be read by a user without rights; or a limit does not hold.
    """
    limits = Limits()
    probe = (_PROBE[0], _PROBE[1].format(memory_bytes=2 * limits.memory_bytes))
    why = "no interpreter that others may read"
    unshare = shutil.which("unshare")
    ways = [*(_WAYS if unshare else ()), ()]
    # An interpreter in root's home cannot be read once root's rights are given up; the system's can.
    interpreters = dict.fromkeys((sys.executable, *_SYSTEM_PYTHONS))
    for way in ways:
        for interpreter in interpreters:
            if not Path(interpreter).exists():
                continue
            tried = _run(*probe, limits, (*way, interpreter))
            if tried.passed:
                return _report(way, interpreter, bool(unshare))
            why = tried.reason if tried.reason.endswith("is not limited") else why
    raise NoSandboxError(
        f"code that a model wrote cannot be run here with less than your rights and within limits ({why});"
        " run this command as a user without rights, or install the system's python3"
    )


def _report(way: tuple[str, ...], interpreter: str, has_unshare: bool) -> SandboxReport:
    other = "" if interpreter == sys.executable else f"; run by {interpreter}"
    if way:
        said = f"no network: each answer has namespaces of its own{other}"
        return SandboxReport((*way, interpreter), network=False, sentence=said)
    why = "unshare is not allowed here" if has_unshare else "there is no unshare here"
    said = f"code CAN REACH THE NETWORK: {why}; use a container or a virtual machine{other}"
    return SandboxReport((interpreter,), network=True, sentence=said)


def run_code(answer: str, tests: str, limits: Limits | None = None) -> RunOutcome:
    """Run an answer's code, then the tests (Python with assertions) in the same namespace.

    The process has its own empty folder, an empty environment, limits on CPU time, memory, processes, file size and
    wall clock, and `python -I`. It is no jail: files that everybody on this machine may read, it may read.
    """
    return _run(code_of(answer), tests, limits or Limits(), sandbox_report().command)


def _run(code: str, tests: str, limits: Limits, command: Sequence[str]) -> RunOutcome:
    token = secrets.token_hex(16)
    uid = random.choice(UIDS)  # noqa: S311 - no secret
    task = {"code": code, "tests": tests, "token": token, "limits": {**asdict(limits), "uid": uid}}
    with tempfile.TemporaryDirectory(prefix="harness-code-") as folder, tempfile.TemporaryFile() as output:
        if os.geteuid() == 0:
            os.chown(folder, uid, uid)
        process = subprocess.Popen(
            [*command, "-I", "-S", "-c", _CHILD.read_text(encoding="utf-8")],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        late = False
        try:
            process.communicate(json.dumps(task).encode(), timeout=limits.wall_s + STARTING_S)
        except subprocess.TimeoutExpired:
            late = True
        except BrokenPipeError:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said = _tail(output)
    if late:
        return RunOutcome(False, f"stopped after {limits.wall_s:g} s")
    if process.returncode == 0 and said.endswith(token):
        return RunOutcome(True, "")
    return RunOutcome(False, _why(process.returncode, said.replace(token, ""), limits))


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - MAX_OUTPUT_BYTES))
    return output.read().decode("utf-8", "replace")


def _why(returncode: int, said: str, limits: Limits) -> str:
    # unshare --fork reports its child's signal as 128 + number.
    number = -returncode if returncode < 0 else returncode - 128
    if number in {signal.SIGXCPU, signal.SIGKILL}:
        return f"used more than {limits.cpu_s} s of CPU time"
    if "sigprocmask" in said:  # what unshare says when its child was killed
        return f"killed by a signal, as at the limit of {limits.cpu_s} s of CPU time"
    lines = [line for line in said.strip().splitlines() if line.strip()]
    if returncode == 0:
        return "ended before the tests did"
    return lines[-1][:300] if lines else f"ended with code {returncode}"
