"""Judging a job's answers after they came: what is to be judged, verdicts stored, which method is official."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, bindparam, func, select, text, update

from harness_store.errors import UnknownJobError, UnknownMethodError
from harness_store.models import Evaluation, Generation, Job, Task
from harness_store.models.base import storable
from harness_store.rows import absent_to_none, chunks, table_of

CHUNK_IDS = 500
"""Ids in one IN list."""

_TEXT, _WHOLE, _REAL, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()

ANSWERS_SCHEMA = pa.schema(
    [
        ("task_id", _TEXT),
        ("attempt", _WHOLE),
        ("repetition", _WHOLE),
        *(
            (name, _TEXT)
            for name in ("query_id", "model_id", "query", "messages_json", "reference", "response")
        ),
    ]
)
"""Columns of `answers_table`: everything a judge may know of an answer, and what its verdict is filed under."""

VERDICTS_SCHEMA = pa.schema(
    [
        *((name, _TEXT) for name in ("job", "task")),
        ("attempt", _WHOLE),
        ("repetition", _WHOLE),
        *((name, _TEXT) for name in ("query_id", "model_id", "method")),
        ("official", _BOOL),
        ("correct", _BOOL),
        ("score", _REAL),
        ("reason", _TEXT),
        ("detail", _TEXT),
        ("evaluated_realtime_ns", _WHOLE),
    ]
)
"""Columns of `verdicts_table`; `official` marks the method whose verdict is `correct` in the results."""


@dataclass(frozen=True, slots=True)
class NewVerdict:
    """A verdict on one attempt; `correct` is None, with a reason, where nothing was decided."""

    task_id: str
    attempt: int
    correct: bool | None
    score: float | None = None
    reason: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class JudgedJob:
    """How a job stands with its judging."""

    job_id: str
    state: str
    official: str
    options_json: str | None
    tasks: int
    answered: int
    """Tasks with an answer that counts: what can be judged."""


@dataclass(frozen=True, slots=True)
class VerdictCount:
    """How a method judged a model's answers in a job."""

    method: str
    model_id: str
    answers: int
    judged: int
    """Those it decided on."""
    right: int


def judged_job(connection: Connection, job_id: str) -> JudgedJob:
    """Return how a job stands.

    Raises:
        UnknownJobError: no such job.
    """
    job = connection.execute(
        select(Job.state, Job.evaluation, Job.evaluation_options_json).where(Job.job_id == job_id)
    ).first()
    if job is None:
        raise UnknownJobError(f"there is no job {job_id!r}; `harness jobs` lists them")
    count = select(func.count()).select_from(Task).where(Task.job_id == job_id)
    tasks = connection.execute(count).scalar_one()
    answered = connection.execute(count.where(Task.state == "done")).scalar_one()
    return JudgedJob(job_id, job.state, job.evaluation, job.evaluation_options_json, tasks, answered)


def answers_table(connection: Connection, job_id: str) -> pa.Table:
    """Return every answer of a job that counts, in the order of its expansion; columns are `ANSWERS_SCHEMA`."""
    return _table(answer_rows(connection, job_id), ANSWERS_SCHEMA)


def answer_rows(connection: Connection, job_id: str) -> Sequence[Any]:
    """Return the rows of `answers_table` as they come from the database: attributes are its columns."""
    return connection.execute(_ANSWERS, {"job": job_id}).all()


def verdicts_table(connection: Connection, job_id: str) -> pa.Table:
    """Return every verdict on the attempts of a job that count; columns are `VERDICTS_SCHEMA`.

    Raises:
        UnknownJobError: no such job.
    """
    judged_job(connection, job_id)
    return _table(connection.execute(_VERDICTS, {"job": job_id}).all(), VERDICTS_SCHEMA)


def verdict_counts(connection: Connection, job_id: str, method: str) -> list[VerdictCount]:
    """Count a method's verdicts on the attempts of a job that count, by model; the database sums, no row travels."""
    found = connection.execute(_COUNTS, {"job": job_id, "method": method})
    return [VerdictCount(*row) for row in found]


