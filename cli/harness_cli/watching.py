"""Progress of a job: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
from harness_proto.v1 import jobs_pb2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness_cli.connection import jobs_stub
from harness_cli.failure import Unreachable, unreachable, work_failed
from harness_cli.output import console, significant


def watch_job(address: str, job_id: str, *, lines: bool = False) -> jobs_pb2.JobDetail:
    """Show a job's progress until it is over and return its last state.

    Args:
        address: the coordinator's.
        job_id: whose progress.
        lines: plain lines on a terminal too, for callers that show a bar themselves.

    Raises:
        Failure: the job failed, was cancelled, or has failed tasks (exit code 1); the coordinator went away (3).
    """
    try:
        with jobs_stub(address) as stub:
            updates = stub.WatchJob(jobs_pb2.JobRequest(job_id=job_id))
            last = _show_bar(updates) if sys.stderr.isatty() and not lines else _show_lines(updates)
    except Unreachable as lost:
        raise unreachable(f"{lost.message}; the job is kept: harness job watch {job_id}") from None
    if last is None:
        raise work_failed(f"the coordinator ended the watch of job {job_id} before saying anything")
    summary = last.summary
    if summary.failed or summary.state in {"failed", "cancelled"}:
        raise work_failed(failure_sentence(last))
    return last


def failure_sentence(detail: jobs_pb2.JobDetail) -> str:
    """Return in one sentence what went wrong with a job."""
    summary = detail.summary
    if summary.state == "cancelled":
        return f"job {summary.job_id} was cancelled: {summary.done} of {summary.tasks} tasks were done"
    reason = f"; the first: {detail.failures[0].reason}" if detail.failures else ""
    return f"{summary.failed} of {summary.tasks} tasks of job {summary.job_id} failed{reason}"


def progress_line(detail: jobs_pb2.JobDetail) -> str:
    """Return a job's state as one plain line."""
    s = detail.summary
    parts = [f"{s.done}/{s.tasks} done"]
    if s.failed:
        parts.append(f"{s.failed} failed")
    in_flight = s.leased + s.running
    if in_flight:
        parts.append(f"{in_flight} on agents")
    if s.HasField("joules"):
        parts.append(" ".join([significant(s.joules), "J", s.joules_kind]).rstrip())
    elif s.joules_kind == "mixed":
        parts.append("some joules measured and some estimated, which are not added")
    if detail.waiting_reason and not in_flight and s.ready:
        parts.append(f"waiting: {detail.waiting_reason}")
    if s.state == "active" and s.done + s.failed + s.cancelled == s.tasks:
        parts.append("computing joules")
    return ", ".join(parts)


def failed_run_line(detail: jobs_pb2.JobDetail) -> str:
    """Say in one line that a run failed and why, empty where none has: its tasks are tried again meanwhile."""
    if not detail.failed_runs:
        return ""
    again = ", its queries are tried again" if detail.summary.state == "active" else ""
    if detail.failed_runs == 1:
        return f"a run failed{again}: {detail.last_failed_run_reason}"
    return f"{detail.failed_runs} runs failed{again}; the last: {detail.last_failed_run_reason}"


def _show_lines(updates: Iterator[jobs_pb2.JobDetail]) -> jobs_pb2.JobDetail | None:
    last: jobs_pb2.JobDetail | None = None
    shown = ""
    failed_runs = 0
    for detail in updates:
        last = detail
        name = detail.summary.name or detail.summary.job_id
        if detail.failed_runs > failed_runs:
            click.echo(f"{name}: {failed_run_line(detail)}", err=True)
            failed_runs = detail.failed_runs
        line = progress_line(detail)
        if line != shown:
            click.echo(f"{name}: {line}", err=True)
            shown = line
    return last


def _show_bar(updates: Iterator[jobs_pb2.JobDetail]) -> jobs_pb2.JobDetail | None:
    last: jobs_pb2.JobDetail | None = None
    columns = (
        TextColumn("{task.fields[name]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console(stderr=True)) as progress:
        bar = progress.add_task("starting", total=None, name="")
        failed_runs = 0
        for detail in updates:
            last, summary = detail, detail.summary
            if detail.failed_runs > failed_runs:
                progress.console.print(failed_run_line(detail), markup=False, highlight=False, soft_wrap=True)
                failed_runs = detail.failed_runs
            over = summary.done + summary.failed + summary.cancelled
            progress.update(
                bar,
                total=summary.tasks,
                completed=over,
                name=summary.name,
                description=progress_line(detail).partition(", ")[2],
            )
    return last
