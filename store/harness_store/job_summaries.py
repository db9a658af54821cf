"""Jobs as listings show them: how many tasks in which state, and the joules so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, select

from harness_store.errors import UnknownJobError
from harness_store.models import Generation, Job, Run, RunEnergy, Task

ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True)
class JobSummary:
    """One job; the counts of all states add up to `tasks`."""

    job_id: str
    name: str
    state: str
    priority: int
    energy: str
    submitted_realtime_ns: int
    finished_realtime_ns: int | None
    reason: str | None
    tasks: int = 0
    ready: int = 0
    leased: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    measured: int = 0
    """Done tasks whose joules are final."""
    joules: float | None = None
    """Attributed to the job's queries so far; None before the first, and where some runs measured and others
    estimated: such joules are never added."""
    joules_kind: str | None = None
    """`measured`, `estimated`, `mixed`, or None where there are none."""


def job_summary(connection: Connection, job_id: str) -> JobSummary:
    """Return one job.

    Raises:
        UnknownJobError: no such job.
    """
    found = _summaries(connection, [job_id])
    if not found:
        raise UnknownJobError(f"there is no job {job_id!r}; `harness jobs` lists them")
    return found[0]


def job_summaries(connection: Connection, limit: int = 50) -> list[JobSummary]:
    """Return the newest jobs, newest first."""
    query = select(Job.job_id).order_by(Job.submitted_realtime_ns.desc(), Job.job_id.desc()).limit(limit)
    return _summaries(connection, [row.job_id for row in connection.execute(query)])


def _summaries(connection: Connection, job_ids: Sequence[str]) -> list[JobSummary]:
    states: dict[str, dict[str, int]] = {job_id: {} for job_id in job_ids}
    for row in connection.execute(
        select(Task.job_id, Task.state, func.count().label("n"))
        .where(Task.job_id.in_(job_ids))
        .group_by(Task.job_id, Task.state)
    ):
        states[row.job_id][row.state] = row.n
    measured = {
        row.job_id: row.n
        for row in connection.execute(
            select(Run.job_id, func.count().label("n"))
            .join(Generation, Generation.run_id == Run.run_id)
            .where(Run.job_id.in_(job_ids), Run.energy_state == "final", Generation.counted)
            .group_by(Run.job_id)
        )
    }
    joules = _joules(connection, job_ids)
    found: dict[str, JobSummary] = {}
    for row in connection.execute(
        select(
            Job.job_id,
            Job.name,
            Job.state,
            Job.priority,
            Job.energy,
            Job.submitted_realtime_ns,
            Job.finished_realtime_ns,
            Job.reason,
        ).where(Job.job_id.in_(job_ids))
    ):
        counts: dict[str, Any] = {**row._mapping, **states[row.job_id]}
        total, kind = joules.get(row.job_id, (None, None))
        found[row.job_id] = JobSummary(
            **counts,
            tasks=sum(states[row.job_id].values()),
            measured=measured.get(row.job_id, 0),
            joules=total,
            joules_kind=kind,
        )
    return [found[job_id] for job_id in job_ids if job_id in found]


def _joules(connection: Connection, job_ids: Sequence[str]) -> dict[str, tuple[float | None, str]]:
    """Return each job's attributed joules: by conservation the sum over its queries, from far fewer rows."""
    estimated = case((RunEnergy.energy_source == ESTIMATED, 1), else_=0)
    sums: dict[str, dict[int, float]] = {}
    for row in connection.execute(
        select(
            Run.job_id, estimated.label("estimated"), func.sum(RunEnergy.attributed_joules).label("joules")
        )
        .join(RunEnergy, RunEnergy.run_id == Run.run_id)
        .where(
            Run.job_id.in_(job_ids),
            RunEnergy.role == "primary",
            RunEnergy.attributed_joules.is_not(None),
        )
        .group_by(Run.job_id, estimated)
    ):
        sums.setdefault(row.job_id, {})[row.estimated] = row.joules
    found: dict[str, tuple[float | None, str]] = {}
    for job_id, kinds in sums.items():
        if len(kinds) > 1:
            found[job_id] = (None, "mixed")
        else:
            ((is_estimated, total),) = kinds.items()
            found[job_id] = (total, ESTIMATED if is_estimated else "measured")
    return found
