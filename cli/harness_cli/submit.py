"""`harness submit`: validate a job file and its queries, then store the job in one piece."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from harness_coordinator.jobfile import JobFile, JobFileError, load_job_file
from harness_coordinator.query_file import QueryFileError, QueryRow, read_query_file
from harness_coordinator.settings import SUBMIT_CHUNK_BYTES, SUBMIT_CHUNK_ROWS
from harness_coordinator.trace_file import TraceFileError, queries_of_trace, read_trace, with_arrivals
from harness_proto.v1 import jobs_pb2

from harness_cli.connection import coordinator_option, jobs_stub
from harness_cli.failure import bad_input
from harness_cli.watching import watch_job

SUBMIT_TIMEOUT_S = 600.0


@click.command()
@click.argument("job_file", type=click.Path(path_type=Path))
@click.option("--watch", is_flag=True, help="Stay and show progress; exit 1 if a task failed.")
@click.option(
    "--wait-for-agents",
    is_flag=True,
    help="Accept the job even if no agent of the fleet could run it today.",
)
@coordinator_option
def submit(job_file: Path, watch: bool, wait_for_agents: bool, coordinator: str) -> None:
    """Submit JOB_FILE and print the job id."""
    job, rows = read_job(job_file)
    with jobs_stub(coordinator) as stub:
        reply = stub.Submit(
            submit_messages(job, rows, wait_for_agents=wait_for_agents), timeout=SUBMIT_TIMEOUT_S
        )
    for warning in reply.warnings:
        click.echo(f"note: {warning}", err=True)
    click.echo(reply.job_id)
    if watch:
        watch_job(coordinator, reply.job_id)


def read_job(job_file: Path) -> tuple[JobFile, list[QueryRow]]:
    """Read a job file and the queries it names; a path in it is relative to the job file."""
    try:
        job = load_job_file(job_file)
        if job.dataset.synthetic:
            return job, queries_of_trace(read_trace(_trace(job_file, job), job.dataset.limit))
        if job.dataset.path is None:
            return job, []
        queries = job_file.parent / job.dataset.path
        if not queries.exists():
            raise bad_input(f"{job_file}: `dataset.path`: there is no file {queries}")
        rows = read_query_file(queries, job.dataset.limit)
        if job.arrivals.kind == "recorded":
            trace = _trace(job_file, job)
            rows = with_arrivals(rows, read_trace(trace, len(rows)), str(trace))
        return job, rows
    except (JobFileError, QueryFileError, TraceFileError) as error:
        raise bad_input(str(error)) from None


def _trace(job_file: Path, job: JobFile) -> Path:
    trace = job_file.parent / (job.arrivals.trace or "")
    if not trace.is_file():
        raise bad_input(f"{job_file}: `arrivals.trace`: there is no file {trace}")
    return trace


def submit_messages(
    job: JobFile, rows: Sequence[QueryRow], *, wait_for_agents: bool
) -> Iterator[jobs_pb2.SubmitRequest]:
    """Yield the job, then its queries in chunks that fit into a message however long the queries are."""
    first = jobs_pb2.SubmitRequest(
        submission_id=uuid.uuid4().hex,
        job_json=json.dumps(job.model_dump(mode="json")),
        wait_for_agents=wait_for_agents,
    )
    yield first
    chunk: list[jobs_pb2.DatasetRow] = []
    size_bytes = 0
    for row in rows:
        message = _row(row)
        if chunk and (
            len(chunk) == SUBMIT_CHUNK_ROWS or size_bytes + message.ByteSize() > SUBMIT_CHUNK_BYTES
        ):
            yield jobs_pb2.SubmitRequest(rows=chunk)
            chunk, size_bytes = [], 0
        chunk.append(message)
        size_bytes += message.ByteSize()
    if chunk:
        yield jobs_pb2.SubmitRequest(rows=chunk)


def _row(row: QueryRow) -> jobs_pb2.DatasetRow:
    message = jobs_pb2.DatasetRow(
        query_id=row.query_id,
        text=row.text,
        messages_json=row.messages_json,
        domain=row.domain,
        extra_json=row.extra_json,
    )
    if row.reference is not None:
        message.reference = row.reference
    return message
