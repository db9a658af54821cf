"""When queries are sent: as places get free, or when they are due whatever the engine does (open loop)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from harness_proto.v1 import work_pb2

from harness_agent.task_queue import TaskQueue

CLOSED = "closed"
RECORDED = "recorded"
DEFAULT_IN_FLIGHT = 512
LATE_S = 0.01
"""A query sent later than this after it was due counts as late; the event loop's timer is good to 1 ms."""
TASKS_AHEAD_S = 4.0
"""As many tasks are kept ready as arrive in this time, so that no arrival waits for a lease."""
RECORDED_AHEAD = 64

Start = Callable[[work_pb2.Task], Awaitable[None]]


def is_open(arrivals: work_pb2.Arrivals) -> bool:
    """Return whether queries are sent when they are due."""
    return arrivals.kind not in ("", CLOSED)


def tasks_ahead(arrivals: work_pb2.Arrivals, concurrency: int) -> int:
    """Return how many tasks to reckon with at a time when asking for more."""
    if not is_open(arrivals):
        return concurrency
    if arrivals.kind == RECORDED:
        return max(concurrency, RECORDED_AHEAD)
    return max(concurrency, round(arrivals.rate_per_s * TASKS_AHEAD_S))


@dataclass(slots=True)
class Punctuality:
    """How well the schedule was kept."""

    sent: int = 0
    lags_s: list[float] = field(default_factory=list[float])

    def facts(self) -> dict[str, str]:
        """Return facts of the run: how many queries were late, and by how much at most."""
        if not self.sent:
            return {}
        return {
            "arrivals_sent": str(self.sent),
            "arrivals_late": str(sum(lag > LATE_S for lag in self.lags_s)),
            "arrivals_lag_max_s": f"{max(self.lags_s):.6f}",
        }


async def send_when_due(
    queue: TaskQueue,
    arrivals: work_pb2.Arrivals,
    may_start: asyncio.Event,
    start: Start,
    punctuality: Punctuality,
) -> None:
    """Start every task of the queue when it is due and wait until all are over.

    The schedule begins with the first task. A recorded one keeps the distances of the tasks' own arrival times, so
    that a run that takes over in the middle of a trace goes on from there.

    Args:
        queue: where tasks come from.
        arrivals: constant or poisson with a rate, or recorded.
        may_start: while cleared, nothing is started.
        start: runs one task to its end.
        punctuality: told how late each query was sent.
    """
    room = asyncio.Semaphore(arrivals.max_in_flight or DEFAULT_IN_FLIGHT)
    gaps = gaps_s(arrivals)
    flying: set[asyncio.Task[None]] = set()
    zero_s: float | None = None
    first_arrival_s = due_s = 0.0

    async def fly(task: work_pb2.Task) -> None:
        try:
            await start(task)
        finally:
            room.release()

    try:
        while (task := await queue.take()) is not None:
            if zero_s is None:
                zero_s, first_arrival_s = time.monotonic(), task.query.arrival_s
            elif arrivals.kind != RECORDED:
                due_s += next(gaps)
            if arrivals.kind == RECORDED:
                due_s = max(0.0, task.query.arrival_s - first_arrival_s)
            await asyncio.sleep(max(0.0, zero_s + due_s - time.monotonic()))
            await may_start.wait()
            await room.acquire()
            punctuality.sent += 1
            punctuality.lags_s.append(max(0.0, time.monotonic() - zero_s - due_s))
            flight = asyncio.create_task(fly(task))
            flying.add(flight)
            flight.add_done_callback(flying.discard)
        if flying:
            await asyncio.gather(*flying)
    finally:
        for flight in tuple(flying):
            flight.cancel()
        await asyncio.gather(*flying, return_exceptions=True)


def gaps_s(arrivals: work_pb2.Arrivals) -> Iterator[float]:
    """Yield the seconds between arrivals: all alike, or exponential with the seed (a Poisson process)."""
    chance = random.Random(arrivals.seed)  # noqa: S311 - a schedule that can be made again
    while True:
        if arrivals.kind == "poisson":
            yield chance.expovariate(arrivals.rate_per_s)
        else:
            yield 1.0 / arrivals.rate_per_s
