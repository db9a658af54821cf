from __future__ import annotations

import asyncio

from harness_agent.task_queue import TaskQueue, key_of

from tests.agent.conftest import tasks


def taken(queue: TaskQueue, count: int) -> list[str]:
    async def run() -> list[str]:
        found: list[str] = []
        for _ in range(count):
            task = await queue.take()
            if task is not None:
                found.append(task.task_id)
        return found

    return asyncio.run(run())


def test_more_is_asked_for_before_the_queue_runs_dry() -> None:
    asked: list[int] = []
    queue = TaskQueue(2, lambda: asked.append(len(queue)))
    queue.add(tasks(6), last=False)
    taken(queue, 2)
    assert asked == []
    taken(queue, 2)
    assert asked == [3, 2]


def test_the_last_tasks_are_handed_out_and_then_none() -> None:
    asked: list[int] = []
    queue = TaskQueue(2, lambda: asked.append(0))
    queue.add(tasks(3), last=True)
    assert taken(queue, 5) == ["task-0", "task-1", "task-2"]
    assert asked == []


def test_a_task_offered_twice_waits_once() -> None:
    queue = TaskQueue(1, lambda: None)
    queue.add(tasks(3), last=False)
    queue.add(tasks(4), last=True)
    assert taken(queue, 9) == ["task-0", "task-1", "task-2", "task-3"]


def test_a_closed_queue_gives_back_what_waits() -> None:
    queue = TaskQueue(1, lambda: None)
    queue.add(tasks(3), last=False)
    assert queue.remove(key_of(tasks(3)[1]))
    assert not queue.remove(("task-9", 1))
    assert [task.task_id for task in queue.close()] == ["task-0", "task-2"]
    assert taken(queue, 1) == []


def test_quick_tasks_are_asked_for_in_larger_numbers() -> None:
    queue = TaskQueue(2, lambda: None)
    queue.add(tasks(500), last=False)
    assert TaskQueue(2, lambda: None).room() == 8
    taken(queue, 500)
    assert 100 < queue.room() <= 1000
