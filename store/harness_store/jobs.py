"""Jobs: what was asked for, cancellation, retry, completion."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    bindparam,
    exists,
    literal_column,
    select,
    update,
)

from harness_store import datasets
from harness_store.datasets import QueryRow
from harness_store.errors import UnknownJobError
from harness_store.job_summaries import JobSummary, job_summaries, job_summary
from harness_store.listed import is_any
from harness_store.models import Job, Run, Task
from harness_store.retries import HELD
from harness_store.submission import InsertedJob, NewJob, NewModel, insert_job, new_job_id

__all__ = [
    "InsertedJob",
    "JobSummary",
    "NewJob",
    "NewModel",
    "QueryRow",
    "insert_job",
    "job_summaries",
    "job_summary",
    "new_job_id",
]

OPEN = ("ready", *HELD)
RUN_OPEN = ("leased", "started", "ready")
ENERGY_OPEN = ("pending", "provisional")


@dataclass(frozen=True, slots=True)
class HeldByAgent:
    """A task that an agent should be told to stop."""

    agent_id: str
    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class FailedTask:
    """A task that used up its attempts."""

    task_id: str
    query_id: str
    model_id: str
    attempt: int
    reason: str | None


def spec_json(connection: Connection, job_id: str) -> str:
    """Return a job's validated file as JSON.

    Raises:
        UnknownJobError: no such job.
    """
    found = connection.execute(select(Job.spec_json).where(Job.job_id == job_id)).scalar()
    if found is None:
        raise _unknown(job_id)
    return found


def first_queries(connection: Connection, job_id: str, count: int) -> list[QueryRow]:
    """Return the first `count` queries of a job, for warming up."""
    job = connection.execute(select(Job.dataset_id, Job.query_count).where(Job.job_id == job_id)).first()
    if job is None:
        raise _unknown(job_id)
    return list(datasets.queries(connection, job.dataset_id, min(count, job.query_count)))


def job_of_run(connection: Connection, run_id: str) -> str | None:
    """Return the job of a run, None for a run that is not known."""
    return connection.execute(select(Run.job_id).where(Run.run_id == run_id)).scalar()


def failed_tasks(connection: Connection, job_id: str, limit: int = 20) -> list[FailedTask]:
    """Return the first failed tasks of a job; `attempt` is how many were made."""
    rows = connection.execute(
        select(Task.task_id, Task.query_id, Task.model_id, Task.attempt, Task.reason)
        .where(Task.job_id == job_id, Task.state == "failed")
        .order_by(Task.ordinal)
        .limit(limit)
    )
    return [FailedTask(**row._mapping) for row in rows]


def cancel_job(
    connection: Connection, job_id: str, *, now_ns: int, reason: str = "cancelled"
) -> list[HeldByAgent]:
    """Cancel everything of a job that is not done; return what agents still work on.

    Raises:
        UnknownJobError: no such job.
    """
    _lock_job(connection, job_id)
    held = connection.execute(
        select(Task.lease_agent_id.label("agent_id"), Task.task_id, Task.attempt)
        .where(Task.job_id == job_id, Task.state.in_(HELD))
        .order_by(Task.task_id)
        .with_for_update()
    ).all()
    cancelled = connection.execute(
        update(Task)
        .where(Task.job_id == job_id, Task.state.in_(OPEN))
        .values(state="cancelled", lease_expires_realtime_ns=None, reason=reason, updated_realtime_ns=now_ns)
    )
    if cancelled.rowcount:
        connection.execute(
            update(Job)
            .where(Job.job_id == job_id)
            .values(state="cancelled", finished_realtime_ns=now_ns, reason=reason)
        )
    return [HeldByAgent(**row._mapping) for row in held]


def retry_job(connection: Connection, job_id: str, *, now_ns: int) -> int:
    """Make a job's failed and cancelled tasks ready again with all their attempts; return how many.

    Raises:
        UnknownJobError: no such job.
    """
    _lock_job(connection, job_id)
    changed = connection.execute(
        update(Task)
        .where(Task.job_id == job_id, Task.state.in_(("failed", "cancelled")))
        .values(
            state="ready",
            failures=0,
            not_before_realtime_ns=0,
            lease_agent_id=None,
            run_id=None,
            reason=None,
            updated_realtime_ns=now_ns,
        )
    )
    if changed.rowcount:
        connection.execute(
            update(Job)
            .where(Job.job_id == job_id)
            .values(state="active", finished_realtime_ns=None, reason=None)
        )
    return changed.rowcount


def finish_if_complete(connection: Connection, job_id: str, now_ns: int) -> str | None:
    """Close an active job whose tasks are over and whose energy is computed.

    Returns:
        `done`, or `failed` where any task failed; None while something is open or the job was closed before.
    """
    if connection.execute(_COMPLETE, {"b_job_id": job_id}).first() is None:
        return None
    failed = connection.execute(
        select(Task.task_id).where(Task.job_id == job_id, Task.state == "failed").limit(1)
    ).first()
    state = "done" if failed is None else "failed"
    changed = connection.execute(
        update(Job)
        .where(Job.job_id == job_id, Job.state == "active")
        .values(state=state, finished_realtime_ns=now_ns, reason=None if failed is None else "tasks failed")
    )
    return state if changed.rowcount == 1 else None


def _lock_job(connection: Connection, job_id: str) -> None:
    if connection.execute(select(Job.job_id).where(Job.job_id == job_id).with_for_update()).first() is None:
        raise _unknown(job_id)


def _unknown(job_id: str) -> UnknownJobError:
    return UnknownJobError(f"there is no job {job_id!r}; `harness jobs` lists them")


# Asked after every group of messages: built once.
_JOB_ID = bindparam("b_job_id")
_COMPLETE = select(Job.job_id).where(
    Job.job_id == _JOB_ID,
    Job.state == literal_column("'active'"),
    ~exists().where(Task.job_id == _JOB_ID, is_any(Task.state, OPEN)),
    ~exists().where(
        Run.job_id == _JOB_ID, is_any(Run.state, RUN_OPEN) | is_any(Run.energy_state, ENERGY_OPEN)
    ),
)
