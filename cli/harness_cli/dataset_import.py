"""`harness dataset import`: files become a dataset, whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from harness_cli.connection import coordinator_option, database_option
from harness_cli.dataset_access import check_name, open_datasets
from harness_cli.failure import bad_input, unreachable
from harness_cli.outcome_options import plain_failures
from harness_cli.output import format_option, print_rows
from harness_cli.row_progress import row_progress

F = TypeVar("F", bound=Callable[..., Any])

ANSWERS = ("text", "letter", "index", "number", "choice", "after-hashes", "yes-no")


def column_options(command: F) -> F:
    """Add `--mapping` and what changes it, passed on as `**columns`."""
    for option in (
        click.option("--keep", multiple=True, metavar="COLUMN", help="Kept beside the query; repeats."),
        click.option("--licence", help="Kept with each row."),
        click.option("--origin", help="Name of the set, kept with each row; default: the file's name."),
        click.option("--domain", metavar="COLUMN", help="Subject or category."),
        click.option("--id", "id_", metavar="COLUMN", help="Default: the set's name and a number."),
        click.option("--answer", type=click.Choice(ANSWERS), help="What stands in --reference."),
        click.option("--reference", metavar="COLUMN", help="The expected answer."),
        click.option("--instruction", metavar="TEXT", help="Last line of each question."),
        click.option(
            "--choices",
            multiple=True,
            metavar="COLUMN",
            help="A list of choices, or one column each; repeats.",
        ),
        click.option("--turns", type=click.Choice(("all", "first", "each")), help="Of a conversation."),
        click.option("--messages", metavar="COLUMN", help="A conversation: a list of {role, content}."),
        click.option(
            "--template", metavar="TEXT", help="The question made of columns: '{passage} {question}?'"
        ),
        click.option("--query", metavar="COLUMN", help="The question; paths such as prompt.text work."),
        click.option(
            "--mapping",
            "mapping_name",
            default="plain",
            show_default=True,
            metavar="NAME|FILE",
            help="Which columns hold what: `harness dataset mappings`, or a .yaml file.",
        ),
    ):
        command = option(command)
    return command


@click.command("import")
@click.argument("name")
@click.argument("sources", metavar="[FILE|hub:OWNER/SET]...", nargs=-1)
@column_options
@click.option(
    "--on-error",
    type=click.Choice(("stop", "skip")),
    default="stop",
    show_default=True,
    help="At a row that cannot be used: stop, or leave it out and count it.",
)
@click.option("--require-reference", is_flag=True, help="A row without a reference cannot be used.")
@click.option("--limit", type=click.IntRange(min=1), help="Rows to import at most.")
@click.option("--hub-split", default="train", show_default=True, help="Part of a hub set.")
@coordinator_option
@database_option
def import_(
    name: str,
    sources: tuple[str, ...],
    on_error: Any,
    require_reference: bool,
    limit: int | None,
    hub_split: str,
    coordinator: str,
    database_url: str | None,
    **columns: Any,
) -> None:
    """Import files as the dataset NAME: .jsonl, .csv, .parquet, .arrow, or sets of the Hugging Face hub.

    Without a FILE the hub set of --mapping is read. The same rows under the same name are there once.
    """
    with plain_failures(), _hub_failures():
        import json

        from harness_analysis.datasets.importing import ImportReport, import_batches
        from harness_analysis.datasets.spool import Spool
        from harness_store.datasets import NewDataset

        check_name(name)
        mapping = _mapping(**columns)
        if not sources and mapping.hub is None:
            raise bad_input("name a FILE, or hub:OWNER/SET for one of the Hugging Face hub")
        files = sources or (f"hub:{mapping.hub}",)
        report = ImportReport()
        with Spool() as spool:
            with row_progress() as progress:
                batches = import_batches(
                    files,
                    mapping,
                    report,
                    on_error=on_error,
                    require_reference=require_reference,
                    limit=limit,
                    hub_split=hub_split,
                    progress=lambda rows: progress("read", rows),
                )
                count = spool.write(batches)
            new = NewDataset(
                name=name,
                origin=", ".join(files),
                now_ns=time.time_ns(),
                licence=mapping.licence,
                mapping_json=mapping.model_dump_json(exclude_defaults=True),
                report_json=json.dumps(report.as_json(), ensure_ascii=False),
            )
            with open_datasets(database_url, coordinator, create=True) as access:
                imported = access.stored(new, spool, count)
    for line in report.skipped:
        click.echo(f"skipped: {line}", err=True)
    if report.rows_skipped > len(report.skipped):
        click.echo(f"... and {report.rows_skipped - len(report.skipped):,} more rows skipped", err=True)
    said = f"{report.rows_imported:,} rows, {report.rows_skipped:,} skipped"
    again = "" if imported.is_new else "; they were there already under this name"
    click.echo(f"{name}: {said}, {report.without_reference:,} without a reference{again}")


@click.command()
@format_option
def mappings(output_format: str) -> None:
    """List the mappings that come with this program."""
    with plain_failures():
        from harness_analysis.datasets.mapping import load_mapping, shipped_mappings

        found = {name: load_mapping(name) for name in shipped_mappings()}
    rows = [
        {"mapping": name, "licence": m.licence, "hub": m.hub, "about": m.about} for name, m in found.items()
    ]
    print_rows(rows, output_format)


def _mapping(mapping_name: str, **columns: Any) -> Any:
    from harness_analysis.datasets.mapping import adapted, load_mapping

    choices, keep = columns.pop("choices"), columns.pop("keep")
    changes = {
        **columns,
        "id": columns.pop("id_"),
        "choices": (choices[0] if len(choices) == 1 else list(choices)) if choices else None,
        "keep": list(keep) or None,
    }
    changes.pop("id_", None)
    return adapted(load_mapping(mapping_name), changes, origin="the options")


class _hub_failures:  # noqa: N801 - used as a `with` statement, like a function
    """Turn a hub that cannot be reached into exit code 3."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        from harness_analysis.errors import HubError

        if isinstance(error, HubError):
            raise unreachable(str(error)) from None
