"""`harness dataset`: list, show, describe, export and drop sets of queries; importing and steps are beside it."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import click

from harness_cli.connection import coordinator_option, database_option
from harness_cli.dataset_access import open_datasets
from harness_cli.dataset_import import import_, mappings
from harness_cli.dataset_label import label
from harness_cli.dataset_steps import clean, split
from harness_cli.outcome_options import plain_failures
from harness_cli.output import format_option, print_rows, significant
from harness_cli.output_file import OutputFile
from harness_cli.row_progress import row_progress

STATISTICS_COLUMNS = (
    "of",
    "value",
    "rows",
    "share",
    "with_reference",
    "duplicates",
    "characters_median",
    "characters_p95",
    "characters_max",
)
STATISTICS_LABELS = {
    "with_reference": "reference",
    "duplicates": "doubled",
    "characters_median": "characters",
    "characters_p95": "p95",
    "characters_max": "max",
}


@click.group()
def dataset() -> None:
    """Import, clean, split, label, describe and export sets of queries, which jobs use as `dataset: {name: ...}`.

    A dataset under a name never changes: cleaning and splitting make new ones. With --db URL the commands work on that
    database, else through the coordinator.
    """


for _command in (import_, mappings, clean, split, label):
    dataset.add_command(_command)


@dataset.command("list")
@format_option
@coordinator_option
@database_option
def list_(output_format: str, coordinator: str, database_url: str | None) -> None:
    """List the datasets that have a name."""
    with open_datasets(database_url, coordinator) as access:
        rows = [
            {
                "name": row.name,
                "rows": row.row_count,
                "licence": row.licence,
                "parent": row.parent,
                "owner": row.owner,
                "imported": _day(row.created_realtime_ns),
                "origin": row.origin,
            }
            for row in access.listed()
        ]
    print_rows(
        rows,
        output_format,
        columns=["name", "rows", "licence", "parent", "imported", "origin"],
        empty="No dataset is imported yet: harness dataset import NAME FILE",
        fold=True,
    )


@dataset.command()
@click.argument("name")
@format_option
@coordinator_option
@database_option
def show(name: str, output_format: str, coordinator: str, database_url: str | None) -> None:
    """Show where NAME comes from, and what its import, cleaning or split counted."""
    with open_datasets(database_url, coordinator) as access:
        shown = access.shown(name)
    row = shown.dataset
    report = json.loads(row.report_json) if row.report_json else {}
    facts = {
        "name": row.name,
        "rows": row.row_count,
        "origin": row.origin,
        "licence": row.licence,
        "parent": row.parent,
        "owner": row.owner,
        "imported": _day(row.created_realtime_ns),
        "content_hash": row.content_hash,
        "mapping": json.loads(row.mapping_json) if row.mapping_json else None,
        "made_from_it": shown.children,
        "report": report,
    }
    if output_format == "json":
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    lines = [
        {"fact": key, "value": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}
        for key, value in facts.items()
        if value not in (None, {}) and key != "report"
    ]
    print_rows([*lines, *_report_lines(report)], output_format)


@dataset.command()
@click.argument("name")
@click.option(
    "--by",
    type=click.Choice(("origin", "domain", "split", "turns")),
    multiple=True,
    help="Only these; repeats.",
)
@format_option
@coordinator_option
@database_option
def stats(
    name: str, by: tuple[str, ...], output_format: str, coordinator: str, database_url: str | None
) -> None:
    """Count the rows of NAME by origin, domain, split and turns, with lengths, references and duplicates.

    Lengths are characters of the whole prompt; tokens depend on a model and are not guessed.
    """
    with plain_failures(), open_datasets(database_url, coordinator) as access:
        from harness_analysis.datasets.spool import Spool
        from harness_analysis.datasets.statistics import dataset_statistics

        with Spool() as spool:
            spool.write(access.batches(name))
            rows = dataset_statistics(spool.table())
    chosen = [row for row in rows if not by or row["of"] in ("all", *by)]
    print_rows(chosen, output_format, columns=STATISTICS_COLUMNS, labels=STATISTICS_LABELS)


@dataset.command()
@click.argument("name")
@click.option(
    "-o",
    "--output",
    type=OutputFile(),
    required=True,
    help="A .jsonl, .csv, .parquet or .arrow file.",
)
@coordinator_option
@database_option
def export(name: str, output: Path, coordinator: str, database_url: str | None) -> None:
    """Write NAME to a file that `dataset import` and, as .jsonl, job files read."""
    with plain_failures():
        from harness_analysis.datasets.exporting import check_export, export_rows

        check_export(output)
        with open_datasets(database_url, coordinator) as access, row_progress() as progress:

            def counted() -> Any:
                for batch in access.batches(name):
                    yield batch
                    progress("written", batch.num_rows)

            count = export_rows(counted(), output)
    click.echo(f"{count:,} rows written to {output}", err=True)


@dataset.command()
@click.argument("name")
@coordinator_option
@database_option
def drop(name: str, coordinator: str, database_url: str | None) -> None:
    """Delete NAME and its queries; refused while a job's results need them."""
    with open_datasets(database_url, coordinator) as access:
        row = access.dropped(name)
    click.echo(f"{name}: {row.row_count:,} rows dropped")


def _report_lines(report: dict[str, Any]) -> list[dict[str, str]]:
    """Return a report as facts of one line each; lists are as long as JSON shows them."""
    lines = []
    for key, value in report.items():
        if key == "steps":
            for step in value:
                more = ", ".join(
                    f"{k.replace('_', ' ')} {_short(v)}"
                    for k, v in step.items()
                    if k not in {"step", "rows_before", "removed", "first_removed", "conflicts"}
                )
                said = f"{step['removed']:,} of {step['rows_before']:,} removed" + (
                    f"; {more}" if more else ""
                )
                lines.append({"fact": f"step {step['step']}", "value": said})
        elif key == "strata":
            lines.append({"fact": "strata", "value": str(len(value))})
        elif value not in ([], None):
            lines.append({"fact": key.replace("_", " "), "value": _short(value)})
    return lines


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_short(v)}" for k, v in list(value.items())[:12]) or "none"
    if isinstance(value, list):
        return "; ".join(str(item) for item in value)
    if isinstance(value, float):
        return significant(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _day(realtime_ns: int) -> str:
    at = datetime.datetime.fromtimestamp(realtime_ns / 1e9, tz=datetime.UTC)
    return at.strftime("%Y-%m-%d %H:%M UTC")
