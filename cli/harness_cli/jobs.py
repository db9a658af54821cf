"""`harness jobs` and `harness job show|watch|cancel|retry`."""

from __future__ import annotations

import datetime
from typing import Any

import click
from google.protobuf import json_format
from harness_proto.v1 import jobs_pb2

from harness_cli.connection import CALL_TIMEOUT_S, coordinator_option, database_option, jobs_stub
from harness_cli.database import read_database
from harness_cli.output import format_option, print_rows, significant
from harness_cli.watching import failed_run_line, progress_line, watch_job

MAX_JOBS = 2**31 - 1
"""What the wire's field holds."""

TABLE_COLUMNS = ("job", "name", "state", "tasks", "done", "failed", "joules", "submitted")
TOTAL_COLUMNS = (
    "agent",
    "source",
    "scope",
    "from",
    "device_joules",
    "attributed_joules",
    "unattributed_joules",
    "baseline_w",
    "alpha",
    "coverage",
    "flags",
)


TOTAL_LABELS = {
    "device_joules": "device J",
    "attributed_joules": "in queries J",
    "unattributed_joules": "outside J",
    "baseline_w": "idle W",
}


@click.command()
@click.option(
    "--limit", type=click.IntRange(1, MAX_JOBS), default=50, show_default=True, help="Newest jobs shown."
)
@format_option
@coordinator_option
@database_option
def jobs(limit: int, output_format: str, coordinator: str, database_url: str | None) -> None:
    """List jobs, newest first."""
    if database_url:
        summaries = read_database(database_url, lambda c: _summaries(c, limit))
    else:
        with jobs_stub(coordinator) as stub:
            reply = stub.ListJobs(jobs_pb2.ListJobsRequest(limit=limit), timeout=CALL_TIMEOUT_S)
        summaries = list(reply.jobs)
    kinds = {s.joules_kind for s in summaries if s.joules_kind}
    print_rows(
        [_summary_row(s) for s in summaries],
        output_format,
        columns=TABLE_COLUMNS if len(kinds) < 2 else (*TABLE_COLUMNS, "from"),
        labels={"joules": " ".join(["joules", *kinds])} if len(kinds) < 2 else None,
        empty="No jobs yet; submit one with: harness submit job.yaml",
    )


@click.group()
def job() -> None:
    """Show, watch, cancel or retry one job."""


@job.command()
@click.argument("job_id", metavar="ID")
@format_option
@coordinator_option
@database_option
def show(job_id: str, output_format: str, coordinator: str, database_url: str | None) -> None:
    """Show a job: progress, and per source device total, attributed, unattributed, baseline, alpha."""
    if database_url:
        detail = read_database(database_url, lambda c: _detail(c, job_id))
    else:
        with jobs_stub(coordinator) as stub:
            detail = stub.GetJob(jobs_pb2.JobRequest(job_id=job_id), timeout=CALL_TIMEOUT_S)
    if output_format == "json":
        click.echo(json_format.MessageToJson(detail, preserving_proto_field_name=True))
        return
    totals = [_total_row(t) for t in detail.totals]
    if output_format == "csv":
        print_rows(totals, "csv", columns=TOTAL_COLUMNS)
        return
    summary = detail.summary
    click.echo(f"{summary.job_id}  {summary.name}  {summary.state}  {progress_line(detail)}")
    if totals:
        click.echo()
        print_rows(totals, "table", columns=TOTAL_COLUMNS, labels=TOTAL_LABELS, fold=True)
        for total in detail.totals:
            click.echo(
                f"{total.source_id}: {significant(total.attributed_joules, 6)} J in queries"
                f" + {significant(total.unattributed_joules, 6)} J outside them"
                f" = {significant(total.device_joules, 6)} J of the device"
            )
    if detail.failed_runs:
        click.echo(failed_run_line(detail))
    for failure in detail.failures:
        click.echo(
            f"failed: {failure.query_id} on {failure.model_id} ({failure.attempts} attempts): {failure.reason}"
        )


@job.command()
@click.argument("job_id", metavar="ID")
@coordinator_option
def watch(job_id: str, coordinator: str) -> None:
    """Show progress until the job is over; exit 1 if a task failed."""
    detail = watch_job(coordinator, job_id)
    click.echo(f"{detail.summary.job_id}: {progress_line(detail)}")


@job.command()
@click.argument("job_id", metavar="ID")
@coordinator_option
def cancel(job_id: str, coordinator: str) -> None:
    """Cancel a job: what is done stays, what is not is never run."""
    with jobs_stub(coordinator) as stub:
        detail = stub.CancelJob(jobs_pb2.JobRequest(job_id=job_id), timeout=CALL_TIMEOUT_S)
    click.echo(f"{detail.summary.job_id}: {detail.summary.state}, {progress_line(detail)}")


@job.command()
@click.argument("job_id", metavar="ID")
@coordinator_option
def retry(job_id: str, coordinator: str) -> None:
    """Run a job's failed tasks again."""
    with jobs_stub(coordinator) as stub:
        detail = stub.RetryJob(jobs_pb2.JobRequest(job_id=job_id), timeout=CALL_TIMEOUT_S)
    click.echo(f"{detail.summary.job_id}: {detail.summary.ready} tasks are ready to run again")


def _summaries(connection: Any, limit: int) -> list[jobs_pb2.JobSummary]:
    from harness_coordinator.answers import summary_message
    from harness_store.jobs import job_summaries

    return [summary_message(s) for s in job_summaries(connection, limit=limit)]


def _detail(connection: Any, job_id: str) -> jobs_pb2.JobDetail:
    from harness_coordinator.answers import job_detail

    return job_detail(connection, job_id)


def _summary_row(s: jobs_pb2.JobSummary) -> dict[str, Any]:
    submitted = datetime.datetime.fromtimestamp(s.submitted_realtime_ns / 1e9, tz=datetime.UTC)
    return {
        "job": s.job_id,
        "name": s.name,
        "state": s.state,
        "tasks": s.tasks,
        "ready": s.ready,
        "leased": s.leased,
        "running": s.running,
        "done": s.done,
        "failed": s.failed,
        "cancelled": s.cancelled,
        "measured": s.measured,
        "joules": s.joules if s.HasField("joules") else None,
        "from": s.joules_kind or None,
        "submitted": submitted.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _total_row(t: jobs_pb2.SourceTotal) -> dict[str, Any]:
    return {
        "agent": t.agent,
        "source": t.source_id,
        "device": t.device_name,
        "scope": t.scope,
        "from": t.energy_source,
        "device_joules": t.device_joules,
        "attributed_joules": t.attributed_joules,
        "unattributed_joules": t.unattributed_joules,
        "baseline_w": t.baseline_w if t.HasField("baseline_w") else None,
        "alpha": t.alpha if t.HasField("alpha") else None,
        "alpha_standard_error": t.alpha_standard_error if t.HasField("alpha_standard_error") else None,
        "coverage": t.coverage,
        "flags": t.flags,
    }
