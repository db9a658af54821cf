"""`harness results`: one row per (query, model, hardware, repetition) of a job."""

from __future__ import annotations

from pathlib import Path

import click
from harness_proto.v1 import jobs_pb2

from harness_cli.connection import coordinator_option, database_option
from harness_cli.output import format_option
from harness_cli.tables import check_output, deliver_table, fetch_table

TABLE_COLUMNS = (
    "query_id",
    "model_id",
    "agent",
    "repetition",
    "prompt_tokens",
    "output_tokens",
    "time_to_first_token_s",
    "total_s",
    "joules",
    "joules_low",
    "joules_high",
    "energy_source",
    "correct",
    "flags",
    "error",
)
TIMEOUT_S = 600.0


@click.command()
@click.argument("job", metavar="JOB")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write .csv, .json or .parquet.")
@format_option
@coordinator_option
@database_option
def results(
    job: str, output: Path | None, output_format: str, coordinator: str, database_url: str | None
) -> None:
    """Show the rows of JOB; -o and --format json|csv carry every column."""
    check_output(output)
    table = fetch_table(
        database_url=database_url,
        coordinator=coordinator,
        read=lambda store: store.results(job).to_arrow(),
        ask=lambda stub: stub.Results(jobs_pb2.TableRequest(job_id=job), timeout=TIMEOUT_S),
    )
    deliver_table(table, output, output_format, TABLE_COLUMNS, empty=f"Job {job} has no finished tasks yet.")
