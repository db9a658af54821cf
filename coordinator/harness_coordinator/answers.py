"""What the store knows of jobs and agents, as messages of the wire: for the Jobs service and for `--db` alike."""

from __future__ import annotations

import json

from harness_proto.v1 import jobs_pb2
from harness_store import fleet, jobs, runs
from sqlalchemy import Connection

MAX_FAILURES_SHOWN = 20


def job_detail(connection: Connection, job_id: str, waiting_reason: str = "") -> jobs_pb2.JobDetail:
    """Return a job with its totals per source and its first failures.

    Args:
        connection: the store; only read.
        job_id: the job.
        waiting_reason: why its ready tasks are not leased, where somebody knows.

    Raises:
        UnknownJobError: no such job.
    """
    summary = jobs.job_summary(connection, job_id)
    failed, why = runs.failed_runs(connection, job_id)
    detail = jobs_pb2.JobDetail(
        summary=summary_message(summary),
        job_json=jobs.spec_json(connection, job_id),
        waiting_reason=waiting_reason if summary.state == "active" else "",
        failed_runs=failed,
        last_failed_run_reason=why,
        failures=[
            jobs_pb2.FailedTask(
                task_id=f.task_id,
                query_id=f.query_id,
                model_id=f.model_id,
                attempts=f.attempt,
                reason=f.reason or "",
            )
            for f in jobs.failed_tasks(connection, job_id, limit=MAX_FAILURES_SHOWN)
        ],
    )
    for total in runs.source_totals(connection, job_id):
        message = detail.totals.add(
            agent=total.agent,
            source_id=total.source_id,
            scope=total.scope,
            energy_source=total.energy_source,
            device_joules=total.device_joules,
            attributed_joules=total.attributed_joules,
            unattributed_joules=total.unattributed_joules,
            coverage=total.coverage,
            flags=total.flags,
            device_name=total.device_name,
        )
        for name in ("baseline_w", "alpha", "alpha_standard_error"):
            value = getattr(total, name)
            if value is not None:
                setattr(message, name, value)
    return detail


def summary_message(s: jobs.JobSummary) -> jobs_pb2.JobSummary:
    """Return a job's counts as a message; joules stay unset until there are any."""
    message = jobs_pb2.JobSummary(
        job_id=s.job_id,
        name=s.name,
        state=s.state,
        tasks=s.tasks,
        ready=s.ready,
        leased=s.leased,
        running=s.running,
        done=s.done,
        failed=s.failed,
        cancelled=s.cancelled,
        measured=s.measured,
        submitted_realtime_ns=s.submitted_realtime_ns,
        finished_realtime_ns=s.finished_realtime_ns or 0,
        joules_kind=s.joules_kind or "",
    )
    if s.joules is not None:
        message.joules = s.joules
    return message


def agent_message(row: fleet.AgentRow) -> jobs_pb2.AgentSummary:
    """Return an agent as a message; the clock's offset stays unset until it was measured."""
    message = jobs_pb2.AgentSummary(
        agent_id=row.agent_id,
        name=row.name,
        state=row.state,
        hardware=row.hardware,
        sources=row.source_ids,
        loaded_model=row.loaded_model or "",
        last_seen_realtime_ns=row.last_seen_realtime_ns,
        version=row.version,
        labels=json.loads(row.labels_json),
    )
    if row.clock_offset_ns is not None and row.clock_offset_error_ns is not None:
        message.clock_offset_ns = row.clock_offset_ns
        message.clock_offset_error_ns = row.clock_offset_error_ns
    if row.clock_drift_ppm is not None and row.clock_drift_error_ppm is not None:
        message.clock_drift_ppm = row.clock_drift_ppm
        message.clock_drift_error_ppm = row.clock_drift_error_ppm
    return message
