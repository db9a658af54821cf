"""Joules of a router's own work on this machine, read from RAPL where it can be read, else estimated from CPU time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from harness_agent.discovery import discover
from harness_backends.telemetry.estimate import EstimateSource
from harness_backends.telemetry.source import Source

LEAST_S = 1.0
"""The work is repeated this long: a counter's tick and a scheduler's are then a hundredth of it and less."""
IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class RouterEnergy:
    """What routing one query took.

    Args:
        joules: per query; None where nothing tells.
        low: lower bound, the machine's idle power taken off; None of an estimate, whose error is not known.
        high: upper bound, everything the packages used meanwhile.
        kind: `measured`, `estimated`, or None.
    """

    joules: float | None = None
    low: float | None = None
    high: float | None = None
    kind: str | None = None


def energy_of(work: Callable[[], object], queries: int) -> RouterEnergy:
    """Return the joules that `work`, which routes `queries` queries, takes for each of them.

    Package counters are added up over packages; an estimate is used only where there is no counter, so that the two
    are never mixed.
    """
    found = discover(("rapl", "estimate"), with_host=False)
    try:
        packages = [
            s for s in found.sources if s.info.energy_source == "counter" and s.info.scope == "package"
        ]
        if packages:
            return _measured(packages, work, queries)
        for source in found.sources:
            if isinstance(source, EstimateSource):
                source.track([os.getpid()])
                joules, repeats, _ = _repeated([source], work)
                return RouterEnergy(joules / (repeats * queries), kind="estimated")
        return RouterEnergy()
    finally:
        found.close()


def _measured(packages: list[Source], work: Callable[[], object], queries: int) -> RouterEnergy:
    start_j, start_s = _joules(packages), time.monotonic()
    time.sleep(IDLE_S)
    idle_w = (_joules(packages) - start_j) / (time.monotonic() - start_s)
    joules, repeats, seconds = _repeated(packages, work)
    each = 1 / (repeats * queries)
    net = max(0.0, joules - idle_w * seconds)
    return RouterEnergy(joules * each, net * each, joules * each, "measured")


def _repeated(sources: list[Source], work: Callable[[], object]) -> tuple[float, int, float]:
    """Return joules, repetitions and seconds of doing the work for `LEAST_S`."""
    start_j, start_s, repeats = _joules(sources), time.monotonic(), 0
    while repeats == 0 or time.monotonic() - start_s < LEAST_S:
        work()
        repeats += 1
    return _joules(sources) - start_j, repeats, time.monotonic() - start_s


def _joules(sources: list[Source]) -> float:
    readings = [source.read() for source in sources]
    return sum(reading.energy_j for reading in readings if reading is not None)
