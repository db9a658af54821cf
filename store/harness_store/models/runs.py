"""Runs, their baselines, and the generations they made."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from harness_store.models.base import Base, IntKey, TextKey


class Run(Base):
    """One engine with one model for one job on one agent, from its start to its stop."""

    __tablename__ = "runs"

    run_id: Mapped[TextKey]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"))
    model_id: Mapped[str]
    hardware_index: Mapped[int]
    agent_id: Mapped[str] = mapped_column(ForeignKey("agents.agent_id"))
    boot_id: Mapped[str]
    clock_id: Mapped[str | None]
    state: Mapped[str]
    """leased, started, ready, ended, failed or lost."""
    device_ids_json: Mapped[str]
    source_ids_json: Mapped[str | None]
    host_source_ids_json: Mapped[str | None]
    start_ns: Mapped[int | None]
    ready_ns: Mapped[int | None]
    end_ns: Mapped[int | None]
    last_ns: Mapped[int | None]
    """Latest time known of a run that is over: the end of its last generation or baseline."""
    load_s: Mapped[float | None]
    watermark_ns: Mapped[int | None]
    """Every query that started before it is over."""
    settings_json: Mapped[str | None]
    facts_json: Mapped[str | None]
    engine: Mapped[str | None]
    engine_version: Mapped[str | None]
    reason: Mapped[str | None]
    energy_state: Mapped[str]
    """pending, provisional, final, failed or none."""
    energy_reason: Mapped[str | None]
    created_realtime_ns: Mapped[int]
    over_realtime_ns: Mapped[int | None]

    __table_args__ = (
        Index(None, "job_id"),
        Index(None, "agent_id", "state"),
        Index(None, "state"),
        Index(None, "energy_state"),
    )


class Baseline(Base):
    """A time with the model loaded and nothing in flight."""

    __tablename__ = "baselines"

    run_id: Mapped[TextKey]
    start_ns: Mapped[IntKey]
    end_ns: Mapped[int]


class Generation(Base):
    """One answered or failed query; late and double ones are kept with `counted` false."""

    __tablename__ = "generations"

    task_id: Mapped[TextKey]
    attempt: Mapped[IntKey]
    run_id: Mapped[str]
    agent_id: Mapped[str]
    boot_id: Mapped[str]
    query_id: Mapped[str]
    warmup: Mapped[bool]
    counted: Mapped[bool]
    start_ns: Mapped[int]
    first_token_ns: Mapped[int | None]
    end_ns: Mapped[int]
    chunk_ns: Mapped[bytes | None] = mapped_column(LargeBinary)
    prompt_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    cached_tokens: Mapped[int | None]
    response: Mapped[str]
    reasoning: Mapped[str]
    finish_reason: Mapped[str]
    error: Mapped[str | None]
    retryable: Mapped[bool]
    engine_prefill_s: Mapped[float | None]
    engine_decode_s: Mapped[float | None]
    received_realtime_ns: Mapped[int]

    __table_args__ = (
        Index(None, "run_id", "counted"),
        Index(None, "run_id", "received_realtime_ns"),
    )
