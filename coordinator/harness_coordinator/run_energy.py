"""The joules of one run: reads its samples and queries, calls the energy code, writes every row at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from harness_store import fleet, generations, jobs, measurements, runs, segments
from harness_store.sample_tables import HOST_MEMORY_SOURCE
from numpy.typing import NDArray
from sqlalchemy import Connection

from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import (
    BadSamplesError,
    ConservationError,
    QueryColumns,
    SourceEnergy,
)
from harness_coordinator.energy.window_stats import WindowStats, window_stats
from harness_coordinator.run_columns import (
    WATTS,
    Columns,
    known,
    query_columns,
    sample_columns,
    with_power,
)
from harness_coordinator.source_records import traits_of

SHARED_DEVICE = "shared_device"
"""Fact of a run, and flag of its rows: other processes used its devices."""

MARGIN_NS = 3_000_000_000
"""Samples around the run that make its edges sharp: three periods of a 1 s sensor."""
MEMORY_HOLDS_NS = 1_000_000_000
"""How long before its first and after its last reading the host's memory is taken to have been the same."""

SHORTEST_MARGIN_AFTER_S = 0.2

MB = 1e6


def compute_run_energy(
    connection: Connection, run_id: str, *, final: bool, attribution: str | None = None
) -> measurements.RunEnergyRows:
    """Compute every energy row of a run from what is stored.

    Args:
        connection: the store; only read.
        run_id: the run.
        final: whether the run is over and its samples are complete.
        attribution: `tokens`, `time` or `exclusive`; None: as the job asked.

    Returns:
        Rows for `measurements.replace_run_energy`. Where a source cannot be used or does not conserve
        energy, the rows name the reason instead of joules.
    """
    run = runs.get_run(connection, run_id)
    spec = json.loads(jobs.spec_json(connection, run.job_id))
    records = {s.source_id: s for s in fleet.sources_of(connection, run.agent_id)}
    rows = measurements.RunEnergyRows(run_id=run_id, final=final)
    if run.start_ns is None or run.clock_id is None:
        rows.reason = "the engine never started"
        return rows
    queries = generations.run_queries(connection, run_id)
    window = (run.start_ns, _end_ns(connection, run, queries))
    if window[1] <= window[0]:
        rows.reason = "the run has no duration"
        return rows
    columns = query_columns(queries)
    baselines = runs.baselines(connection, run_id)
    roles = [(s, "primary") for s in json.loads(run.source_ids_json or "[]")]
    roles += [(s, "host") for s in json.loads(run.host_source_ids_json or "[]")]
    problems: list[str] = []
    for source_id, role in roles:
        record = records.get(source_id)
        if record is None:
            problems.append(f"{source_id} is not known")
            continue
        samples = with_power(
            segments.read_columns(
                connection,
                agent_id=run.agent_id,
                source_id=source_id,
                clock_id=run.clock_id,
                start_ns=window[0] - MARGIN_NS,
                end_ns=window[1] + margin_after_ns(record),
            )
        )
        if "t_ns" not in samples or samples["t_ns"].size == 0:
            problems.append(f"{source_id} sent no samples")
            continue
        try:
            energy = measure_source(
                traits_of(record),
                sample_columns(samples),
                columns,
                window,
                baselines,
                attribution=attribution or spec.get("attribution", "tokens"),
            )
        except (BadSamplesError, ConservationError) as error:
            problems.append(f"{source_id}: {error}")
            continue
        if energy.coverage < 1:
            problems.append(f"{source_id} covers {energy.coverage:.2%} of the run")
        _add_rows(rows, queries, role, energy, samples, columns)
    if SHARED_DEVICE in json.loads(run.facts_json or "{}"):
        _flag_all(rows, SHARED_DEVICE)
    _add_host_memory(connection, rows, run, queries, columns, window)
    rows.reason = "; ".join(problems)
    return rows


def margin_after_ns(record: fleet.SourceRecord) -> int:
    """Return how long after a run's end samples still sharpen its last edge: two updates of the slowest reading."""
    periods_s = [p for p in (record.counter_period_s, record.power_period_s) if p is not None]
    return int(min(max([2 * p for p in periods_s] + [SHORTEST_MARGIN_AFTER_S]), MARGIN_NS * 1e-9) * 1e9)


def _flag_all(rows: measurements.RunEnergyRows, flag: str) -> None:
    """Add a flag to every row of the run."""

    def with_flag(flags: str) -> str:
        return ",".join(sorted({flag, *filter(None, flags.split(","))}))

    rows.sources[:] = [replace(row, flags=with_flag(row.flags)) for row in rows.sources]
    rows.queries[:] = [replace(row, flags=with_flag(row.flags)) for row in rows.queries]


def _end_ns(connection: Connection, run: runs.RunRow, queries: Sequence[generations.RunQuery]) -> int:
    """Return the end of the run's accounting: what its agent said, else the last thing known of it."""
    if run.end_ns is not None:
        return run.end_ns
    last = max((q.end_ns for q in queries), default=run.start_ns or 0)
    for source_id in json.loads(run.source_ids_json or "[]"):
        covered = segments.covered_until_ns(
            connection, run.agent_id, source_id, run.clock_id or "", boot_id=run.boot_id
        )
        last = max(last, covered or 0)
    return last


