"""Models, datasets, jobs and the tasks they expand to."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from harness_store.models.base import Base, TextKey


class Model(Base):
    """One model as one job file described it; the same description is stored once."""

    __tablename__ = "models"

    model_id: Mapped[TextKey]
    spec_hash: Mapped[TextKey]
    spec_json: Mapped[str]
    params_b: Mapped[float | None]
    active_params_b: Mapped[float | None]
    input_price_per_mtok: Mapped[float | None]
    output_price_per_mtok: Mapped[float | None]
    engine: Mapped[str]
    source: Mapped[str]


class Dataset(Base):
    """A set of queries, named by its content."""

    __tablename__ = "datasets"

    dataset_id: Mapped[TextKey]
    name: Mapped[str | None] = mapped_column(unique=True)
    """Set for an imported dataset, NULL for one that came with a job."""
    origin: Mapped[str]
    content_hash: Mapped[str]
    row_count: Mapped[int]
    created_realtime_ns: Mapped[int]
    licence: Mapped[str | None]
    parent: Mapped[str | None]
    """Name of the dataset it was cleaned or split from."""
    owner: Mapped[str | None]
    """Subject of the certificate it was imported with."""
    mapping_json: Mapped[str | None]
    """How the columns of its files became queries."""
    report_json: Mapped[str | None]
    """What the import, the cleaning or the split counted."""


class Query(Base):
    """One query of a dataset."""

    __tablename__ = "queries"

    dataset_id: Mapped[TextKey] = mapped_column(ForeignKey("datasets.dataset_id"))
    query_id: Mapped[TextKey]
    ordinal: Mapped[int]
    text: Mapped[str]
    messages_json: Mapped[str | None]
    reference: Mapped[str | None]
    domain: Mapped[str | None]
    extra_json: Mapped[str | None]
    origin: Mapped[str | None]
    """The set that the query comes from; a dataset may hold queries of several."""
    licence: Mapped[str | None]
    content_hash: Mapped[str | None]
    """Of all that is asked, the whole conversation included: see `harness_store.prompts`."""

    __table_args__ = (Index(None, "dataset_id", "ordinal"),)


class Embedding(Base):
    """A text as a vector, computed once for each model."""

    __tablename__ = "embeddings"

    model: Mapped[TextKey]
    """The embedding model's identity, weights and settings included."""
    content_hash: Mapped[TextKey]
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    """float32, little-endian, of unit length."""


class Job(Base):
    """What a person asked for."""

    __tablename__ = "jobs"

    job_id: Mapped[TextKey]
    submission_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    state: Mapped[str]
    """active, done, failed or cancelled."""
    spec_json: Mapped[str]
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.dataset_id"))
    query_count: Mapped[int]
    """How many of the dataset's queries, in its order, the job uses."""
    hardware_count: Mapped[int]
    repetitions: Mapped[int]
    priority: Mapped[int]
    energy: Mapped[str]
    evaluation: Mapped[str]
    """Method whose verdict is the `correct` of its results: none, exact_match, judge:NAME, ..."""
    evaluation_options_json: Mapped[str | None]
    """What the job file says beside the method, for example a tolerance."""
    warmup: Mapped[int]
    submitted_realtime_ns: Mapped[int]
    finished_realtime_ns: Mapped[int | None]
    reason: Mapped[str | None]

    __table_args__ = (Index(None, "state"), Index(None, "dataset_id"))


class JobModel(Base):
    """Which description of a model a job uses."""

    __tablename__ = "job_models"

    job_id: Mapped[TextKey] = mapped_column(ForeignKey("jobs.job_id"))
    model_id: Mapped[TextKey]
    spec_hash: Mapped[str]
    ordinal: Mapped[int]


class Task(Base):
    """One query x model x hardware selector x repetition."""

    __tablename__ = "tasks"

    task_id: Mapped[TextKey]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"))
    dataset_id: Mapped[str]
    query_id: Mapped[str]
    model_id: Mapped[str]
    hardware_index: Mapped[int]
    repetition: Mapped[int]
    ordinal: Mapped[int]
    state: Mapped[str]
    """ready, leased, running, done, failed or cancelled."""
    attempt: Mapped[int]
    """Number of the latest lease, 0 before the first: what fences late messages."""
    failures: Mapped[int]
    """Attempts that count against `max_attempts`; a task given back unstarted is none."""
    max_attempts: Mapped[int]
    not_before_realtime_ns: Mapped[int]
    """0, or when a retry is due."""
    lease_agent_id: Mapped[str | None]
    run_id: Mapped[str | None]
    lease_expires_realtime_ns: Mapped[int | None]
    started_realtime_ns: Mapped[int | None]
    reason: Mapped[str | None]
    updated_realtime_ns: Mapped[int]

    __table_args__ = (
        # The next ready tasks of a group, in the order they are leased: fresh ones first, then due retries.
        Index(
            "ix_tasks_next",
            "job_id",
            "model_id",
            "hardware_index",
            "state",
            "not_before_realtime_ns",
            "ordinal",
        ),
        Index(None, "job_id", "state"),
        Index(None, "lease_agent_id", "state"),
        Index(None, "run_id"),
        Index(None, "lease_expires_realtime_ns"),
    )
