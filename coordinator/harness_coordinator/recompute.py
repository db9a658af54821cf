"""Recompute: every energy row of a job made again from its stored samples and generations."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness_store import jobs, measurements, runs
from sqlalchemy import Connection

from harness_coordinator.run_energy import compute_run_energy


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What a recomputation did."""

    runs: int
    rows: int
    """Query rows written."""
    device_joules: float
    """Sum over primary sources of all runs."""
    notes: tuple[str, ...]
    """What could not be had, one sentence a run."""


def recompute_job(connection: Connection, job_id: str, attribution: str | None = None) -> Recomputed:
    """Make the energy rows of every run of a job that is over again; doing it twice leaves the same rows.

    Args:
        connection: in a transaction: all rows of the job change together or none.
        job_id: the job.
        attribution: `tokens`, `time` or `exclusive`; None: as the job asked.

    Raises:
        UnknownJobError: no such job.
    """
    return store_rows(connection, energy_of_job(connection, job_id, attribution))


def energy_of_job(
    connection: Connection, job_id: str, attribution: str | None = None
) -> list[measurements.RunEnergyRows]:
    """Compute the rows of every run of a job that is over; only reads. Arguments as for `recompute_job`."""
    jobs.spec_json(connection, job_id)
    return [
        compute_run_energy(connection, run.run_id, final=True, attribution=attribution)
        for run in runs.runs_of_job(connection, job_id)
        if run.energy_state != "none" and run.state in runs.OVER
    ]


def store_rows(connection: Connection, made: Sequence[measurements.RunEnergyRows]) -> Recomputed:
    """Put computed rows in the place of the stored ones."""
    for rows in made:
        measurements.replace_run_energy(connection, rows, now_ns=time.time_ns())
    return Recomputed(
        runs=len(made),
        rows=sum(len(rows.queries) for rows in made),
        device_joules=sum(
            s.device_joules or 0.0 for rows in made for s in rows.sources if s.role == "primary"
        ),
        notes=tuple(f"run {rows.run_id}: {rows.reason}" for rows in made if rows.reason),
    )
