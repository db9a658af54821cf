"""`harness samples`: raw samples of a job's devices, or of everything an agent sent."""

from __future__ import annotations

from pathlib import Path

import click
from harness_proto.v1 import jobs_pb2

from harness_cli.connection import coordinator_option, database_option
from harness_cli.output import format_option
from harness_cli.output_file import OutputFile
from harness_cli.tables import check_output, deliver_table, fetch_table

TABLE_COLUMNS = (
    "agent",
    "source",
    "t_ns",
    "power_w",
    "energy_j",
    "memory_used_bytes",
    "temperature_c",
    "utilisation",
)
TIMEOUT_S = 600.0


@click.command()
@click.argument("job_or_agent", metavar="JOB|AGENT")
@click.option("-o", "--output", type=OutputFile(dir_okay=True), help="Write .csv, .json or .parquet.")
@format_option
@coordinator_option
@database_option
def samples(
    job_or_agent: str, output: Path | None, output_format: str, coordinator: str, database_url: str | None
) -> None:
    """Show the raw samples of a job (over its runs) or of an agent; times are the agent's monotonic clock."""
    check_output(output)
    table = fetch_table(
        database_url=database_url,
        coordinator=coordinator,
        read=lambda store: store.samples(job_or_agent).to_arrow(),
        ask=lambda stub: stub.Samples(jobs_pb2.TableRequest(job_id=job_or_agent), timeout=TIMEOUT_S),
    )
    deliver_table(table, output, output_format, TABLE_COLUMNS, empty=f"{job_or_agent} has no samples.")
