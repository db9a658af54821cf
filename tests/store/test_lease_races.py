"""Leases with several connections at once: nothing is given twice, nothing is lost."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from harness_store import jobs, leases
from harness_store.database import Store
from harness_store.models import Task
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from tests.store.worlds import NOW, S, insert_run, new_job, query_rows, register

TASKS = 120
NO_DELAY = (0.0,)


def _world(store: Store, submission_id: str = "s1", tasks: int = TASKS, **job: Any) -> str:
    with store.begin() as c:
        for agent_id in ("a1", "a2"):
            register(c, agent_id)
        job_id = jobs.insert_job(c, new_job(submission_id, **job), query_rows(tasks)).job_id
        for agent_id in ("a1", "a2"):
            insert_run(c, job_id, f"run-{job_id}-{agent_id}", agent_id=agent_id)
    return job_id


def _lease(c: Any, job_id: str, agent_id: str, limit: int, now_ns: int = NOW) -> list[leases.LeasedTask]:
    return leases.lease_tasks(
        c,
        job_id=job_id,
        model_id="m0",
        hardware_index=0,
        run_id=f"run-{job_id}-{agent_id}",
        agent_id=agent_id,
        limit=limit,
        expires_realtime_ns=now_ns + 20 * S,
        now_ns=now_ns,
    )


def _together(*workers: Callable[[], None]) -> None:
    """Run functions at the same moment and raise what the first of them raised."""
    gate, errors = threading.Barrier(len(workers)), []

    def run(worker: Callable[[], None]) -> None:
        try:
            gate.wait(10)
            worker()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "two transactions wait for each other"
    if errors:
        raise errors[0]


def test_two_connections_never_lease_the_same_task(store: Store) -> None:
    job_id = _world(store)
    given: list[tuple[str, int]] = []

    def take(agent_id: str) -> Callable[[], None]:
        def work() -> None:
            mine: list[tuple[str, int]] = []
            while True:
                with store.begin() as c:
                    tasks = _lease(c, job_id, agent_id, 7)
                if not tasks:
                    # Rows that the other one holds locked at this moment are passed over, not gone.
                    with store.read() as c:
                        if not leases.ready_groups(c, NOW):
                            break
                mine += [(t.task_id, t.attempt) for t in tasks]
            given.extend(mine)

        return work

    _together(take("a1"), take("a2"), take("a1"), take("a2"))
    assert len(given) == TASKS
    assert len(set(given)) == TASKS
    with store.read() as c:
        assert jobs.job_summary(c, job_id).leased == TASKS


def test_completing_and_expiring_at_once_counts_each_task_once(store: Store) -> None:
    job_id = _world(store, tasks=60, max_attempts=20)
    counted: Counter[str] = Counter()

    def finish(agent_id: str, seed: int) -> Callable[[], None]:
        chance = random.Random(seed)

        def work() -> None:
            while True:
                with store.begin() as c:
                    tasks = _lease(c, job_id, agent_id, 5)
                if not tasks:
                    with store.read() as c:
                        if jobs.job_summary(c, job_id).done == 60:
                            return
                for task in chance.sample(tasks, len(tasks)):
                    fence = {
                        "task_id": task.task_id,
                        "attempt": task.attempt,
                        "agent_id": agent_id,
                        "run_id": f"run-{job_id}-{agent_id}",
                        "now_ns": NOW,
                    }
                    with store.begin() as c:
                        if leases.complete(c, **fence):
                            counted[task.task_id] += 1

        return work

    def expire() -> None:
        while True:
            with store.begin() as c:
                leases.expire(c, now_ns=NOW + 30 * S, retry_delays_s=())
            with store.read() as c:
                if jobs.job_summary(c, job_id).done == 60:
                    return

    _together(finish("a1", 1), finish("a2", 2), expire)
    assert set(counted.values()) == {1}
    assert len(counted) == 60


def test_renewing_and_expiring_at_once_do_not_wait_for_each_other_for_ever(store: Store) -> None:
    job_id = _world(store, tasks=40)
    with store.begin() as c:
        held = {a: [(t.task_id, t.attempt) for t in _lease(c, job_id, a, 20)] for a in ("a1", "a2")}
    kept: dict[str, set[tuple[str, int]]] = {}

    def renew(agent_id: str) -> Callable[[], None]:
        def work() -> None:
            pairs = held[agent_id]
            for round_ in range(15):
                with store.begin() as c:
                    lost = leases.renew(c, agent_id, pairs, NOW + (50 + round_) * S)
                pairs = [p for p in pairs if p not in lost]
            kept[agent_id] = set(pairs)

        return work

    def expire() -> None:
        for round_ in range(15):
            with store.begin() as c:
                leases.expire(c, now_ns=NOW + (15 + round_) * S, retry_delays_s=NO_DELAY)

    _together(renew("a1"), expire, renew("a2"))
    with store.read() as c:
        rows = c.execute(
            select(Task.task_id, Task.attempt, Task.lease_agent_id).where(Task.state == "leased")
        ).all()
    still = {a: {(r.task_id, r.attempt) for r in rows if r.lease_agent_id == a} for a in ("a1", "a2")}
    assert kept == still


def test_a_cancelled_job_has_no_task_left_that_an_agent_just_got(store: Store) -> None:
    job_id = _world(store)

    def take() -> None:
        for _ in range(30):
            with store.begin() as c:
                _lease(c, job_id, "a1", 3)

    def cancel() -> None:
        with store.begin() as c:
            jobs.cancel_job(c, job_id, now_ns=NOW)

    _together(take, cancel)
    with store.read() as c:
        summary = jobs.job_summary(c, job_id)
    assert (summary.state, summary.cancelled) == ("cancelled", TASKS)


_submissions = iter(range(10**9))

# What can happen to a lease, and in which order: each step is (what, which agent, how many).
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["lease", "run", "complete", "fail", "fail for good", "release", "expire", "replay"]),
        st.sampled_from(["a1", "a2"]),
        st.integers(1, 4),
    ),
    max_size=40,
)


@pytest.mark.parametrize("max_attempts", [1, 3])
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS, seed=st.integers(0, 2**16))
def test_whatever_happens_each_task_is_in_one_state_and_counted_at_most_once(
    store: Store, max_attempts: int, steps: list[tuple[str, str, int]], seed: int
) -> None:
    job_id = _world(store, f"s{next(_submissions)}", tasks=6, max_attempts=max_attempts)
    chance = random.Random(seed)
    now_ns, seen, said, counted, costly = NOW, [], [], Counter(), Counter()
    running: set[tuple[str, int]] = set()
    with store.begin() as c:
        for what, agent_id, count in steps:
            now_ns += 5 * S
            if what == "lease":
                fresh = _lease(c, job_id, agent_id, count, now_ns)
                assert not {(t.task_id, t.attempt) for t in fresh} & {
                    (s["task_id"], s["attempt"]) for s in seen
                }
                seen += [
                    {"task_id": t.task_id, "attempt": t.attempt, "agent_id": agent_id,
                     "run_id": f"run-{job_id}-{agent_id}"}
                    for t in fresh
                ]  # fmt: skip
                continue
            if what == "expire":
                returned = leases.expire(c, now_ns=now_ns, retry_delays_s=NO_DELAY)
                for task in returned.tasks:
                    costly[task.task_id] += (task.task_id, task.attempt) in running
                continue
            if not seen:
                continue
            fence = chance.choice(seen)
            key = (fence["task_id"], fence["attempt"])
            if what == "run":
                if leases.mark_running(c, **fence, now_ns=now_ns):
                    running.add(key)
            elif what == "release":
                leases.release(c, **fence, now_ns=now_ns)
            elif what.startswith("fail"):
                state = leases.fail(
                    c, **fence, reason="no", retryable=what == "fail", now_ns=now_ns, retry_delays_s=NO_DELAY
                )
                costly[fence["task_id"]] += state is not None
            else:
                fence = chance.choice(said) if what == "replay" and said else fence
                said.append(fence)
                before = counted[fence["task_id"]]
                if leases.complete(c, **fence, now_ns=now_ns):
                    counted[fence["task_id"]] = fence["attempt"]
                    assert before in (0, fence["attempt"]), "two attempts of one task were counted"
        rows = c.execute(select(*Task.__table__.columns).where(Task.job_id == job_id)).all()
        assert len(rows) == 6
        for row in rows:
            assert (row.state == "done") == (counted[row.task_id] > 0)
            assert (row.lease_expires_realtime_ns is not None) == (row.state in ("leased", "running"))
            assert row.failures == costly[row.task_id]
            assert row.failures <= max_attempts
            if row.state == "ready":
                assert row.lease_agent_id is None
                assert row.failures < max_attempts
        total = c.execute(select(func.count()).where(Task.job_id == job_id)).scalar_one()
        summary = jobs.job_summary(c, job_id)
        assert summary.tasks == total == 6
