"""A small fleet and job to start tests from."""

from __future__ import annotations

import json

from harness_store import fleet, jobs, runs
from harness_store.datasets import QueryRow
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
