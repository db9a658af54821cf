"""The clock that the sampler lives on; tests put a simulated one in its place."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Time in ns, and waiting for a time."""

    def now_ns(self) -> int:
        """Return the time now."""
        ...

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        """Return at `t_ns`, or as soon as `stop` is set."""
        ...


class MonotonicClock:
    """CLOCK_MONOTONIC, which never steps and which every sample and generation of an agent is stamped on."""

    def now_ns(self) -> int:
        """Return CLOCK_MONOTONIC in ns."""
        return time.monotonic_ns()

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        """Sleep until `t_ns` or until `stop` is set."""
        remaining_ns = t_ns - time.monotonic_ns()
        if remaining_ns <= 0:
            return
        if remaining_ns < _SHORT_NS:
            # A plain sleep wakes some 50 us earlier than a condition wait, and costs a third of it.
            time.sleep(remaining_ns * 1e-9)
        else:
            stop.wait(remaining_ns * 1e-9)


_SHORT_NS = 60_000_000
"""Sleeps below this are not interruptible: they delay a stop by less than anyone notices."""
