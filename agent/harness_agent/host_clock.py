"""Notice when the host's wall clock is set and when the host was asleep."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

STEP_NS = 100_000_000
"""NTP slews by at most 0.5 ms a second; a change of 100 ms between two looks a second apart is a step."""
SUSPEND_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class ClockReading:
    """Three clocks of one host, read together; ns."""

    monotonic_ns: int
    """Stands still while the host sleeps, never set."""
    boottime_ns: int
    """Goes on while the host sleeps, never set."""
    realtime_ns: int
    """The wall clock."""


@dataclass(frozen=True, slots=True)
class ClockEvent:
    """Something that happened to the clocks between two readings."""

    kind: str
    """`clock_step` or `suspended`."""
    detail: str


def read_clocks() -> ClockReading:
    """Read the three clocks."""
    monotonic_ns = time.monotonic_ns()
    if sys.platform == "darwin":
        # Python's monotonic clock is mach_absolute_time, which sleeps; CLOCK_MONOTONIC there does not.
        boottime_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    else:
        boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return ClockReading(monotonic_ns, boottime_ns, time.time_ns())


def compare_clocks(before: ClockReading, after: ClockReading) -> list[ClockEvent]:
    """Tell what happened between two readings.

    Args:
        before: the earlier reading.
        after: the later one.
    """
    events: list[ClockEvent] = []
    monotonic_ns = after.monotonic_ns - before.monotonic_ns
    boottime_ns = after.boottime_ns - before.boottime_ns
    asleep_ns = boottime_ns - monotonic_ns
    if asleep_ns > SUSPEND_NS:
        events.append(ClockEvent("suspended", f"the host was asleep for {asleep_ns / 1e9:.1f} s"))
    step_ns = after.realtime_ns - before.realtime_ns - boottime_ns
    if abs(step_ns) > STEP_NS:
        events.append(ClockEvent("clock_step", f"the wall clock was set by {step_ns / 1e9:+.3f} s"))
    return events
