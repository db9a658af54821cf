"""One writer, many callers: operations that arrive together share one transaction (group commit).

A durable commit costs a disk flush whatever it holds, so the queue takes everything that is waiting, runs it
in one transaction and resolves each caller when that transaction is on disk. An operation that raises is
undone and reported to its own caller alone: the others of its group are run again without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

MAX_GROUP = 512
"""Operations in one transaction; bounds how long the first of them waits for the last."""

MAX_WAITING = 20_000
"""Operations in the queue; beyond it callers wait, which slows their agents down instead of filling memory."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Transactional(Protocol):
    """What the queue needs of a store."""

    def begin(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context manager of a connection in a transaction."""
        ...


_Operation = tuple[Callable[[Any], Any], "Future[Any]"]


class WriteQueue:
    """Runs functions of a connection on one thread, in order, in shared transactions."""

    def __init__(self, store: Transactional) -> None:
        self._store = store
        self._queue: queue.Queue[_Operation | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, operation: Callable[[Any], T]) -> T:
        """Run `operation(connection)` and return its result once it is committed.

        Raises:
            Exception: what the operation or the commit raised; nothing of it is stored then.
        """
        future: Future[T] = Future()
        item = (operation, future)
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            await asyncio.get_running_loop().run_in_executor(None, self._queue.put, item)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Finish what was queued and stop the thread."""
        self._queue.put(None)
        self._thread.join(timeout=30)

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            group = [first]
            stop = False
            while len(group) < MAX_GROUP:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    stop = True
                    break
                group.append(item)
            self._run_group(group)
            if stop:
                return

    def _run_group(self, group: list[_Operation]) -> None:
        group = [item for item in group if item[1].set_running_or_notify_cancel()]
        while group:
            failed: int | None = None
            results: list[Any] = []
            error: BaseException | None = None
            try:
                with self._store.begin() as connection:
                    for position, (operation, _) in enumerate(group):
                        failed = position
                        results.append(operation(connection))
                    failed = None
            except Exception as caught:  # noqa: BLE001 - whatever an operation raises belongs to its caller
                error = caught
            if error is None:
                for (_, future), result in zip(group, results, strict=True):
                    future.set_result(result)
                return
            if failed is None or len(group) == 1:
                for _, future in group:
                    future.set_exception(error)
                return
            group.pop(failed)[1].set_exception(error)
