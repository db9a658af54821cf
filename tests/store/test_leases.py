"""Leases: order, fencing, replays, expiry, retry and backoff."""

from __future__ import annotations

from typing import Any

import pytest
from harness_store import jobs, leases, runs
from harness_store.database import Store
from harness_store.models import Task
from sqlalchemy import Connection, select, update

from tests.store.worlds import NOW, S, insert_run, new_job, query_rows, register

DELAYS = (2.0, 10.0)


def _start(c: Connection, count: int = 3, **job: object) -> str:
    register(c)
    job_id = jobs.insert_job(c, new_job(**job), query_rows(count)).job_id  # type: ignore[arg-type]
    insert_run(c, job_id)
    return job_id


def _lease(
    c: Connection, job_id: str, limit: int = 10, now_ns: int = NOW, **more: Any
) -> list[leases.LeasedTask]:
    fields: dict[str, Any] = {"model_id": "m0", "hardware_index": 0, "run_id": "r1", "agent_id": "a1", **more}
    return leases.lease_tasks(
        c, job_id=job_id, limit=limit, expires_realtime_ns=now_ns + 20 * S, now_ns=now_ns, **fields
    )


def _fence(task: leases.LeasedTask, **more: Any) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "attempt": task.attempt,
        "agent_id": "a1",
        "run_id": "r1",
        "now_ns": NOW,
        **more,
    }


def _row(c: Connection, task_id: str) -> Any:
    return c.execute(select(*Task.__table__.columns).where(Task.task_id == task_id)).one()


def test_tasks_are_leased_in_the_order_of_the_dataset_and_each_once(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c, 5)
        first = _lease(c, job_id, 2)
        rest = _lease(c, job_id, 10)
        assert _lease(c, job_id) == []
    assert [t.query_id for t in first + rest] == ["q0", "q1", "q2", "q3", "q4"]
    assert first[0].text == "What is 0 + 1?"


def test_only_tasks_of_the_group_are_leased(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c, 2, models=2, hardware_count=2, repetitions=2)
        groups = leases.ready_groups(c, NOW)
        assert [(g.model_id, g.hardware_index, g.ready_count) for g in groups] == [
            ("m0", 0, 4), ("m0", 1, 4), ("m1", 0, 4), ("m1", 1, 4),
        ]  # fmt: skip
        leased = _lease(c, job_id, model_id="m1", hardware_index=1)
        assert [(t.query_id, t.repetition) for t in leased] == [("q0", 0), ("q1", 0), ("q0", 1), ("q1", 1)]
        assert len(leases.ready_groups(c, NOW)) == 3


@pytest.mark.parametrize(
    "other", [{"attempt": 2}, {"agent_id": "a2"}, {"run_id": "r2"}, {"task_id": "no such task"}], ids=str
)
def test_a_message_of_another_attempt_agent_or_run_changes_nothing(
    store: Store, other: dict[str, Any]
) -> None:
    with store.begin() as c:
        (task,) = _lease(c, _start(c, 1))
        late = _fence(task, **other)
        assert not leases.mark_running(c, **late)
        assert not leases.complete(c, **late)
        assert leases.fail(c, **late, reason="late", retryable=True) is None
        assert not leases.release(c, **late)
        row = _row(c, task.task_id)
    assert (row.state, row.attempt, row.failures, row.reason) == ("leased", 1, 0, None)


def test_an_answer_that_comes_after_the_lease_was_given_to_another_is_not_counted(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c, 1)
        register(c, "a2")
        insert_run(c, job_id, "r2", agent_id="a2")
        (old,) = _lease(c, job_id)
        leases.mark_running(c, **_fence(old))
        assert leases.expire(c, now_ns=NOW + 21 * S, retry_delays_s=DELAYS).jobs == {job_id}
        assert not leases.complete(c, **_fence(old))
        (new,) = _lease(c, job_id, now_ns=NOW + 30 * S, agent_id="a2", run_id="r2")
        assert new.attempt == old.attempt + 1
        assert not leases.complete(c, **_fence(old))
        assert leases.complete(c, **_fence(new, agent_id="a2", run_id="r2"))
        assert not leases.complete(c, **_fence(old))


def test_said_twice_is_counted_once(store: Store) -> None:
    with store.begin() as c:
        (task, other) = _lease(c, _start(c, 2))
        assert leases.mark_running(c, **_fence(task))
        assert not leases.mark_running(c, **_fence(task))
        assert leases.complete(c, **_fence(task))
        assert leases.complete(c, **_fence(task))
        assert leases.fail(c, **_fence(task), reason="no", retryable=True) is None
        assert not leases.release(c, **_fence(task))
        assert leases.fail(c, **_fence(other), reason="no", retryable=True) == "ready"
        assert leases.fail(c, **_fence(other), reason="no", retryable=True) is None
        assert _row(c, other.task_id).failures == 1
        assert _row(c, task.task_id).state == "done"


