"""The tasks of one run that wait for a free place, and when to ask for more."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from harness_proto.v1 import work_pb2

LOW_WATER = 2
"""Ask for more when fewer than this many tasks per place are left unstarted."""
HIGH_WATER = 4
AHEAD_S = 4.0
"""Ask for as many tasks as this run has lately finished in this time: fewer round trips for quick tasks."""
MOST_TASKS = 1000
IDLE_LIMIT_S = 60.0
"""An engine that waits so long for an answer is stopped: the coordinator is away, and the model keeps memory."""

Key = tuple[str, int]


def key_of(task: work_pb2.Task) -> Key:
    """Return (task, attempt)."""
    return task.task_id, task.attempt


class TaskQueue:
    """First in, first out; ends when the coordinator has no more and the last task is taken."""

    def __init__(self, concurrency: int, on_low: Callable[[], None]) -> None:
        """Begin empty.

        Args:
            concurrency: tasks in flight together.
            on_low: called whenever a task is taken or missed while `wants_more`.
        """
        self._on_low = on_low
        self._concurrency = max(1, concurrency)
        self._tasks: deque[work_pb2.Task] = deque()
        self._changed = asyncio.Event()
        self._open = True
        self._last = False
        self._taken = 0
        self._first_take_s = 0.0

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def wants_more(self) -> bool:
        """Whether it is time to ask for more."""
        return self._open and not self._last and len(self._tasks) < LOW_WATER * self._concurrency

    def room(self) -> int:
        """Return how many tasks to ask for."""
        elapsed_s = time.monotonic() - self._first_take_s
        rate = self._taken / elapsed_s if self._taken > self._concurrency and elapsed_s > 0 else 0.0
        wanted = max(HIGH_WATER * self._concurrency, math.ceil(rate * AHEAD_S))
        return max(1, min(wanted, MOST_TASKS) - len(self._tasks))

    def add(self, tasks: list[work_pb2.Task], *, last: bool) -> None:
        """Take tasks; `last`: there will be no more."""
        known = {key_of(task) for task in self._tasks}
        self._tasks.extend(task for task in tasks if key_of(task) not in known)
        self._last = last
        self._changed.set()

    def end(self) -> None:
        """Expect no more tasks; those that wait are still handed out."""
        self._last = True
        self._changed.set()

    def close(self) -> list[work_pb2.Task]:
        """Hand out nothing any more and return what waits."""
        self._open = False
        rest = list(self._tasks)
        self._tasks.clear()
        self._changed.set()
        return rest

    def remove(self, key: Key) -> bool:
        """Take a task out; False when it is not here."""
        for task in self._tasks:
            if key_of(task) == key:
                self._tasks.remove(task)
                return True
        return False

    def waiting(self) -> list[Key]:
        """Return the tasks that wait."""
        return [key_of(task) for task in self._tasks]

    async def take(self) -> work_pb2.Task | None:
        """Return the next task, None when there will be none, or when nobody answers for too long."""
        while self._open:
            task = self._tasks.popleft() if self._tasks else None
            if self.wants_more:
                self._on_low()
            if task is not None:
                self._taken += 1
                self._first_take_s = self._first_take_s or time.monotonic()
                return task
            if self._last:
                break
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), IDLE_LIMIT_S)
            except TimeoutError:
                self._last = True
        self._changed.set()
        return None
