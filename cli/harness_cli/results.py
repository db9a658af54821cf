"""`harness results` and `harness compare`: a job's rows, summed up over repetitions, and which differences count."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from harness_coordinator.levels import COMPARABLE, LEVELS, compare_rows, level_rows
from harness_proto.v1 import jobs_pb2

from harness_cli.connection import coordinator_option, database_option
from harness_cli.output import format_option, print_rows
from harness_cli.output_file import OutputFile
from harness_cli.tables import check_output, deliver_table, fetch_table

if TYPE_CHECKING:
    import pyarrow as pa

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
LABELS = {
    "query_id": "query",
    "model_id": "model",
    "prompt_tokens": "in",
    "output_tokens": "out",
    "time_to_first_token_s": "first s",
    "total_s": "total s",
    "joules_low": "low",
    "joules_high": "high",
    "energy_source": "source",
    "joules_mean": "joules",
    "joules_deviation": "deviation",
    "interval_low": "95 % from",
    "interval_high": "to",
    "instrument_low": "bounds from",
    "instrument_high": "to ",
}
"""Headings of the table form; JSON, CSV and files carry the full names."""
LEVEL_COLUMNS = (
    "query_id",
    "model_id",
    "hardware",
    "energy_source",
    "queries",
    "repetitions",
    "joules_mean",
    "joules_deviation",
    "interval_low",
    "interval_high",
    "instrument_low",
    "instrument_high",
    "failed",
    "correct",
)
TIMEOUT_S = 600.0


@click.command()
@click.argument("job", metavar="JOB")
@click.option("-o", "--output", type=OutputFile(dir_okay=True), help="Write .csv, .json or .parquet.")
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    default="row",
    show_default=True,
    help="row: every repetition; query, model: mean, deviation and 95 % t interval over repetitions,"
    " beside the instrument's 99 % bounds.",
)
@format_option
@coordinator_option
@database_option
def results(
    job: str, output: Path | None, level: str, output_format: str, coordinator: str, database_url: str | None
) -> None:
    """Show the rows of JOB; -o and --format json|csv carry every column."""
    check_output(output)
    table = result_table(job, coordinator, database_url)
    empty = f"Job {job} has no finished tasks yet."
    if level == "row":
        deliver_table(table, output, output_format, TABLE_COLUMNS, empty=empty, labels=LABELS)
        return
    import pyarrow as pa

    summed = pa.Table.from_pylist(level_rows(table.to_pylist(), level))
    deliver_table(summed, output, output_format, LEVEL_COLUMNS, empty=empty, labels=LABELS)


@click.command()
@click.argument("job", metavar="JOB")
@click.option(
    "--by",
    type=click.Choice(tuple(COMPARABLE)),
    default="model",
    show_default=True,
    help="What is compared, pair by pair.",
)
@format_option
@coordinator_option
@database_option
def compare(job: str, by: str, output_format: str, coordinator: str, database_url: str | None) -> None:
    """Say which differences in mean joules per query of JOB are larger than their uncertainty (95 %)."""
    pairs = compare_rows(result_table(job, coordinator, database_url).to_pylist(), by)
    if output_format == "table" and pairs:
        for pair in pairs:
            click.echo(sentence(pair))
        click.echo()
    print_rows(pairs, output_format, empty=f"Job {job} has fewer than two {by}s with joules to compare.")


def result_table(job: str, coordinator: str, database_url: str | None) -> pa.Table:
    """Return a job's result rows, from the database where one is given, else from the coordinator."""
    return fetch_table(
        database_url=database_url,
        coordinator=coordinator,
        read=lambda store: store.results(job).to_arrow(),
        ask=lambda stub: stub.Results(jobs_pb2.TableRequest(job_id=job), timeout=TIMEOUT_S),
    )


def sentence(pair: dict[str, Any]) -> str:
    """Return one comparison in plain words."""
    more = "more" if pair["difference_joules"] > 0 else "less"
    size = f"{abs(pair['difference_percent']):.1f} % {more} joules per query than {pair['first']}"
    if pair["uncertainty_joules"] is None:
        return f"{pair['second']} used {size}; with one repetition and no bounds nobody can say whether that is real"
    verdict = "larger than" if pair["larger_than_uncertainty"] else "within"
    uncertain = (
        100 * pair["uncertainty_joules"] / pair["first_joules"] if pair["first_joules"] else float("nan")
    )
    return f"{pair['second']} used {size}: {verdict} the uncertainty of {uncertain:.1f} %"
