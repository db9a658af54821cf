"""CPU time and resident memory of the processes under some roots, those that have exited included."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

RESCAN_S = 0.5
"""Time between walks of the tree; a child that lives shorter is still counted once its parent reaps it."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_TRUNCATION_S = 2 / _TICKS_PER_S
_IS_LINUX = sys.platform.startswith("linux")


@dataclass(slots=True)
class _Member:
    pid: int
    parent: int
    root: int
    started: float
    """Start time in the kernel's own unit, to tell a reused pid from the process we knew."""
    own_s: float
    reaped_s: float
    """CPU time of the children it has waited for; an exited child moves there from its own clock."""

    @property
    def total_s(self) -> float:
        return self.own_s + self.reaped_s


class ProcessTree:
    """Cumulative CPU seconds and resident bytes of process trees; `track` may be called from any thread."""

    def __init__(self, rescan_s: float = RESCAN_S) -> None:
        self._rescan_s = rescan_s
        self._lock = threading.Lock()
        self._roots: tuple[int, ...] = ()
        self._members: dict[int, _Member] = {}
        self._retained_s = 0.0
        self._highest_s = 0.0
        self._next_scan_s = 0.0

    @property
    def tracking(self) -> bool:
        """Whether any root is set."""
        return bool(self._roots)

    def track(self, pids: Sequence[int]) -> None:
        """Follow the trees under these roots; what they used before is not counted."""
        with self._lock:
            self._scan()
            dropped = [m for m in self._members.values() if m.root not in pids]
            for member in dropped:
                self._retained_s += member.total_s
                del self._members[member.pid]
            fresh = [pid for pid in pids if pid not in self._roots]
            self._roots = tuple(pids)
            self._scan(fresh)

    def cpu_time_s(self) -> float:
        """CPU seconds, all threads and all processes, used under the roots since they were tracked."""
        with self._lock:
            if time.monotonic() >= self._next_scan_s or not self._refresh():
                self._scan()
            total_s = self._retained_s + sum(m.total_s for m in self._members.values())
            # /proc truncates reaped time to clock ticks, so an exit may take back up to two ticks.
            self._highest_s = max(self._highest_s, total_s)
            return self._highest_s

    def resident_bytes(self) -> float:
        """Resident memory of the live processes, shared pages once per process; NaN with none."""
        with self._lock:
            pids = list(self._members)
        sizes: list[int] = []
        for pid in pids:
            try:
                sizes.append(psutil.Process(pid).memory_info().rss)
            except psutil.Error:
                continue
        return float(sum(sizes)) if sizes else float("nan")

    def _refresh(self) -> bool:
        for member in self._members.values():
            own_s = _own_cpu_s(member.pid)
            if own_s is None:
                return False
            member.own_s = own_s
        return True

    def _scan(self, fresh_roots: Sequence[int] = ()) -> None:
        found: dict[int, _Member] = {}
        pending = [(pid, pid) for pid in self._roots]
        pending += [(m.pid, m.root) for m in self._members.values()]
        while pending:
            pid, root = pending.pop()
            if pid in found:
                continue
            member = _read_member(pid, root)
            known = self._members.get(pid)
            if member is None or (known is not None and known.started != member.started):
                continue
            found[pid] = member
            pending += [(child, root) for child in _children(pid)]
        self._retain_vanished(found)
        for pid, member in found.items():
            if member.root in fresh_roots and pid not in self._members:
                self._retained_s -= member.total_s
        self._members = found
        self._next_scan_s = time.monotonic() + self._rescan_s

    def _retain_vanished(self, found: dict[int, _Member]) -> None:
        """Keep the CPU time of exited members that no surviving ancestor has taken over by waiting."""
        left_s: dict[int | None, float] = {}
        for member in self._members.values():
            if member.pid in found:
                continue
            heir: int | None = member.parent
            while heir is not None and heir not in found:
                heir = self._members[heir].parent if heir in self._members else None
            if heir not in self._members:
                heir = None
            left_s[heir] = left_s.get(heir, 0.0) + member.total_s
        for heir, seconds in left_s.items():
            taken_s = 0.0 if heir is None else found[heir].reaped_s - self._members[heir].reaped_s
            if seconds - taken_s > _TRUNCATION_S:
                self._retained_s += seconds - max(taken_s, 0.0)


def _own_cpu_s(pid: int) -> float | None:
    """CPU seconds of one process without its children, None when it is gone."""
    if _IS_LINUX:
        try:
            # The kernel's clock id of another process' CPU time (clock_getcpuclockid): ns, /proc has 10 ms.
            return time.clock_gettime_ns((~pid << 3) | 2) * 1e-9
        except OSError:
            return None
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return times.user + times.system


def _read_member(pid: int, root: int) -> _Member | None:
    own_s = _own_cpu_s(pid)
    if own_s is None:
        return None
    try:
        if _IS_LINUX:
            # The command may hold spaces and brackets: fields are counted after its last bracket.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            reaped_s = (int(fields[13]) + int(fields[14])) / _TICKS_PER_S
            return _Member(pid, int(fields[1]), root, float(fields[19]), own_s, reaped_s)
        process = psutil.Process(pid)
        times = process.cpu_times()
        reaped_s = times.children_user + times.children_system
        return _Member(pid, process.ppid(), root, process.create_time(), own_s, reaped_s)
    except (OSError, psutil.Error):
        return None


def _children(pid: int) -> list[int]:
    if _IS_LINUX:
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            if tasks and (tasks[0] / "children").exists():
                return [int(child) for task in tasks for child in _read_words(task / "children")]
        except OSError:
            return []
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
