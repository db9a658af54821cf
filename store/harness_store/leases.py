"""Leases: which agent and run works on which task, fenced by attempt numbers.

Every change is conditional on the state it starts from, so that two coordinators on one database never give a
task away twice and a late message of an earlier attempt changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, func, literal_column, select, update

from harness_store.listed import listed, one_of
from harness_store.models import Job, JobModel, Query, Run, Task
from harness_store.retries import (
    FENCE,
    IS_HELD,
    RETRY_DELAYS_S,
    Returned,
    ReturnedTask,
    fence_values,
    give_back,
    held_tasks,
    lock_held,
    take_back,
)
from harness_store.rows import chunks

__all__ = ["RETRY_DELAYS_S", "Returned", "ReturnedTask"]

READY_COUNT_CAP = 10_000
"""Ready tasks of a group are counted up to here: a poll must not scan a million rows."""


@dataclass(frozen=True, slots=True)
class ReadyGroup:
    """Ready tasks of one job that differ only in query and repetition."""

    job_id: str
    model_id: str
    hardware_index: int
    priority: int
    submitted_realtime_ns: int
    energy: str
    ready_count: int
    """At most `READY_COUNT_CAP`."""


@dataclass(frozen=True, slots=True)
class LeasedTask:
    """A task given to an agent, with the query to run."""

    task_id: str
    attempt: int
    repetition: int
    query_id: str
    text: str
    messages_json: str | None
    extra_json: str | None = None


def ready_groups(connection: Connection, now_ns: int) -> list[ReadyGroup]:
    """Return the groups of active jobs that have ready tasks whose retry time has come.

    The cost grows with the number of active groups, not with the number of tasks.
    """
    groups: list[ReadyGroup] = []
    for job in connection.execute(_ACTIVE_JOBS).all():
        for hardware_index in range(job.hardware_count):
            key = _group_values(job.job_id, job.model_id, hardware_index, now_ns)
            count = connection.execute(_COUNT_READY, key).scalar_one()
            if count:
                groups.append(
                    ReadyGroup(
                        job_id=job.job_id,
                        model_id=job.model_id,
                        hardware_index=hardware_index,
                        priority=job.priority,
                        submitted_realtime_ns=job.submitted_realtime_ns,
                        energy=job.energy,
                        ready_count=count,
                    )
                )
    return groups


def lease_tasks(
    connection: Connection,
    *,
    job_id: str,
    model_id: str,
    hardware_index: int,
    run_id: str,
    agent_id: str,
    limit: int,
    expires_realtime_ns: int,
    now_ns: int,
) -> list[LeasedTask]:
    """Give up to `limit` ready tasks of a group to an agent's run, each with its next attempt number.

    Fresh tasks come first in the order of the dataset, then retries that are due. Tasks that another
    coordinator is giving away at this moment are passed over.
    """
    picked = connection.execute(
        _NEXT_READY, {"b_limit": limit, **_group_values(job_id, model_id, hardware_index, now_ns)}
    ).all()
    if picked:
        given = {
            "b_ids": listed(row.task_id for row in picked),
            "b_agent_id": agent_id,
            "b_run_id": run_id,
            "b_expires_ns": expires_realtime_ns,
            "b_now_ns": now_ns,
        }
        connection.execute(_GIVE, given)
    # The rows are locked: nobody else has raised their attempts meanwhile.
    return [
        LeasedTask(
            row.task_id,
            row.attempt + 1,
            row.repetition,
            row.query_id,
            row.text,
            row.messages_json,
            row.extra_json,
        )
        for row in picked
    ]


def renew(
    connection: Connection, agent_id: str, held: Iterable[tuple[str, int]], expires_realtime_ns: int
) -> list[tuple[str, int]]:
    """Renew the leases of the tasks that an agent holds; return those that are its own no more."""
    pairs = list(dict.fromkeys(held))
    if not pairs:
        return []
    rows = connection.execute(
        select(Task.task_id, Task.attempt)
        .where(Task.lease_agent_id == agent_id, IS_HELD)
        .order_by(Task.task_id)
        .with_for_update()
    )
    current = {(row.task_id, row.attempt) for row in rows}
    for chunk in chunks([task_id for task_id, attempt in pairs if (task_id, attempt) in current]):
        connection.execute(
            update(Task)
            .where(Task.task_id.in_(chunk), Task.lease_agent_id == agent_id, IS_HELD)
            .values(lease_expires_realtime_ns=expires_realtime_ns)
        )
    return [pair for pair in pairs if pair not in current]


def mark_running(
    connection: Connection, *, task_id: str, attempt: int, agent_id: str, run_id: str, now_ns: int
) -> bool:
    """Note that a leased task was started; return False where it is not leased so any more."""
    values = {"b_now_ns": now_ns, **fence_values(task_id, attempt, agent_id, run_id)}
    return connection.execute(_MARK_RUNNING, values).rowcount == 1


def complete(
    connection: Connection, *, task_id: str, attempt: int, agent_id: str, run_id: str, now_ns: int
) -> bool:
    """Note that a task is done; return whether this attempt is the one that counts.

    Said again of the same attempt it changes nothing and returns the same.
    """
    fence = fence_values(task_id, attempt, agent_id, run_id)
    if connection.execute(_COMPLETE, {"b_now_ns": now_ns, **fence}).rowcount == 1:
        return True
    return connection.execute(_IS_DONE, fence).first() is not None


def fail(
    connection: Connection,
    *,
    task_id: str,
    attempt: int,
    agent_id: str,
    run_id: str,
    reason: str,
    retryable: bool,
    now_ns: int,
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
) -> str | None:
    """Note that an attempt failed: the task is ready again after a delay, or failed for good.

    Returns:
        The task's state now, or None where this attempt does not count any more.
    """
    row = lock_held(connection, fence_values(task_id, attempt, agent_id, run_id))
    if row is None:
        return None
    return give_back(
        connection,
        row,
        costs_attempt=True,
        retryable=retryable,
        reason=reason,
        now_ns=now_ns,
        retry_delays_s=retry_delays_s,
    ).state


def release(
    connection: Connection, *, task_id: str, attempt: int, agent_id: str, run_id: str, now_ns: int
) -> bool:
    """Take back a task that was not started: it is ready at once and no attempt was used up."""
    row = lock_held(connection, fence_values(task_id, attempt, agent_id, run_id))
    if row is None:
        return False
    give_back(
        connection, row, costs_attempt=False, retryable=True, reason=None, now_ns=now_ns, retry_delays_s=()
    )
    return True


def expire(
    connection: Connection, *, now_ns: int, retry_delays_s: Sequence[float] = RETRY_DELAYS_S
) -> Returned:
    """Take back every task whose lease has ended. One that was started has used up an attempt."""
    rows = connection.execute(
        held_tasks()
        .where(Task.lease_expires_realtime_ns < now_ns, IS_HELD)
        .order_by(Task.task_id)
        .with_for_update(skip_locked=True)
    ).all()
    return take_back(
        connection,
        rows,
        reason="the agent was not heard of any more",
        now_ns=now_ns,
        retry_delays_s=retry_delays_s,
    )


def release_older_boots(
    connection: Connection,
    agent_id: str,
    boot_id: str,
    *,
    now_ns: int,
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
) -> Returned:
    """Take back what earlier processes of an agent held, once all they had to tell is stored."""
    rows = connection.execute(
        held_tasks()
        .join(Run, Run.run_id == Task.run_id)
        .where(Task.lease_agent_id == agent_id, IS_HELD, Run.boot_id != boot_id)
        .order_by(Task.task_id)
        .with_for_update(of=Task)
    ).all()
    return take_back(
        connection, rows, reason="the agent's process ended", now_ns=now_ns, retry_delays_s=retry_delays_s
    )


def release_agent(
    connection: Connection,
    agent_id: str,
    *,
    now_ns: int,
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
) -> Returned:
    """Take back everything an agent holds, because it was removed from the fleet."""
    rows = connection.execute(
        held_tasks().where(Task.lease_agent_id == agent_id, IS_HELD).order_by(Task.task_id).with_for_update()
    ).all()
    return take_back(
        connection, rows, reason="the agent was removed", now_ns=now_ns, retry_delays_s=retry_delays_s
    )


def fail_ready(
    connection: Connection, *, job_id: str, model_id: str, hardware_index: int, reason: str, now_ns: int
) -> int:
    """Fail every ready task of a group, also those whose retry time has not come; return how many."""
    return connection.execute(
        update(Task)
        .where(
            Task.job_id == job_id,
            Task.model_id == model_id,
            Task.hardware_index == hardware_index,
            Task.state == "ready",
        )
        .values(state="failed", reason=reason, updated_realtime_ns=now_ns)
    ).rowcount


def _group_values(job_id: str, model_id: str, hardware_index: int, now_ns: int) -> dict[str, str | int]:
    """Return the parameters of `_IS_READY`."""
    return {"b_job_id": job_id, "b_model_id": model_id, "b_hardware": hardware_index, "b_now_ns": now_ns}


# Building a statement costs five times what running it does: those of every round and every task are built once.
_ACTIVE_JOBS = (
    select(
        Job.job_id,
        JobModel.model_id,
        Job.hardware_count,
        Job.priority,
        Job.submitted_realtime_ns,
        Job.energy,
    )
    .join(JobModel, JobModel.job_id == Job.job_id)
    .where(Job.state == literal_column("'active'"))
    .order_by(Job.submitted_realtime_ns, Job.job_id, JobModel.ordinal)
)
_IS_READY = (
    Task.job_id == bindparam("b_job_id"),
    Task.model_id == bindparam("b_model_id"),
    Task.hardware_index == bindparam("b_hardware"),
    Task.state == literal_column("'ready'"),
    Task.not_before_realtime_ns <= bindparam("b_now_ns"),
)
_COUNT_READY = select(func.count()).select_from(
    select(Task.task_id).where(*_IS_READY).limit(READY_COUNT_CAP).subquery()
)
_NEXT_READY = (
    select(
        Task.task_id,
        Task.attempt,
        Task.repetition,
        Task.query_id,
        Query.text,
        Query.messages_json,
        Query.extra_json,
    )
    .join(Query, and_(Query.dataset_id == Task.dataset_id, Query.query_id == Task.query_id))
    .where(*_IS_READY)
    .order_by(Task.not_before_realtime_ns, Task.ordinal)
    .limit(bindparam("b_limit"))
    .with_for_update(skip_locked=True, of=Task)
)
_GIVE = (
    update(Task)
    .where(one_of(Task.task_id, "b_ids"), Task.state == literal_column("'ready'"))
    .values(
        state="leased",
        attempt=Task.attempt + 1,
        lease_agent_id=bindparam("b_agent_id"),
        run_id=bindparam("b_run_id"),
        lease_expires_realtime_ns=bindparam("b_expires_ns"),
        started_realtime_ns=None,
        reason=None,
        updated_realtime_ns=bindparam("b_now_ns"),
    )
)
_MARK_RUNNING = (
    update(Task)
    .where(*FENCE, Task.state == literal_column("'leased'"))
    .values(
        state="running", started_realtime_ns=bindparam("b_now_ns"), updated_realtime_ns=bindparam("b_now_ns")
    )
)
_COMPLETE = (
    update(Task)
    .where(*FENCE, IS_HELD)
    .values(
        state="done", lease_expires_realtime_ns=None, reason=None, updated_realtime_ns=bindparam("b_now_ns")
    )
)
_IS_DONE = select(Task.task_id).where(*FENCE, Task.state == literal_column("'done'"))
