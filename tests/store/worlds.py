"""A small fleet and job to start tests from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from harness_store import evaluations, fleet, generations, jobs, leases, measurements, runs
from harness_store.datasets import QueryRow
from harness_store.verdicts.exact_match import exact_match
from sqlalchemy import Connection

NOW = 1_795_000_000_000_000_000
S = 1_000_000_000


def register(
    connection: Connection, agent_id: str = "a1", *, name: str = "", boot_id: str = "b1", **more: object
):
    """Register an agent; everything not given is plain."""
    fields: dict[str, object] = {
        "name": name or f"box-{agent_id}",
        "clock_id": "c1",
        "version": "0.1.0",
        "hostname": "lab-1",
        "host_json": json.dumps({"cpu_brand": "Xeon", "cpu_count": 8, "os_name": "Linux"}),
        "labels_json": "{}",
        "engines_json": "[]",
        "features_json": "[]",
        "coordinator_id": "k1",
        "monotonic_ns": 5,
        "now_ns": NOW,
    }
    fleet.register_agent(connection, agent_id=agent_id, boot_id=boot_id, **{**fields, **more})  # type: ignore[arg-type]


def query_rows(count: int) -> list[QueryRow]:
    """Return queries q0, q1..."""
    return [QueryRow(f"q{i}", i, f"What is {i} + 1?", reference=str(i + 1)) for i in range(count)]


def new_job(
    submission_id: str = "s1", *, models: int = 1, energy: str = "measured", **more: object
) -> jobs.NewJob:
    """Return a job of one or more models."""
    spec = {
        "evaluation": {"method": "exact_match"},
        "sampling": {"temperature": 0.6},
        "warmup": 2,
        "concurrency": 4,
    }
    fields: dict[str, object] = {
        "name": "arithmetic",
        "spec_json": json.dumps(spec),
        "models": [
            jobs.NewModel(
                model_id=f"m{i}",
                engine="stub",
                source="",
                spec_json=json.dumps({"id": f"m{i}"}),
                params_b=0.5,
                input_price_per_mtok=1.0,
                output_price_per_mtok=2.0,
            )
            for i in range(models)
        ],
        "submitted_realtime_ns": NOW,
        "energy": energy,
    }
    return jobs.NewJob(submission_id=submission_id, **{**fields, **more})  # type: ignore[arg-type]


def insert_run(
    connection: Connection, job_id: str, run_id: str = "r1", *, agent_id: str = "a1", boot_id: str = "b1"
) -> None:
    """Add a run of the job's first model."""
    runs.insert_run(
        connection,
        run_id=run_id,
        job_id=job_id,
        model_id="m0",
        hardware_index=0,
        agent_id=agent_id,
        boot_id=boot_id,
        device_ids=["gpu-0"],
        created_realtime_ns=NOW,
    )