def test_retries_wait_longer_each_time_and_end_at_the_last_attempt(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c, 1, max_attempts=4)
        now, waits, states = NOW, [], []
        for attempt in range(1, 5):
            (task,) = _lease(c, job_id, now_ns=now)
            assert task.attempt == attempt
            fence = _fence(task, now_ns=now)
            states.append(leases.fail(c, **fence, reason="no", retryable=True, retry_delays_s=DELAYS))
            row = _row(c, task.task_id)
            waits.append((row.not_before_realtime_ns - now) / S)
            if states[-1] == "ready":
                assert leases.ready_groups(c, row.not_before_realtime_ns - 1) == []
                assert _lease(c, job_id, now_ns=row.not_before_realtime_ns - 1) == []
                now = row.not_before_realtime_ns
        assert states == ["ready", "ready", "ready", "failed"]
        assert waits[:3] == [2.0, 10.0, 10.0]
        assert leases.ready_groups(c, now + 10**6 * S) == []
        assert [f.reason for f in jobs.failed_tasks(c, job_id)] == ["no"]


def test_a_failure_that_no_retry_mends_is_final_at_once(store: Store) -> None:
    with store.begin() as c:
        (task,) = _lease(c, _start(c, 1))
        assert leases.fail(c, **_fence(task), reason="no such model", retryable=False) == "failed"


def test_a_task_given_back_unstarted_costs_no_attempt_and_keeps_its_place(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c, 2, max_attempts=1)
        for round_ in range(3):
            (task,) = _lease(c, job_id, 1)
            assert (task.query_id, task.attempt) == ("q0", round_ + 1)
            assert leases.release(c, **_fence(task))
        assert _row(c, task.task_id).failures == 0


def test_an_expired_lease_costs_an_attempt_only_where_the_task_was_started(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c, 3, max_attempts=1)
        started, waiting, renewed = _lease(c, job_id)
        leases.mark_running(c, **_fence(started))
        assert leases.renew(c, "a1", [(renewed.task_id, 1)], NOW + 60 * S) == []
        assert not leases.expire(c, now_ns=NOW + 20 * S, retry_delays_s=DELAYS)
        returned = leases.expire(c, now_ns=NOW + 20 * S + 1, retry_delays_s=DELAYS)
        assert {t.task_id: t.state for t in returned.tasks} == {
            started.task_id: "failed", waiting.task_id: "ready",
        }  # fmt: skip
        assert not leases.expire(c, now_ns=NOW + 21 * S, retry_delays_s=DELAYS)
        assert _row(c, renewed.task_id).state == "leased"


def test_renewing_names_what_is_no_longer_held(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c, 4)
        held, done, given, cancelled = _lease(c, job_id)
        leases.complete(c, **_fence(done))
        leases.release(c, **_fence(given))
        c.execute(update(Task).where(Task.task_id == cancelled.task_id).values(state="cancelled"))
        pairs = [(t.task_id, 1) for t in (held, done, given, cancelled)] + [(held.task_id, 9), ("x", 1)]
        lost = leases.renew(c, "a1", pairs, NOW + 99 * S)
        assert lost == [
            (done.task_id, 1),
            (given.task_id, 1),
            (cancelled.task_id, 1),
            (held.task_id, 9),
            ("x", 1),
        ]
        assert leases.renew(c, "a2", [(held.task_id, 1)], NOW) == [(held.task_id, 1)]
        assert _row(c, held.task_id).lease_expires_realtime_ns == NOW + 99 * S
        assert leases.renew(c, "a1", [], NOW) == []


def test_what_an_earlier_process_held_comes_back_when_a_new_one_asks_for_work(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c, 4)
        insert_run(c, job_id, "r2", boot_id="b2")
        old = _lease(c, job_id, 2)
        leases.mark_running(c, **_fence(old[0]))
        (mine,) = _lease(c, job_id, 1, run_id="r2")
        returned = leases.release_older_boots(c, "a1", "b2", now_ns=NOW, retry_delays_s=DELAYS)
        assert {t.task_id for t in returned.tasks} == {t.task_id for t in old}
        assert _row(c, old[0].task_id).failures == 1
        assert _row(c, mine.task_id).state == "leased"
        assert not leases.release_older_boots(c, "a1", "b2", now_ns=NOW, retry_delays_s=DELAYS)


def test_what_a_removed_agent_held_comes_back(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c, 2)
        _lease(c, job_id)
        assert len(leases.release_agent(c, "a1", now_ns=NOW).tasks) == 2
        assert leases.ready_groups(c, NOW)[0].ready_count == 2


def test_a_cancelled_job_gives_nothing_and_takes_no_late_answer(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c, 3)
        held, done = _lease(c, job_id, 2)
        leases.complete(c, **_fence(done))
        stop = jobs.cancel_job(c, job_id, now_ns=NOW)
        assert [(h.agent_id, h.task_id, h.attempt) for h in stop] == [("a1", held.task_id, 1)]
        assert leases.ready_groups(c, NOW) == []
        assert _lease(c, job_id) == []
        assert not leases.complete(c, **_fence(held))
        assert leases.renew(c, "a1", [(held.task_id, 1)], NOW) == [(held.task_id, 1)]
        summary = jobs.job_summary(c, job_id)
        assert (summary.state, summary.done, summary.cancelled) == ("cancelled", 1, 2)
        assert jobs.cancel_job(c, job_id, now_ns=NOW) == []
        assert runs.get_run(c, "r1").state == "leased"
