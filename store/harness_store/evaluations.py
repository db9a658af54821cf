"""Evaluations: whether an answer is right, by one method."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, select

from harness_store.models import Evaluation, Job, Query, Task
from harness_store.rows import absent_to_none, upsert


@dataclass(frozen=True, slots=True)
class Asked:
    """How a task's answer is to be judged."""

    method: str
    """`none`, `exact_match` or `judge`."""
    reference: str | None
    text: str


def asked_of_task(connection: Connection, task_id: str) -> Asked | None:
    """Return how a task's answer is judged and against what, None for a task that is not known."""
    row = connection.execute(_ASKED, {"b_task_id": task_id}).first()
    if row is None:
        return None
    return Asked(row.evaluation, row.reference, row.text)


def record(
    connection: Connection,
    *,
    task_id: str,
    attempt: int,
    method: str,
    correct: bool | None,
    score: float | None = None,
    detail: str | None = None,
    now_ns: int | None = None,
) -> None:
    """Store a verdict in the place of an earlier one of the same method."""
    row = {
        "task_id": task_id,
        "attempt": attempt,
        "method": method,
        "correct": correct,
        "score": absent_to_none(score),
        "detail": detail,
        "evaluated_realtime_ns": time.time_ns() if now_ns is None else now_ns,
    }
    upsert(connection, Evaluation, [row])


_ASKED = (
    select(Job.evaluation, Query.reference, Query.text)
    .select_from(Task)
    .join(Job, Job.job_id == Task.job_id)
    .join(Query, and_(Query.dataset_id == Task.dataset_id, Query.query_id == Task.query_id))
    .where(Task.task_id == bindparam("b_task_id"))
)
