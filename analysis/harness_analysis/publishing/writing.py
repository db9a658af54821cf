"""Writes a benchmark: datasets, results, verdicts and outcomes of a store as Parquet, a data card and a manifest."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from harness_store.dataset_tables import ROWS_SCHEMA
from harness_store.datasets import DatasetRow
from harness_store.judging import VERDICTS_SCHEMA
from harness_store.results import RESULTS_SCHEMA

from harness_analysis.errors import PublishingError
from harness_analysis.outcomes.schema import OUTCOMES_SCHEMA
from harness_analysis.publishing.data_card import data_card
from harness_analysis.publishing.manifest import (
    CARD,
    MANIFEST,
    OUTCOMES,
    Manifest,
    PublishedDataset,
    PublishedFile,
    PublishedJob,
    sha256_of,
)
from harness_analysis.publishing.source import BenchmarkSource, FinishedJob

LEFT_OUT = ("agent", "host_name")
"""Columns of the results that name machines of the owner; hardware and system stay."""

PUBLISHED_RESULTS = pa.schema([f for f in RESULTS_SCHEMA if f.name not in LEFT_OUT])

_OVER = frozenset({"done", "failed", "cancelled"})


@dataclass
class _Folder:
    root: Path
    progress: Callable[[str, int], None]
    files: list[PublishedFile] = field(default_factory=list[PublishedFile])

    def parquet(self, path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch | pa.Table]) -> int:
        target = self.root / path
        target.parent.mkdir(exist_ok=True)
        rows = 0
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for batch in batches:
                table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
                writer.write_table(table.cast(schema))
                rows += table.num_rows
                self.progress("written", table.num_rows)
        self.listed(path, rows)
        return rows

    def listed(self, path: str, rows: int | None = None) -> None:
        target = self.root / path
        self.files.append(
            PublishedFile(path=path, sha256=sha256_of(target), size_bytes=target.stat().st_size, rows=rows)
        )


def write_benchmark(
    source: BenchmarkSource,
    output: Path,
    *,
    datasets: Sequence[str],
    jobs: Sequence[str],
    progress: Callable[[str, int], None] = lambda _step, _rows: None,
) -> Manifest:
    """Write a folder, which appears whole or not at all; the datasets of the jobs come with them.

    Args:
        source: an open store, or a coordinator.
        output: a folder that is not there yet.
        datasets: names.
        jobs: ids of jobs that are over.
        progress: called with a step's name and the number of rows done since.

    Raises:
        PublishingError: nothing to write, no such dataset or job, a job that is not over, or a folder that is there.
    """
    if not datasets and not jobs:
        raise PublishingError("name something to publish: --dataset NAME or --job ID")
    check_output(output)
    partial: Path | None = None
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
        manifest = _write(
            source, _Folder(partial, progress), list(dict.fromkeys(datasets)), list(dict.fromkeys(jobs))
        )
        partial.chmod(0o755)
        partial.rename(output)
        return manifest
    except OSError as error:
        raise PublishingError(f"{output}: cannot be written: {error.strerror or error}") from None
    finally:
        if partial is not None and partial.exists():
            shutil.rmtree(partial)


def check_output(output: Path) -> None:
    """Refuse a folder that cannot be made.

    Raises:
        PublishingError: it is there already and not empty, or its parent is not.
    """
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise PublishingError(f"{output}: is there already; name a new folder")
    if not output.absolute().parent.is_dir():
        raise PublishingError(f"{output}: there is no folder {output.absolute().parent} to make it in")


def _write(source: BenchmarkSource, folder: _Folder, names: list[str], job_ids: list[str]) -> Manifest:
    chosen = {row.dataset_id: row for row in (source.dataset(name) for name in names)}
    jobs = [source.job(job_id) for job_id in job_ids]
    for job in jobs:
        if job.state not in _OVER:
            raise PublishingError(
                f"job {job.job_id} is {job.state}: wait for its end (harness job watch {job.job_id})"
            )
        if job.dataset_id not in chosen:
            chosen[job.dataset_id] = source.dataset_of_id(job.dataset_id)
    published = {row.dataset_id: row.name or f"queries-{row.dataset_id}" for row in chosen.values()}
    datasets = [
        _dataset(source, folder, row, published[row.dataset_id], number)
        for number, row in enumerate(chosen.values(), start=1)
    ]
    made = [_job_files(source, folder, job, published) for job in jobs]
    if jobs:
        tables = (_renamed(source.outcomes(job.job_id), published) for job in jobs)
        folder.parquet(OUTCOMES, OUTCOMES_SCHEMA, tables)
    card = data_card(folder.root, datasets, made)
    (folder.root / CARD).write_text(card, encoding="utf-8")
    folder.listed(CARD)
    manifest = Manifest(datasets=datasets, jobs=made, files=sorted(folder.files, key=lambda file: file.path))
    (folder.root / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def _dataset(
    source: BenchmarkSource, folder: _Folder, row: DatasetRow, name: str, number: int
) -> PublishedDataset:
    path = f"datasets/{number:02d}-{name.replace('/', '-')}.parquet"
    licences: dict[str, int] = {}

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in source.rows(row):
            for licence in batch.column("licence").to_pylist():
                known = licence or row.licence or "not stated"
                licences[known] = licences.get(known, 0) + 1
            yield batch

    count = folder.parquet(path, ROWS_SCHEMA, batches())
    reports = _reports(source, row, name)
    return PublishedDataset(
        name=name,
        file=path,
        rows=count,
        content_hash=row.content_hash,
        origin=row.origin,
        licence=row.licence,
        licences=licences,
        parent=row.parent,
        mapping=json.loads(row.mapping_json) if row.mapping_json else None,
        reports=reports,
    )


def _reports(source: BenchmarkSource, row: DatasetRow, name: str) -> dict[str, dict[str, Any] | None]:
    found: dict[str, dict[str, Any] | None] = {}
    while name not in found:
        found[name] = json.loads(row.report_json) if row.report_json else None
        if row.parent is None:
            break
        name = row.parent
        try:
            row = source.dataset(name)
        except PublishingError:  # dropped since; its children keep only its name
            found[name] = None
            break
    return found


def _job_files(
    source: BenchmarkSource, folder: _Folder, job: FinishedJob, published: dict[str, str]
) -> PublishedJob:
    results, verdicts = f"jobs/{job.job_id}.results.parquet", f"jobs/{job.job_id}.verdicts.parquet"
    batches = source.results(job.job_id)
    kept = (_renamed(pa.Table.from_batches([b]).drop_columns(list(LEFT_OUT)), published) for b in batches)
    if not folder.parquet(results, PUBLISHED_RESULTS, kept):
        raise PublishingError(f"job {job.job_id} has no finished task; leave it out")
    folder.parquet(verdicts, VERDICTS_SCHEMA, [source.verdicts(job.job_id)])
    about = {k: v for k, v in asdict(job).items() if k != "dataset_id"}
    return PublishedJob(**about, dataset=published[job.dataset_id], results=results, verdicts=verdicts)


def _renamed(table: pa.Table, published: dict[str, str]) -> pa.Table:
    """Return a table whose `dataset_id` is the name under which the queries are published."""
    at = table.schema.get_field_index("dataset_id")
    names = [published.get(one, one) for one in table.column(at).to_pylist()]
    return table.set_column(at, table.schema.field(at), pa.array(names, pa.string()))
