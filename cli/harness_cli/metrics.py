"""`harness metrics`: a job's models side by side in the metrics of the profiling paper."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click

from harness_cli.connection import coordinator_option, database_option
from harness_cli.output import console, format_option, print_rows
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
    print_metrics(result_table(job, coordinator, database_url).to_pylist(), output_format, job)


def print_metrics(results: Sequence[Mapping[str, Any]], output_format: str, job: str) -> None:
    """Print a job's result rows as one column for each model, and below why some values are absent."""
    rows, notes = side_by_side(results)
    # A heading on lines of its own: three models fit beside one another on a terminal.
    labels = {name: name.replace(" (", "\n", 1).replace(", ", "\n").removesuffix(")") for name in rows[0]}
    print_rows(rows, output_format, labels=labels, empty=f"Job {job} has no finished tasks yet.")
    if output_format == "table" and notes:
        click.echo("\nAbsent:")
        screen = console()
        for note in notes:
            # Piped, a note is one line, so that it can be searched for.
            width = screen.width if screen.is_terminal else sys.maxsize
            click.echo(textwrap.fill(f"{note}.", width, initial_indent="  ", subsequent_indent="    "))
