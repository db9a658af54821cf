"""`harness export bench` and `harness import bench`: a benchmark as a folder that others can check and read."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness_cli.connection import coordinator_option, database_option
from harness_cli.dataset_access import open_datasets
from harness_cli.failure import bad_input
from harness_cli.outcome_options import plain_failures
from harness_cli.output import format_option, print_rows
from harness_cli.row_progress import row_progress

if TYPE_CHECKING:
    from harness_analysis.publishing.source import BenchmarkSource


@click.group()
def export() -> None:
    """Publish what is in a database."""


@click.group()
def import_() -> None:
    """Take what others published."""


@export.command("bench")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder."
)
@click.option("--dataset", "datasets", multiple=True, metavar="NAME", help="A dataset or a split; repeats.")
@click.option(
    "--job", "jobs", multiple=True, metavar="ID", help="A job that is over, with its queries; repeats."
)
@format_option
@coordinator_option
@database_option
def export_bench(
    output: Path,
    datasets: tuple[str, ...],
    jobs: tuple[str, ...],
    output_format: str,
    coordinator: str,
    database_url: str | None,
) -> None:
    """Write queries, verdicts and telemetry as Parquet, with a data card and a manifest of hashes.

    The tables of whole jobs come from the coordinator, or with --db URL from that database; the folder is the same.
    """
    with plain_failures(), _source(database_url, coordinator) as source, row_progress() as progress:
        from harness_analysis.publishing.writing import write_benchmark

        manifest = write_benchmark(source, output, datasets=datasets, jobs=jobs, progress=progress)
    print_rows(
        [
            {"file": f.path, "rows": f.rows, "bytes": f.size_bytes, "sha256": f.sha256[:12]}
            for f in manifest.files
        ],
        output_format,
    )
    if output_format == "table":
        click.echo(
            f"{output}: {len(manifest.datasets)} datasets, {len(manifest.jobs)} jobs; read {output}/README.md"
        )


@contextlib.contextmanager
def _source(database_url: str | None, coordinator: str) -> Iterator[BenchmarkSource]:
    if not database_url:
        from harness_cli.bench_access import coordinator_source

        with coordinator_source(coordinator) as source:
            yield source
        return
    from harness_analysis import connect
    from harness_analysis.publishing.source import StoreSource

    with connect(database_url) as reader:
        yield StoreSource(reader)


@import_.command("bench")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--check", "check_only", is_flag=True, help="Check the files, and store nothing.")
@format_option
@coordinator_option
@database_option
def import_bench(
    folder: Path, check_only: bool, output_format: str, coordinator: str, database_url: str | None
) -> None:
    """Check every hash and count of DIR, then store its datasets under their names.

    Its outcomes stay where they are: `harness route evaluate DIR/outcomes.parquet`.
    """
    with plain_failures():
        from harness_analysis.publishing.manifest import OUTCOMES
        from harness_analysis.publishing.reading import read_manifest

        manifest = read_manifest(folder)
        rows: list[dict[str, Any]] = [
            {"dataset": d.name, "rows": d.rows, "content_hash": d.content_hash[:12], "stored": "checked"}
            for d in manifest.datasets
        ]
        if not check_only:
            stored = _store_all(folder, manifest.datasets, coordinator, database_url)
            rows = [
                row | {"stored": "new" if new else "was there"} for row, new in zip(rows, stored, strict=True)
            ]
    print_rows(rows, output_format)
    if output_format == "table":
        click.echo(f"{len(manifest.files)} files are as they were published")
        if manifest.jobs:
            count = next(file.rows for file in manifest.files if file.path == OUTCOMES)
            click.echo(f"{count:,} outcomes: harness route evaluate {folder / OUTCOMES}")


def _store_all(folder: Path, datasets: list[Any], coordinator: str, database_url: str | None) -> list[bool]:
    """Store datasets; where a name belongs to other queries, none of them is stored."""
    from harness_analysis.datasets.spool import Spool
    from harness_analysis.publishing.reading import dataset_batches
    from harness_store.datasets import NewDataset

    stored: list[bool] = []
    with open_datasets(database_url, coordinator, create=True) as access:
        there = {row.name: row.content_hash for row in access.listed()}
        for d in datasets:
            if there.get(d.name) not in (None, d.content_hash):
                raise bad_input(f"a dataset named {d.name!r} exists with other queries; nothing was stored")
        for d in datasets:
            with Spool() as spool:
                count = spool.write(dataset_batches(folder, d))
                report = d.reports.get(d.name)
                new = NewDataset(
                    name=d.name,
                    origin=d.origin,
                    now_ns=time.time_ns(),
                    licence=d.licence,
                    parent=d.parent,
                    mapping_json=json.dumps(d.mapping, ensure_ascii=False) if d.mapping else None,
                    report_json=json.dumps(report, ensure_ascii=False) if report else None,
                )
                stored.append(access.stored(new, spool, count).is_new)
    return stored