def _add_rows(
    rows: measurements.RunEnergyRows,
    queries: Sequence[generations.RunQuery],
    role: str,
    energy: SourceEnergy,
    samples: Columns,
    columns: QueryColumns,
) -> None:
    t_ns = np.asarray(samples["t_ns"], np.int64)
    watts_all = _stats(samples, t_ns, WATTS, np.array([energy.start_ns]), np.array([energy.end_ns]))
    watts = _stats(samples, t_ns, WATTS, columns.start_ns, columns.end_ns)
    temperature = _stats(samples, t_ns, "temperature_c", columns.start_ns, columns.end_ns)
    memory = _stats(samples, t_ns, "memory_used_bytes", columns.start_ns, columns.end_ns, MB)
    before = energy.baselines[0].power_w if energy.baselines else None
    after = energy.baselines[-1].power_w if len(energy.baselines) > 1 else None
    rows.sources.append(
        measurements.NewRunEnergy(
            source_id=energy.source_id,
            role=role,
            scope=energy.scope,
            energy_source=energy.energy_source,
            method=energy.method,
            attribution=energy.attribution,
            device_joules=energy.device_joules,
            device_joules_low=known(energy.device_joules_low),
            device_joules_high=known(energy.device_joules_high),
            attributed_joules=energy.attributed_joules,
            unattributed_joules=energy.unattributed_joules,
            coverage=energy.coverage,
            baseline_before_w=before,
            baseline_after_w=after,
            alpha=known(energy.alpha),
            alpha_standard_error=known(energy.alpha_standard_error),
            flags=",".join(sorted(energy.flags)),
            cross_check_joules=known(energy.cross_check_joules),
            cross_check_method=energy.cross_check_method or None,
            period_s=known(energy.period_s),
            lag_s=known(energy.lag_s),
            lag_standard_error_s=known(energy.lag_standard_error_s),
            explained=known(energy.explained),
            load_levels_json=json.dumps(dict(energy.load_levels)) if energy.load_levels else None,
            **_named("watts", watts_all, 0),
        )
    )
    e = energy.queries
    for i, query in enumerate(queries):
        if query.warmup or not query.counted:
            continue
        rows.queries.append(
            measurements.NewMeasurement(
                task_id=query.task_id,
                attempt=query.attempt,
                source_id=energy.source_id,
                role=role,
                scope=energy.scope,
                energy_source=energy.energy_source,
                method=energy.method,
                attribution=energy.attribution,
                joules=known(e.joules[i]),
                joules_low=known(e.joules_low[i]),
                joules_high=known(e.joules_high[i]),
                net_joules=known(e.net_joules[i]),
                idle_joules=known(e.idle_joules[i]),
                prefill_joules=known(e.prefill_joules[i]),
                decode_joules=known(e.decode_joules[i]),
                coverage=known(e.coverage[i]),
                flags=",".join(sorted(e.flags[i])),
                cross_check_joules=known(e.cross_check_joules[i]) if len(e.cross_check_joules) else None,
                **_named("watts", watts, i),
                **_named("temperature_c", temperature, i),
                **_named("memory_mb", memory, i),
            )
        )


def _add_host_memory(
    connection: Connection,
    rows: measurements.RunEnergyRows,
    run: runs.RunRow,
    queries: Sequence[generations.RunQuery],
    columns: QueryColumns,
    window: tuple[int, int],
) -> None:
    """Add the memory that was in use on the host while each query ran.

    It is polled twice a second, and only while the engine is there: a query before the first reading, or after the
    last, has the value of that one.
    """
    samples = segments.read_columns(
        connection,
        agent_id=run.agent_id,
        source_id=HOST_MEMORY_SOURCE,
        clock_id=run.clock_id or "",
        start_ns=window[0] - MARGIN_NS,
        end_ns=window[1] + MARGIN_NS,
    )
    if "memory_used_bytes" not in samples:
        return
    used = np.asarray(samples["memory_used_bytes"], np.float64)
    known = np.flatnonzero(np.isfinite(used))
    if not known.size:
        return
    t_ns = np.pad(np.asarray(samples["t_ns"], np.int64)[known], 1, mode="edge")
    t_ns[0], t_ns[-1] = t_ns[0] - MEMORY_HOLDS_NS, t_ns[-1] + MEMORY_HOLDS_NS
    held = {"memory_used_bytes": np.pad(used[known], 1, mode="edge")}
    memory = _stats(held, t_ns, "memory_used_bytes", columns.start_ns, columns.end_ns, MB)
    for i, query in enumerate(queries):
        if query.counted and not query.warmup:
            rows.host.append(
                measurements.NewTaskHost(
                    task_id=query.task_id, attempt=query.attempt, **_named("cpu_memory_mb", memory, i)
                )
            )


def _stats(
    samples: Columns,
    t_ns: NDArray[np.int64],
    column: str,
    start_ns: NDArray[np.int64],
    end_ns: NDArray[np.int64],
    unit: float = 1.0,
) -> WindowStats | None:
    if column not in samples:
        return None
    return window_stats(t_ns, np.asarray(samples[column], np.float64) / unit, start_ns, end_ns)


def _named(prefix: str, stats: WindowStats | None, i: int) -> dict[str, float | None]:
    names = ("avg", "max", "median", "min")
    if stats is None:
        return {f"{prefix}_{n}": None for n in names}
    values = (stats.average[i], stats.largest[i], stats.median[i], stats.smallest[i])
    return {f"{prefix}_{n}": known(v) for n, v in zip(names, values, strict=True)}
