"""Asking the kernel to run the polling thread on time, where this process may ask."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

PREFERRED_NICE = -10
TIME_SLICE_NS = 3_000_000
"""About what another thread may keep a core for; a shorter poll interval cannot wait for its end."""


def prefer_this_thread(interval_ns: int) -> None:
    """Raise the calling thread's priority, as an engine that fills every core would hold its polls up.

    Allowed to root and under CAP_SYS_NICE only; without it polls are as late as the machine makes them. A poll
    takes some 50 us of work, so even the real-time class takes nothing worth mentioning from anyone.

    Args:
        interval_ns: time between polls.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PREFERRED_NICE)
        if interval_ns < TIME_SLICE_NS:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