def record_verdicts(
    connection: Connection, job_id: str, method: str, verdicts: Sequence[NewVerdict], *, now_ns: int
) -> list[tuple[str, int]]:
    """Store verdicts in the place of earlier ones of the method; all in the caller's transaction.

    Returns:
        The (task, attempt) pairs that were refused: not of this job, or not the attempt that counts.
    """
    counted: set[tuple[str, int]] = set()
    for chunk in chunks([v.task_id for v in verdicts], CHUNK_IDS):
        # Compared here: a planner that sees the job in the condition reads all its tasks for each chunk of ids.
        for task_id, attempt, of_job, state in connection.execute(_COUNTED, {"b_ids": chunk}):
            if of_job == job_id and state == "done":
                counted.add((task_id, attempt))
    rows = [
        (
            v.task_id,
            v.attempt,
            method,
            v.correct,
            absent_to_none(v.score),
            storable(v.detail),
            now_ns,
            storable(v.reason),
        )
        for v in verdicts
        if (v.task_id, v.attempt) in counted
    ]
    if rows:
        # Tuples straight to the driver: rule methods judge tens of thousands of answers a second.
        connection.exec_driver_sql(_UPSERT[connection.dialect.paramstyle], rows)
    return [(v.task_id, v.attempt) for v in verdicts if (v.task_id, v.attempt) not in counted]


def use_method(connection: Connection, job_id: str, method: str) -> int:
    """Make a method's verdicts the official `correct` of a job; return how many there are.

    Raises:
        UnknownJobError: no such job.
        UnknownMethodError: the job has no verdicts by the method.
    """
    judged_job(connection, job_id)
    known = dict(tuple(row) for row in connection.execute(_METHODS, {"job": job_id}))
    if method not in known:
        there = ", ".join(sorted(known)) or "none"
        raise UnknownMethodError(f"job {job_id} has no verdicts by {method!r} (there are: {there})")
    connection.execute(update(Job).where(Job.job_id == job_id).values(evaluation=method))
    return int(known[method])


def _table(rows: Sequence[Any], schema: pa.Schema) -> pa.Table:
    """Return rows as a table, by column: of a million, a mapping for each row would cost more than judging it."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = []
    for field, column in zip(schema, columns, strict=True):
        # SQLite has no booleans.
        values = [None if v is None else bool(v) for v in column] if field.type == _BOOL else column
        arrays.append(pa.array(values, type=field.type))
    return pa.table(arrays, schema=schema)


_OF_ANSWER = (
    "FROM tasks t JOIN generations g ON g.task_id = t.task_id AND g.attempt = t.attempt AND g.counted "
    "JOIN queries q ON q.dataset_id = t.dataset_id AND q.query_id = t.query_id "
)
_ANSWERS = text(
    "SELECT t.task_id, t.attempt, t.repetition, t.query_id, t.model_id, q.text, q.messages_json, q.reference, "
    "g.response " + _OF_ANSWER + "WHERE t.job_id = :job AND t.state = 'done' ORDER BY t.ordinal"
)
_VERDICTS = text(
    "SELECT t.job_id AS job, t.task_id AS task, t.attempt, t.repetition, t.query_id, t.model_id, e.method, "
    "CASE WHEN e.method = j.evaluation THEN 1 ELSE 0 END AS official, e.correct, e.score, e.reason, e.detail, "
    "e.evaluated_realtime_ns "
    "FROM tasks t JOIN jobs j ON j.job_id = t.job_id "
    "JOIN evaluations e ON e.task_id = t.task_id AND e.attempt = t.attempt "
    "WHERE t.job_id = :job AND t.state = 'done' ORDER BY e.method, t.ordinal"
)
_COUNTS = text(
    "SELECT e.method, t.model_id, count(*), count(e.correct), sum(CASE WHEN e.correct THEN 1 ELSE 0 END) "
    "FROM tasks t JOIN evaluations e ON e.task_id = t.task_id AND e.attempt = t.attempt AND e.method = :method "
    "WHERE t.job_id = :job AND t.state = 'done' GROUP BY e.method, t.model_id ORDER BY e.method, t.model_id"
)
_METHODS = text(
    "SELECT e.method, count(*) FROM tasks t JOIN evaluations e ON e.task_id = t.task_id AND e.attempt = t.attempt "
    "WHERE t.job_id = :job GROUP BY e.method"
)
_COUNTED = (
    select(Task.task_id, Task.attempt, Task.job_id, Task.state)
    .join(Generation, (Generation.task_id == Task.task_id) & (Generation.attempt == Task.attempt))
    .where(Task.task_id.in_(bindparam("b_ids", expanding=True)), Generation.counted)
)
_COLUMNS = tuple(column.name for column in table_of(Evaluation).columns)
_REPLACED = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[3:])
_UPSERT = {
    style: f"INSERT INTO evaluations ({', '.join(_COLUMNS)}) VALUES ({', '.join([mark] * len(_COLUMNS))})"  # noqa: S608
    f" ON CONFLICT (task_id, attempt, method) DO UPDATE SET {_REPLACED}"
    for style, mark in (("qmark", "?"), ("pyformat", "%s"), ("format", "%s"))
}
