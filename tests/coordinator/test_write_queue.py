"""The write queue: one transaction for what waits together, and each caller gets its own answer."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness_coordinator.write_queue import WriteQueue


class Database:
    """A real database with a gate that holds the first transaction open, so that others pile up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.transactions = 0
        self.gate = threading.Event()
        with sqlite3.connect(path) as connection:
            connection.execute("create table t (x integer primary key)")

    @contextlib.contextmanager
    def begin(self) -> Iterator[sqlite3.Connection]:
        self.transactions += 1
        connection = sqlite3.connect(self._path)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def rows(self) -> list[int]:
        with contextlib.closing(sqlite3.connect(self._path)) as connection:
            return [x for (x,) in connection.execute("select x from t order by x")]


def insert(value: int):
    def operation(connection: sqlite3.Connection) -> int:
        connection.execute("insert into t values (?)", (value,))
        return value

    return operation


def test_what_waits_together_is_committed_together_and_a_failure_is_its_callers_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.db")
    writes = WriteQueue(database)

    entered = threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        entered.set()
        database.gate.wait(10)

    async def scenario() -> list[object]:
        first = asyncio.create_task(writes.run(hold))
        await asyncio.to_thread(entered.wait, 10)
        others = [asyncio.create_task(writes.run(insert(v))) for v in (1, 2, 2, 3)]
        await asyncio.sleep(0)
        database.gate.set()
        await first
        return list(await asyncio.gather(*others, return_exceptions=True))

    answers = asyncio.run(scenario())
    writes.close()
    assert answers[:2] == [1, 2]
    assert isinstance(answers[2], sqlite3.IntegrityError)
    assert answers[3] == 3
    assert database.rows() == [1, 2, 3]
    assert database.transactions == 3  # the held one, the group with the duplicate, the group without it


def test_close_finishes_what_was_queued(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.db")
    writes = WriteQueue(database)

    async def scenario() -> None:
        await asyncio.gather(*(writes.run(insert(v)) for v in range(50)))

    asyncio.run(scenario())
    writes.close()
    assert database.rows() == list(range(50))


def test_an_error_at_commit_reaches_every_caller(tmp_path: Path) -> None:
    class Failing(Database):
        @contextlib.contextmanager
        def begin(self) -> Iterator[sqlite3.Connection]:
            with super().begin() as connection:
                yield connection
                raise sqlite3.OperationalError("disk I/O error")

    writes = WriteQueue(Failing(tmp_path / "d.db"))
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
        asyncio.run(writes.run(insert(1)))
    writes.close()


def test_parts_of_one_function_are_run_together_and_a_bad_part_is_its_callers_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.db")
    queue = WriteQueue(database)
    calls: list[list[int]] = []

    def insert_all(connection: sqlite3.Connection, values: list[int]) -> None:
        calls.append(list(values))
        connection.executemany("insert into t values (?)", [(value,) for value in values])

    def held(connection: sqlite3.Connection) -> None:
        database.gate.wait(10)

    async def together() -> list[object]:
        first = asyncio.create_task(queue.run(held))
        await asyncio.sleep(0)
        rest = [
            asyncio.create_task(queue.run_together(insert_all, part)) for part in ([1, 2], [3], [3, 4], [5])
        ]
        await asyncio.sleep(0)
        database.gate.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    results = asyncio.run(together())
    queue.close()
    assert [type(r) for r in results] == [type(None)] * 3 + [sqlite3.IntegrityError, type(None)]
    assert database.rows() == [1, 2, 3, 5]
    assert calls[0] == [1, 2, 3, 3, 4, 5], "first all of them in one call"


def test_patient_callers_share_a_transaction_and_who_is_in_a_hurry_takes_them_along(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.db")
    queue = WriteQueue(database, patience_s=30.0)

    def insert_all(connection: sqlite3.Connection, values: list[int]) -> None:
        connection.executemany("insert into t values (?)", [(value,) for value in values])

    async def one_after_another() -> None:
        async with asyncio.TaskGroup() as tasks:
            for value in range(5):
                tasks.create_task(queue.run_together(insert_all, [value], patient=True))
                await asyncio.sleep(0.001)
            tasks.create_task(queue.run(insert(6), patient=True))
            await asyncio.sleep(0.001)
            tasks.create_task(queue.run(insert(5)))

    asyncio.run(asyncio.wait_for(one_after_another(), 20.0))
    queue.close()
    assert database.rows() == [0, 1, 2, 3, 4, 5, 6]
    assert database.transactions <= 2, "the hurry may come between the queue's two looks"