def run_to_its_end(
    connection: Connection,
    job_id: str,
    *,
    sources: Sequence[str] = ("g",),
    host_sources: Sequence[str] = (),
    joules: Mapping[str, Sequence[float | None]] | None = None,
    energy_source: Mapping[str, str] | None = None,
    responses: Sequence[str] | None = None,
    model_id: str = "m0",
) -> str:
    """Run every ready task of a job's model on agent a1 and return the run's id.

    Args:
        connection: in a transaction; agent a1 is registered.
        job_id: the job.
        sources: ids of the devices' sources.
        host_sources: ids of the host's sources.
        joules: per source the joules of each task, 10, 11, ... by default; a source that is missing has no rows.
        energy_source: per source where its joules come from, `counter` by default.
        responses: answers, right ones by default.
        model_id: the model.
    """
    run_id = f"run-{job_id}-{model_id}"
    runs.insert_run(
        connection,
        run_id=run_id,
        job_id=job_id,
        model_id=model_id,
        hardware_index=0,
        agent_id="a1",
        boot_id="b1",
        device_ids=["gpu-0"],
        created_realtime_ns=NOW,
    )
    tasks = leases.lease_tasks(
        connection,
        job_id=job_id,
        model_id=model_id,
        hardware_index=0,
        run_id=run_id,
        agent_id="a1",
        limit=100,
        expires_realtime_ns=NOW + 20 * S,
        now_ns=NOW,
    )
    runs.mark_started(
        connection,
        run_id=run_id,
        agent_id="a1",
        boot_id="b1",
        clock_id="c1",
        start_ns=10 * S,
        source_ids=sources,
        host_source_ids=host_sources,
        engine="stub",
        engine_version="1",
        settings_json=json.dumps(
            {
                "sampling": {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_output_tokens": 64},
                "engine": {"context": 4096, "batch": "auto", "threads": 4, "gpu_memory_utilization": 0.9},
                "concurrency": 4,
            }
        ),
    )
    runs.mark_ready(
        connection,
        run_id=run_id,
        ready_ns=11 * S,
        load_s=1.5,
        facts_json=json.dumps({"layers": "2", "embedding_length": "64"}),
    )
    energy = measurements.RunEnergyRows(run_id, final=True)
    given = (
        {s: [10.0 + i for i in range(len(tasks))] for s in (*sources, *host_sources)}
        if joules is None
        else joules
    )
    for i, task in enumerate(tasks):
        leases.complete(
            connection, task_id=task.task_id, attempt=task.attempt, agent_id="a1", run_id=run_id, now_ns=NOW
        )
        answer = str(i + 1) if responses is None else responses[i]
        generations.record_generation(
            connection,
            generations.NewGeneration(
                task_id=task.task_id,
                attempt=task.attempt,
                run_id=run_id,
                agent_id="a1",
                boot_id="b1",
                query_id=task.query_id,
                warmup=False,
                counted=True,
                start_ns=(20 + i) * S,
                first_token_ns=(20 + i) * S + S // 10,
                end_ns=(20 + i) * S + S // 2,
                received_realtime_ns=NOW,
                prompt_tokens=100,
                output_tokens=50,
                response=answer,
                finish_reason="stop",
            ),
        )
        evaluations.record(
            connection,
            task_id=task.task_id,
            attempt=task.attempt,
            method="exact_match",
            correct=exact_match(answer, evaluations.asked_of_task(connection, task.task_id).reference),  # type: ignore[union-attr]
        )
        for source_id, values in given.items():
            energy.queries.append(
                measurements.NewMeasurement(
                    task.task_id,
                    task.attempt,
                    source_id,
                    "host" if source_id in host_sources else "primary",
                    "gpu",
                    (energy_source or {}).get(source_id, "counter"),
                    "counter-shape",
                    "tokens",
                    values[i],
                    joules_low=None if values[i] is None else values[i] * 0.9,  # type: ignore[operator]
                    joules_high=None if values[i] is None else values[i] * 1.1,  # type: ignore[operator]
                    coverage=1.0,
                    flags="gap,throttled" if i == 0 else "",
                    watts_avg=100.0,
                    watts_max=120.0,
                    watts_median=101.0,
                    watts_min=90.0,
                    temperature_c_avg=50.0,
                    memory_mb_avg=1000.0,
                    memory_mb_max=1100.0,
                )
            )
        energy.host.append(measurements.NewTaskHost(task.task_id, task.attempt, 500.0, 510.0, 500.0, 490.0))
    for source_id, values in given.items():
        total = sum(v or 0.0 for v in values)
        energy.sources.append(
            measurements.NewRunEnergy(
                source_id,
                "host" if source_id in host_sources else "primary",
                "gpu",
                (energy_source or {}).get(source_id, "counter"),
                "counter-shape",
                "tokens",
                total + 5.0,
                total,
                5.0,
                coverage=1.0,
                baseline_before_w=40.0,
                baseline_after_w=42.0,
                watts_avg=80.0,
                watts_max=300.0,
                watts_median=70.0,
                watts_min=40.0,
            )
        )
    runs.mark_over(connection, run_id=run_id, state="ended", end_ns=90 * S, reason=None)
    measurements.replace_run_energy(connection, energy, now_ns=NOW)
    return run_id


def sources(*source_ids: str) -> list[fleet.SourceRecord]:
    """Return plain GPU sources on the device gpu-0."""
    return [
        fleet.SourceRecord(
            source_id=source_id,
            vendor="nvidia",
            device_id="gpu-0",
            device_name="NVIDIA H200",
            scope="gpu",
            energy_source="counter",
            has_energy=True,
            has_power=True,
        )
        for source_id in source_ids
    ]
