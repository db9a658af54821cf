"""What agents say counts for what they hold and for nothing else; many messages at once mean the same as one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness_coordinator.ingest import Told, apply_messages, apply_told
from harness_proto.v1 import fleet_pb2, work_pb2
from harness_store import jobs, leases
from harness_store.database import Store, open_store
from harness_store.models import Evaluation, Event, Generation, Run, Task
from sqlalchemy import Connection, select

from tests.store.worlds import NOW, S, insert_run, new_job, query_rows, register

RUNNING, FAILED, RELEASED = (
    fleet_pb2.TaskUpdate.RUNNING,
    fleet_pb2.TaskUpdate.FAILED,
    fleet_pb2.TaskUpdate.RELEASED,
)


class World:
    """Two agents with a run each; a1 holds the first four tasks, a2 the next two."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._seq = {"a1": 0, "a2": 0}
        with store.begin() as c:
            for agent in ("a1", "a2"):
                register(c, agent)
            self.job_id = jobs.insert_job(c, new_job(), query_rows(8)).job_id
            insert_run(c, self.job_id, "r1", agent_id="a1")
            insert_run(c, self.job_id, "r2", agent_id="a2")
            self.mine = self.lease(c, "r1", "a1", 4)
            self.theirs = self.lease(c, "r2", "a2", 2)

    def lease(self, c: Connection, run_id: str, agent_id: str, count: int) -> list[leases.LeasedTask]:
        return leases.lease_tasks(
            c, job_id=self.job_id, model_id="m0", hardware_index=0, run_id=run_id, agent_id=agent_id,
            limit=count, expires_realtime_ns=NOW + 20 * S, now_ns=NOW,
        )  # fmt: skip

    def message(self, agent: str, **body: object) -> fleet_pb2.AgentMessage:
        self._seq[agent] += 1
        return fleet_pb2.AgentMessage(seq=self._seq[agent], boot_id="b1", **body)  # type: ignore[arg-type]

    def result(
        self, agent: str, task: leases.LeasedTask, run: str, *, error: str = "", retryable: bool = True
    ) -> fleet_pb2.AgentMessage:
        number = task.query_id.removeprefix("q")
        generation = work_pb2.Generation(
            task_id=task.task_id, attempt=task.attempt, run_id=run, query_id=task.query_id, start_ns=1, end_ns=2,
            response="" if error else str(int(number) + 1), error=error, retryable=retryable,
        )  # fmt: skip
        return self.message(agent, generation=generation)

    def update(self, agent: str, task: leases.LeasedTask, run: str, state: int) -> fleet_pb2.AgentMessage:
        told = fleet_pb2.TaskUpdate(
            task_id=task.task_id, attempt=task.attempt, run_id=run, state=state, retryable=True
        )  # type: ignore[arg-type]
        return self.message(agent, task_update=told)

    def say(self, agent: str, *messages: fleet_pb2.AgentMessage) -> None:
        with self.store.begin() as c:
            apply_messages(c, agent, messages)

    def task(self, task_id: str) -> tuple[str, int, int, bool]:
        with self.store.read() as c:
            row = c.execute(select(*Task.__table__.columns).where(Task.task_id == task_id)).one()
        return row.state, row.attempt, row.failures, row.started_realtime_ns is not None

    def counted(self, task_id: str) -> list[bool]:
        with self.store.read() as c:
            query = (
                select(Generation.counted).where(Generation.task_id == task_id).order_by(Generation.attempt)
            )
            return list(c.execute(query).scalars())

    def events(self, kind: str) -> int:
        with self.store.read() as c:
            return len(c.execute(select(Event.event_id).where(Event.kind == kind)).all())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Yield the world on a fresh database."""
    store = open_store(f"sqlite:///{tmp_path / 'world.db'}")
    yield World(store)
    store.close()


def test_a_whole_life_in_one_group_of_messages(world: World) -> None:
    done, failed, released, started = world.mine
    world.say(
        "a1",
        *(world.update("a1", t, "r1", RUNNING) for t in (done, failed, started)),
        world.result("a1", done, "r1"),
        world.result("a1", failed, "r1", error="HTTP 500"),
        world.update("a1", released, "r1", RELEASED),
        world.result("a1", done, "r1"),
    )
    assert world.task(done.task_id) == ("done", 1, 0, True)
    assert world.task(failed.task_id)[:3] == ("ready", 1, 1)
    assert world.task(released.task_id)[:3] == ("ready", 1, 0)
    assert world.task(started.task_id) == ("running", 1, 0, True)
    assert world.counted(done.task_id) == [True]
    assert world.counted(failed.task_id) == [False]
    with world.store.read() as c:
        verdicts = c.execute(select(Evaluation.task_id, Evaluation.correct)).all()
    assert [tuple(v) for v in verdicts] == [(done.task_id, True)]


def test_a_failure_that_must_not_be_tried_again_is_final_and_said(world: World) -> None:
    task = world.mine[0]
    world.say("a1", world.result("a1", task, "r1", error="bad prompt", retryable=False))
    assert world.task(task.task_id)[0] == "failed"
    assert world.events("task_failed") == 1


def test_what_was_said_before_changes_nothing(world: World) -> None:
    message = world.result("a1", world.mine[0], "r1")
    world.say("a1", message)
    world.say("a1", message, world.result("a1", world.mine[0], "r1"))
    assert world.counted(world.mine[0].task_id) == [True]


def test_a_late_result_is_evidence_and_does_not_count(world: World) -> None:
    task = world.mine[0]
    with world.store.begin() as c:
        leases.expire(c, now_ns=NOW + 21 * S)
        again = world.lease(c, "r2", "a2", 8)
    assert task.task_id in {t.task_id for t in again}
    (second,) = [t for t in again if t.task_id == task.task_id]
    world.say("a1", world.result("a1", task, "r1"))
    assert world.counted(task.task_id) == [False]
    assert world.task(task.task_id)[0] == "leased"
    world.say("a2", world.result("a2", second, "r2"))
    assert world.counted(task.task_id) == [False, True]


def test_an_agent_cannot_touch_what_another_holds(world: World) -> None:
    theirs = world.theirs[0]
    before = world.task(theirs.task_id)
    hostile = [
        world.result("a1", theirs, "r2"),  # in the other's run
        world.result("a1", theirs, "r1"),  # under the other's attempt, in a run of its own
        world.update("a1", theirs, "r2", FAILED),
        world.update("a1", theirs, "r1", RELEASED),
        world.message(
            "a1", run_update=fleet_pb2.RunUpdate(run_id="r2", phase=fleet_pb2.RunUpdate.ENDED, t_ns=5)
        ),
    ]
    world.say("a1", *hostile)
    assert world.task(theirs.task_id) == before
    assert world.counted(theirs.task_id) == []
    assert world.events("foreign_run") == 2
    with world.store.read() as c:
        assert c.execute(select(Run.state).where(Run.run_id == "r2")).scalar_one() == "leased"
    world.say("a2", world.result("a2", theirs, "r2"))
    assert world.counted(theirs.task_id) == [True]


def test_a_result_of_the_future_is_not_kept(world: World) -> None:
    task = world.mine[0]
    ahead = world.result("a1", task, "r1")
    ahead.generation.attempt = 7
    world.say("a1", ahead)
    assert world.counted(task.task_id) == []


def test_many_agents_messages_applied_together_mean_what_they_mean_one_by_one(world: World) -> None:
    mine, theirs = world.mine, world.theirs
    a1 = [world.result("a1", mine[0], "r1"), world.result("a1", theirs[0], "r2")]
    a2 = [world.update("a2", theirs[0], "r2", RUNNING), world.result("a2", theirs[0], "r2"),
          world.result("a2", mine[1], "r1")]  # fmt: skip
    again = [a1[0], world.result("a1", mine[1], "r1")]
    with world.store.begin() as c:
        apply_told(c, [Told("a1", a1), Told("a2", a2), Told("a1", again)])
    assert [world.counted(task.task_id) for task in (mine[0], mine[1], theirs[0])] == [[True]] * 3
    assert world.task(theirs[0].task_id) == ("done", 1, 0, True)
    assert world.events("foreign_run") == 2, "each spoke once of the other's run"
