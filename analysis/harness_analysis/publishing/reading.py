"""Reads a published benchmark back: every hash, count and content hash is checked before anything is taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from harness_store.dataset_tables import BATCH_ROWS, ROWS_SCHEMA, rows_of
from harness_store.datasets import rows_hash
from pydantic import ValidationError

from harness_analysis.errors import PublishingError
from harness_analysis.publishing.manifest import MANIFEST, OUTCOMES, Manifest, PublishedDataset, sha256_of


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder whose files are all there and as they were written.

    Raises:
        PublishingError: no manifest, one of another version, or a file that is absent or changed; the first is named.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise PublishingError(f"{folder}: is no published benchmark: there is no {MANIFEST} in it") from None
    except OSError as error:
        raise PublishingError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PublishingError(f"{path}: `{where}`: {first['msg']}") from None
    for file in manifest.files:
        _check(folder, file.path, file.sha256, file.size_bytes, file.rows)
    listed = {file.path: file.rows for file in manifest.files}
    named = [d.file for d in manifest.datasets]
    named += [name for job in manifest.jobs for name in (job.results, job.verdicts)]
    named += [OUTCOMES] if manifest.jobs else []
    for name in named:
        if listed.get(name) is None:
            raise PublishingError(f"{path}: `files` has no hash and rows of {name}")
    for dataset in manifest.datasets:
        if listed[dataset.file] != dataset.rows:
            raise PublishingError(
                f"{path}: {dataset.name} has {dataset.rows} rows, its file {listed[dataset.file]}"
            )
        _check_content(folder, dataset)
    return manifest


def dataset_batches(folder: Path, dataset: PublishedDataset) -> Iterator[pa.RecordBatch]:
    """Yield a dataset's rows as batches of `harness_store.dataset_tables.ROWS_SCHEMA`."""
    with pq.ParquetFile(folder / dataset.file) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=ROWS_SCHEMA.names):
            yield from pa.Table.from_batches([batch]).select(ROWS_SCHEMA.names).cast(ROWS_SCHEMA).to_batches()


def _check(folder: Path, name: str, sha256: str, size_bytes: int, rows: int | None) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise PublishingError(f"{folder / MANIFEST}: {name!r} leads out of the folder")
    try:
        if path.stat().st_size != size_bytes or sha256_of(path) != sha256:
            raise PublishingError(
                f"{path}: is not what was published: its SHA-256 or size differs; fetch it again"
            )
        if rows is not None and (found := pq.read_metadata(path).num_rows) != rows:
            raise PublishingError(f"{path}: has {found} rows where the manifest says {rows}")
    except OSError as error:
        raise PublishingError(f"{path}: cannot be read: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise PublishingError(f"{path}: is no Parquet file: {str(error).splitlines()[0]}") from None


def _check_content(folder: Path, dataset: PublishedDataset) -> None:
    try:
        found = rows_hash(rows_of(dataset_batches(folder, dataset)))
    except (ValueError, KeyError, pa.ArrowException) as error:
        raise PublishingError(f"{folder / dataset.file}: holds no queries: {error}") from None
    if found != dataset.content_hash:
        raise PublishingError(
            f"{folder / dataset.file}: its rows are not those of {dataset.name}: the content hash is {found[:12]}...,"
            f" the manifest has {dataset.content_hash[:12]}..."
        )
