"""Submission: a validated job file becomes a job, its dataset, its models and its tasks."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import BigInteger, Connection, Integer, String, bindparam, cast, insert, literal, select

from harness_store import datasets
from harness_store.datasets import DatasetRow, QueryRow
from harness_store.models import Job, JobModel, Model, Query, Task
from harness_store.rows import insert_absent

_EPOCH_MS = 1_577_836_800_000
"""2020-01-01: 40 bits of milliseconds from here reach to 2054."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, in the order of ASCII: no i, l, o, u to misread."""


@dataclass(frozen=True, slots=True)
class NewModel:
    """One model of a job; what the job file does not say is None."""

    model_id: str
    engine: str
    source: str
    spec_json: str
    params_b: float | None = None
    active_params_b: float | None = None
    input_price_per_mtok: float | None = None
    output_price_per_mtok: float | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A validated job file, ready to be stored."""

    submission_id: str
    """Made by the client: the same submission is stored once."""
    name: str
    spec_json: str
    models: Sequence[NewModel]
    submitted_realtime_ns: int
    priority: int = 0
    energy: str = "measured"
    repetitions: int = 1
    hardware_count: int = 1
    max_attempts: int = 3
    dataset_name: str = ""
    """An imported dataset to use instead of rows."""
    dataset_origin: str = ""
    dataset_limit: int | None = None


@dataclass(frozen=True, slots=True)
class InsertedJob:
    """A job as stored; `is_new` is False for a repeated submission."""

    job_id: str
    tasks: int
    is_new: bool = field(default=True)


def insert_job(connection: Connection, job: NewJob, rows: Iterable[QueryRow] = ()) -> InsertedJob:
    """Store a job, its queries and its tasks; a submission that is there already is returned as it is.

    Args:
        connection: in a transaction.
        job: what was asked for.
        rows: the queries, unless the job names an imported dataset.

    Raises:
        ValueError: no queries, or two with one id.
        UnknownDatasetError: no dataset has the name.
    """
    there = connection.execute(select(Job.job_id).where(Job.submission_id == job.submission_id)).scalar()
    if there is not None:
        return InsertedJob(there, _count_tasks(connection, there), is_new=False)
    dataset = _dataset(connection, job, rows)
    query_count = min(dataset.row_count, job.dataset_limit or dataset.row_count)
    job_id = _free_job_id(connection, job.submitted_realtime_ns)
    spec = json.loads(job.spec_json)
    evaluation = dict(spec.get("evaluation") or {})
    method = evaluation.pop("method", "none")
    connection.execute(
        insert(Job),
        {
            "job_id": job_id,
            "submission_id": job.submission_id,
            "name": job.name,
            "state": "active",
            "spec_json": job.spec_json,
            "dataset_id": dataset.dataset_id,
            "query_count": query_count,
            "hardware_count": job.hardware_count,
            "repetitions": job.repetitions,
            "priority": job.priority,
            "energy": job.energy,
            "evaluation": method,
            "evaluation_options_json": json.dumps(evaluation) if evaluation else None,
            "warmup": spec.get("warmup", 0),
            "submitted_realtime_ns": job.submitted_realtime_ns,
        },
    )
    for ordinal, model in enumerate(job.models):
        _insert_model(connection, job_id, ordinal, model)
    tasks = _expand(connection, job_id, job, dataset.dataset_id, query_count)
    return InsertedJob(job_id, tasks)


def new_job_id(now_ns: int) -> str:
    """Return a short id that sorts by time: eight characters of milliseconds, three of chance."""
    ticks = now_ns // 1_000_000 - _EPOCH_MS
    head = "".join(_ALPHABET[(ticks >> shift) & 31] for shift in range(35, -1, -5))
    return head + "".join(secrets.choice(_ALPHABET) for _ in range(3))


def _free_job_id(connection: Connection, now_ns: int) -> str:
    """Return an id that no job has: what is submitted within one millisecond may meet by chance."""
    while True:
        job_id = new_job_id(now_ns)
        if connection.execute(select(Job.job_id).where(Job.job_id == job_id)).first() is None:
            return job_id


def _dataset(connection: Connection, job: NewJob, rows: Iterable[QueryRow]) -> DatasetRow:
    if job.dataset_name:
        return datasets.find_dataset(connection, job.dataset_name)
    return datasets.store_rows(
        connection, list(rows), origin=job.dataset_origin, now_ns=job.submitted_realtime_ns
    )


def _insert_model(connection: Connection, job_id: str, ordinal: int, model: NewModel) -> None:
    spec_hash = hashlib.sha256(model.spec_json.encode()).hexdigest()[:16]
    row = {
        "model_id": model.model_id,
        "spec_hash": spec_hash,
        "spec_json": model.spec_json,
        "params_b": model.params_b,
        "active_params_b": model.active_params_b,
        "input_price_per_mtok": model.input_price_per_mtok,
        "output_price_per_mtok": model.output_price_per_mtok,
        "engine": model.engine,
        "source": model.source,
    }
    insert_absent(connection, Model, row)
    connection.execute(
        insert(JobModel),
        {"job_id": job_id, "model_id": model.model_id, "spec_hash": spec_hash, "ordinal": ordinal},
    )


def _expand(connection: Connection, job_id: str, job: NewJob, dataset_id: str, query_count: int) -> int:
    """Make the tasks inside the database: a million rows never travel."""
    ordinal = cast(bindparam("base", type_=BigInteger), BigInteger) + Query.ordinal
    text_id = literal(job_id + "-") + cast(ordinal, String)
    columns = {
        "task_id": text_id,
        "job_id": literal(job_id),
        "dataset_id": literal(dataset_id),
        "query_id": Query.query_id,
        "model_id": cast(bindparam("model_id"), String),
        "hardware_index": cast(bindparam("hardware_index", type_=Integer), BigInteger),
        "repetition": cast(bindparam("repetition", type_=Integer), BigInteger),
        "ordinal": ordinal,
        "state": literal("ready"),
        "attempt": cast(literal(0), BigInteger),
        "failures": cast(literal(0), BigInteger),
        "max_attempts": cast(literal(job.max_attempts), BigInteger),
        "not_before_realtime_ns": cast(literal(0), BigInteger),
        "updated_realtime_ns": cast(literal(job.submitted_realtime_ns, BigInteger), BigInteger),
    }
    queries = select(*columns.values()).where(Query.dataset_id == dataset_id, Query.ordinal < query_count)
    statement = insert(Task).from_select(list(columns), queries)
    base = 0
    for repetition in range(job.repetitions):
        for model in job.models:
            for hardware_index in range(job.hardware_count):
                connection.execute(
                    statement,
                    {
                        "base": base,
                        "model_id": model.model_id,
                        "hardware_index": hardware_index,
                        "repetition": repetition,
                    },
                )
                base += query_count
    return base


def _count_tasks(connection: Connection, job_id: str) -> int:
    job = connection.execute(
        select(Job.query_count, Job.hardware_count, Job.repetitions).where(Job.job_id == job_id)
    ).one()
    models = connection.execute(select(JobModel.model_id).where(JobModel.job_id == job_id)).all()
    return job.query_count * job.hardware_count * job.repetitions * len(models)
