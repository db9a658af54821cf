"""Who this agent is: an id kept in the state directory, this process, and this boot of the host."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import psutil

from harness_agent.errors import StateDirError

KEPT_RUNS = 50
"""Directories of this many runs are kept, for their engines' logs."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Identity:
    """The three ids that name what this agent tells."""

    agent_id: str
    """Stable as long as the state directory is kept."""
    boot_id: str
    """New for each agent process."""
    clock_id: str
    """New for each boot of the host: the domain of CLOCK_MONOTONIC."""


class StateDir:
    """The agent's directory, held by a lock as long as this object is open."""

    def __init__(self, path: Path) -> None:
        """Make the directory when absent and lock it.

        Raises:
            StateDirError: it cannot be made or written, or another agent holds it.
        """
        self.path = path
        try:
            # Queries and answers lie here until they are acknowledged: they are nobody else's business.
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock: TextIO = (path / "lock").open("a+")
        except OSError as error:
            raise StateDirError(
                f"The state directory {path} cannot be used: {error.strerror or error}; name another with --state-dir."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.seek(0)
            holder = self._lock.read().strip()
            self._lock.close()
            who = f" (process {holder})" if holder else ""
            raise StateDirError(
                f"Another agent{who} uses the state directory {path}; stop it, or name another with --state-dir."
            ) from None
        # The process id is for people; on a full disk the lock alone does.
        with contextlib.suppress(OSError):
            self._lock.truncate(0)
            self._lock.write(str(os.getpid()))
            self._lock.flush()

    def close(self) -> None:
        """Give the directory free."""
        with contextlib.suppress(OSError):
            self._lock.close()

    def run_dir(self, run_id: str) -> Path:
        """Make and return the directory of one run, for its engine's log; the oldest of many are removed."""
        runs = self.path / "runs"
        folder = runs / _UNSAFE.sub("_", run_id)
        folder.mkdir(parents=True, exist_ok=True)
        kept = sorted(runs.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in kept[KEPT_RUNS:]:
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
        return folder

    def identity(self) -> Identity:
        """Read the agent's id, or make it the first time.

        Raises:
            StateDirError: the id cannot be read or written, or is damaged.
        """
        path = self.path / "agent-id"
        try:
            if path.exists():
                agent_id = path.read_text().strip()
                uuid.UUID(agent_id)
            else:
                agent_id = str(uuid.uuid4())
                _write_durably(path, agent_id + "\n")
        except ValueError:
            raise StateDirError(
                f"{path} holds no agent id; put the file back, or remove it to join the fleet as a new agent."
            ) from None
        except OSError as error:
            raise StateDirError(f"{path} cannot be used: {error.strerror or error}.") from error
        return Identity(agent_id, str(uuid.uuid4()), host_clock_id())


def host_clock_id() -> str:
    """Return what tells this boot of the host from another."""
    if sys.platform == "linux" and BOOT_ID.exists():
        return BOOT_ID.read_text().strip()
    return f"boot-{psutil.boot_time():.0f}"


def _write_durably(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(path.name + ".new")
    try:
        with draft.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
