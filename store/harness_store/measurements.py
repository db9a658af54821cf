"""Measurements: every energy row of a run, written at once and replaceable at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, insert, update

from harness_store.models import Measurement, Run, RunEnergy, TaskHost
from harness_store.rows import as_row, chunks, upsert


@dataclass(frozen=True, slots=True)
class NewMeasurement:
    """The energy of one attempt on one source, J; what is not known is None."""

    task_id: str
    attempt: int
    source_id: str
    role: str
    """`primary` (its joules are the query's), `host` (CPU and DRAM beside an accelerator) or `other`."""
    scope: str
    energy_source: str
    method: str
    attribution: str
    joules: float | None
    joules_low: float | None = None
    joules_high: float | None = None
    net_joules: float | None = None
    idle_joules: float | None = None
    prefill_joules: float | None = None
    decode_joules: float | None = None
    coverage: float | None = None
    flags: str = ""
    watts_avg: float | None = None
    watts_max: float | None = None
    watts_median: float | None = None
    watts_min: float | None = None
    temperature_c_avg: float | None = None
    temperature_c_max: float | None = None
    temperature_c_median: float | None = None
    temperature_c_min: float | None = None
    memory_mb_avg: float | None = None
    memory_mb_max: float | None = None
    memory_mb_median: float | None = None
    memory_mb_min: float | None = None
    cross_check_joules: float | None = None


@dataclass(frozen=True, slots=True)
class NewRunEnergy:
    """What one source used over a run, J and W; attributed plus unattributed are the device's joules."""

    source_id: str
    role: str
    scope: str
    energy_source: str
    method: str
    attribution: str
    device_joules: float | None
    attributed_joules: float | None
    unattributed_joules: float | None
    device_joules_low: float | None = None
    device_joules_high: float | None = None
    coverage: float | None = None
    baseline_before_w: float | None = None
    baseline_after_w: float | None = None
    alpha: float | None = None
    alpha_standard_error: float | None = None
    flags: str = ""
    watts_avg: float | None = None
    watts_max: float | None = None
    watts_median: float | None = None
    watts_min: float | None = None
    cross_check_joules: float | None = None
    cross_check_method: str | None = None
    period_s: float | None = None
    lag_s: float | None = None
    lag_standard_error_s: float | None = None
    explained: float | None = None
    load_levels_json: str | None = None


@dataclass(frozen=True, slots=True)
class NewTaskHost:
    """Memory in use on the host while one attempt ran, MB (1e6 bytes)."""

    task_id: str
    attempt: int
    cpu_memory_mb_avg: float | None
    cpu_memory_mb_max: float | None
    cpu_memory_mb_median: float | None
    cpu_memory_mb_min: float | None


@dataclass
class RunEnergyRows:
    """Everything computed of one run. `reason` says what could not be had, empty where nothing is missing."""

    run_id: str
    final: bool
    reason: str = ""
    sources: list[NewRunEnergy] = field(default_factory=list[NewRunEnergy])
    queries: list[NewMeasurement] = field(default_factory=list[NewMeasurement])
    host: list[NewTaskHost] = field(default_factory=list[NewTaskHost])


def replace_run_energy(connection: Connection, rows: RunEnergyRows, *, now_ns: int) -> None:
    """Put these rows in the place of all energy rows of the run; doing it twice leaves the same rows.

    The run's energy is then `final` or `provisional`, or `failed` where no source could be used.
    """
    run_id = rows.run_id
    for model in (Measurement, RunEnergy, TaskHost):
        connection.execute(delete(model).where(model.run_id == run_id))
    stamp = {"run_id": run_id, "final": rows.final, "computed_realtime_ns": now_ns}
    for chunk in chunks(rows.sources):
        connection.execute(insert(RunEnergy), [{**as_row(row), **stamp} for row in chunk])
    for chunk in chunks(rows.queries):
        connection.execute(insert(Measurement), [{**as_row(row), **stamp} for row in chunk])
    for chunk in chunks(rows.host):
        connection.execute(insert(TaskHost), [{**as_row(row), "run_id": run_id} for row in chunk])
    nothing = not rows.sources and bool(rows.reason)
    state = "failed" if nothing else "final" if rows.final else "provisional"
    connection.execute(
        update(Run).where(Run.run_id == run_id).values(energy_state=state, energy_reason=rows.reason or None)
    )


def add_provisional(
    connection: Connection, run_id: str, rows: Sequence[NewMeasurement], *, now_ns: int
) -> None:
    """Add joules of queries of a run that is still on; its final rows will take their place.

    Nothing is added to a run whose energy is computed already.
    """
    changed = connection.execute(
        update(Run)
        .where(Run.run_id == run_id, Run.energy_state.in_(("pending", "provisional")))
        .values(energy_state="provisional")
    )
    if changed.rowcount != 1:
        return
    stamp = {"run_id": run_id, "final": False, "computed_realtime_ns": now_ns}
    upsert(connection, Measurement, [{**as_row(row), **stamp} for row in rows])
