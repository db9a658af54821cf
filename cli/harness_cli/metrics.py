"""`harness metrics`: a job's models side by side in the metrics of the profiling paper."""

from __future__ import annotations

import click

from harness_cli.connection import coordinator_option, database_option
from harness_cli.output import format_option, print_rows
from harness_cli.paper_metrics import side_by_side
from harness_cli.results import result_table


@click.command()
@click.argument("job", metavar="JOB")
@format_option
@coordinator_option
@database_option
def metrics(job: str, output_format: str, coordinator: str, database_url: str | None) -> None:
    """Show every metric of the profiling paper (table 7) for each model of JOB, side by side.

    Metrics of a query are means over the answered queries. What is absent is said below, with the reason.
    """
    rows, notes = side_by_side(result_table(job, coordinator, database_url).to_pylist())
    print_rows(rows, output_format, empty=f"Job {job} has no finished tasks yet.")
    if output_format == "table" and notes:
        click.echo("\nAbsent:")
        for note in notes:
            click.echo(f"  {note}.")
