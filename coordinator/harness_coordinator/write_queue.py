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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

MAX_GROUP = 512
"""Operations in one transaction; bounds how long the first of them waits for the last."""

MAX_WAITING = 20_000
"""Operations in the queue; beyond it callers wait, which slows their agents down instead of filling memory."""

PATIENCE_S = 0.25
"""How long what nobody waits for is gathered: each transaction costs a millisecond or two, whatever it holds."""

CROWD = 64
"""Operations in the queue beyond which nothing more is gathered."""

T = TypeVar("T")
R = TypeVar("R")
_log = logging.getLogger(__name__)


class Transactional(Protocol):
    """What the queue needs of a store."""

    def begin(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context manager of a connection in a transaction."""
        ...


_Operation = tuple[Callable[[Any], Any], "asyncio.Future[Any]"]


@dataclass(frozen=True, slots=True)
class _Part:
    """One caller's share of an operation that takes many shares at once."""

    function: Callable[[Any, list[Any]], Any]
    items: Sequence[Any]
    patient: bool = False

    def __call__(self, connection: Any) -> Any:
        return self.function(connection, list(self.items))


@dataclass(frozen=True, slots=True)
class _Patient:
    """An operation that waits for company."""

    operation: Callable[[Any], Any]

    def __call__(self, connection: Any) -> Any:
        return self.operation(connection)


@dataclass(slots=True)
class _Unit:
    """What is called once: an operation, or the parts of one function together."""

    call: Callable[[Any], Any]
    futures: list[asyncio.Future[Any]]
    parts: list[_Operation]


class WriteQueue:
    """Runs functions of a connection on one thread, in order, in shared transactions."""

    def __init__(self, store: Transactional, *, patience_s: float = PATIENCE_S) -> None:
        self._store = store
        self._patience_s = patience_s
        self._queue: queue.Queue[_Operation | None] = queue.Queue(MAX_WAITING)
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, operation: Callable[[Any], T], *, patient: bool = False) -> T:
        """Run `operation(connection)` and return its result once it is committed.

        Args:
            operation: what to do.
            patient: let it wait for others, so that it costs no transaction of its own.

        Raises:
            Exception: what the operation or the commit raised; nothing of it is stored then.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        item = (_Patient(operation) if patient else operation, future)
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            await loop.run_in_executor(None, self._queue.put, item)
        if not _is_patient(item[0]):
            self._hurry.set()
        return await future

    async def run_together(
        self, function: Callable[[Any, list[T]], R], items: Sequence[T], *, patient: bool = False
    ) -> R:
        """Run `function(connection, items)` once it is its turn, with the items of all who wait for the same.

        All of them get what it returned.

        Nobody suffers by it: when the common call fails, each caller's items are tried alone. The function must
        not mind in which order callers come. Patient callers may be let wait for more of them.

        Raises:
            Exception: what the function raised for these items; nothing of them is stored then.
        """
        return await self.run(_Part(function, items, patient))

    def close(self) -> None:
        """Finish what was queued and stop the thread."""
        self._queue.put(None)
        self._hurry.set()
        self._thread.join(timeout=30)

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            # Whoever is in a hurry sets the event after it is in the queue: cleared before the queue is emptied,
            # none is overlooked.
            if _is_patient(first[0]) and self._queue.qsize() < CROWD:
                self._hurry.wait(self._patience_s)
            self._hurry.clear()
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
        units = _units([item for item in group if not item[1].cancelled()])
        answers: list[_Answer] = []
        while units:
            failed: int | None = None
            results: list[Any] = []
            error: BaseException | None = None
            try:
                with self._store.begin() as connection:
                    for position, unit in enumerate(units):
                        failed = position
                        results.append(unit.call(connection))
                    failed = None
            except Exception as caught:  # noqa: BLE001 - whatever an operation raises belongs to its caller
                error = caught
            if error is None:
                answers += [(f, r, None) for u, r in zip(units, results, strict=True) for f in u.futures]
                break
            if failed is not None and len(units[failed].parts) > 1:
                units[failed : failed + 1] = [
                    _Unit(call, [f], [(call, f)]) for call, f in units[failed].parts
                ]
                continue
            if failed is None or len(units) == 1:
                answers += [(f, None, error) for u in units for f in u.futures]
                break
            answers += [(f, None, error) for f in units.pop(failed).futures]
        _tell(answers)


_Answer = tuple["asyncio.Future[Any]", Any, "BaseException | None"]


def _tell(answers: Sequence[_Answer]) -> None:
    """Wake every caller's loop once for all of its callers: waking it costs more than answering does."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
    for answer in answers:
        by_loop.setdefault(answer[0].get_loop(), []).append(answer)
    for loop, mine in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, mine)


def _resolve(answers: Sequence[_Answer]) -> None:
    for future, result, error in answers:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _is_patient(operation: Callable[[Any], Any]) -> bool:
    return isinstance(operation, _Patient) or (isinstance(operation, _Part) and operation.patient)


def _units(group: Sequence[_Operation]) -> list[_Unit]:
    """Put the parts of each function together, at the place of the first of them."""
    units: list[_Unit] = []
    together: dict[Callable[..., Any], _Unit] = {}
    for operation, future in group:
        if not isinstance(operation, _Part):
            units.append(_Unit(operation, [future], [(operation, future)]))
            continue
        unit = together.get(operation.function)
        if unit is None:
            unit = together[operation.function] = _Unit(operation, [], [])
            units.append(unit)
        unit.futures.append(future)
        unit.parts.append((operation, future))
    for function, unit in together.items():
        items = [item for part, _ in unit.parts if isinstance(part, _Part) for item in part.items]
        unit.call = _Part(function, items)
    return units
