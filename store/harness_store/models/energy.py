"""What was computed: joules of queries and runs, host memory, verdicts."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import Mapped

from harness_store.models.base import Base, IntKey, TextKey


class WattsColumns:
    """Power over a window, W."""

    watts_avg: Mapped[float | None]
    watts_max: Mapped[float | None]
    watts_median: Mapped[float | None]
    watts_min: Mapped[float | None]


class Measurement(WattsColumns, Base):
    """The energy of one attempt on one source, J; recomputable from samples and generations."""

    __tablename__ = "measurements"

    task_id: Mapped[TextKey]
    attempt: Mapped[IntKey]
    source_id: Mapped[TextKey]
    run_id: Mapped[str]
    role: Mapped[str]
    """primary, host or other."""
    scope: Mapped[str]
    energy_source: Mapped[str]
    method: Mapped[str]
    attribution: Mapped[str]
    joules: Mapped[float | None]
    joules_low: Mapped[float | None]
    joules_high: Mapped[float | None]
    net_joules: Mapped[float | None]
    idle_joules: Mapped[float | None]
    prefill_joules: Mapped[float | None]
    decode_joules: Mapped[float | None]
    coverage: Mapped[float | None]
    flags: Mapped[str]
    """Comma separated, sorted."""
    final: Mapped[bool]
    temperature_c_avg: Mapped[float | None]
    temperature_c_max: Mapped[float | None]
    temperature_c_median: Mapped[float | None]
    temperature_c_min: Mapped[float | None]
    memory_mb_avg: Mapped[float | None]
    memory_mb_max: Mapped[float | None]
    memory_mb_median: Mapped[float | None]
    memory_mb_min: Mapped[float | None]
    computed_realtime_ns: Mapped[int]
    cross_check_joules: Mapped[float | None]
    """The same from the source's other measure (power beside a counter)."""

    __table_args__ = (Index(None, "run_id"),)


class RunEnergy(WattsColumns, Base):
    """What one source used over a run: attributed plus unattributed joules are the device's."""

    __tablename__ = "run_energy"

    run_id: Mapped[TextKey]
    source_id: Mapped[TextKey]
    role: Mapped[str]
    scope: Mapped[str]
    energy_source: Mapped[str]
    method: Mapped[str]
    attribution: Mapped[str]
    device_joules: Mapped[float | None]
    device_joules_low: Mapped[float | None]
    device_joules_high: Mapped[float | None]
    attributed_joules: Mapped[float | None]
    unattributed_joules: Mapped[float | None]
    coverage: Mapped[float | None]
    baseline_before_w: Mapped[float | None]
    baseline_after_w: Mapped[float | None]
    alpha: Mapped[float | None]
    alpha_standard_error: Mapped[float | None]
    flags: Mapped[str]
    final: Mapped[bool]
    computed_realtime_ns: Mapped[int]
    cross_check_joules: Mapped[float | None]
    cross_check_method: Mapped[str | None]
    period_s: Mapped[float | None]
    """Update period of what was integrated, as found in the samples."""
    lag_s: Mapped[float | None]
    """How far the engine's stamps trail the device, fitted."""
    lag_standard_error_s: Mapped[float | None]
    explained: Mapped[float | None]
    """Share of the held-out variance that the queries explain."""
    load_levels_json: Mapped[str | None]
    """Fitted powers and energies of the load model, a JSON object."""


class TaskHost(Base):
    """Memory in use on the host while an attempt ran, MB (1e6 bytes)."""

    __tablename__ = "task_host"

    task_id: Mapped[TextKey]
    attempt: Mapped[IntKey]
    run_id: Mapped[str]
    cpu_memory_mb_avg: Mapped[float | None]
    cpu_memory_mb_max: Mapped[float | None]
    cpu_memory_mb_median: Mapped[float | None]
    cpu_memory_mb_min: Mapped[float | None]

    __table_args__ = (Index(None, "run_id"),)


class Evaluation(Base):
    """Whether an answer is right, by one method; `correct` is NULL with a reason where it cannot be told.

    A method is a rule's name, `code`, `judge:NAME`, `judge:NAME@REFERENCE`, `human:NAME` or `majority`.
    """

    __tablename__ = "evaluations"

    task_id: Mapped[TextKey]
    attempt: Mapped[IntKey]
    method: Mapped[TextKey]
    correct: Mapped[bool | None]
    score: Mapped[float | None]
    detail: Mapped[str | None]
    evaluated_realtime_ns: Mapped[int]
    reason: Mapped[str | None]
    """Why nothing was decided."""


class Judgement(Base):
    """One answer of a judge as it came: what was paid for once is read from here the next time."""

    __tablename__ = "judgements"

    content_hash: Mapped[TextKey]
    """SHA-256 of the judge's endpoint and model, the messages and the settings."""
    judge: Mapped[str]
    model: Mapped[str]
    form: Mapped[str]
    presented: Mapped[str]
    """answer-first or reference-first; empty where there is one order."""
    raw: Mapped[str]
    prompt_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    cost_usd: Mapped[float | None]
    seconds: Mapped[float | None]
    answered_realtime_ns: Mapped[int]
