"""A dataset as a file that jobs take and that imports back to the same rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness_analysis.errors import DatasetError

EXPORT_KINDS = (".jsonl", ".csv", ".parquet", ".arrow")

COLUMNS = ("id", "query", "messages", "reference", "domain", "origin", "licence")
"""Names of the mapping `plain`. Columns that were kept beside them come after them, of their own names in JSONL and
as one JSON text `extra` elsewhere."""

_SOURCES = ("query_id", "text", "messages_json", "reference", "domain", "origin", "licence")


def export_rows(batches: Iterable[pa.RecordBatch], output: Path) -> int:
    """Write rows to a file, which appears whole or not at all; return their number.

    Args:
        batches: columns of `harness_store.dataset_tables.ROWS_SCHEMA`.
        output: ends in one of `EXPORT_KINDS`.

    Raises:
        DatasetError: another kind of file, or one that cannot be written.
    """
    check_export(output)
    partial = output.with_name(output.name + ".partial")
    try:
        with _opened(partial, output.suffix.lower()) as write:
            count = 0
            for batch in batches:
                write(batch)
                count += batch.num_rows
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DatasetError(f"{output}: cannot be written: {error.strerror or error}") from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return count


def check_export(output: Path) -> None:
    """Refuse a file whose kind is not known.

    Raises:
        DatasetError: it is not.
    """
    if output.suffix.lower() not in EXPORT_KINDS:
        raise DatasetError(f"{output}: the file name must end in {', '.join(EXPORT_KINDS)}")


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[Any]:
    if kind == ".jsonl":
        with path.open("w", encoding="utf-8") as file:
            yield lambda batch: file.writelines(
                json.dumps(record, ensure_ascii=False) + "\n" for record in _records(batch)
            )
    elif kind == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow((*COLUMNS, "extra"))
            yield lambda batch: writer.writerows(
                zip(*(column.to_pylist() for column in _renamed(batch).columns), strict=True)
            )
    else:
        schema = pa.schema([(name, pa.large_string()) for name in (*COLUMNS, "extra")])
        if kind == ".parquet":
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                yield lambda batch: writer.write_batch(_renamed(batch))
        else:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                yield lambda batch: writer.write_batch(_renamed(batch))


def _renamed(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.select([*_SOURCES, "extra_json"]).rename_columns([*COLUMNS, "extra"])


def _records(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    for row in _renamed(batch).to_pylist():
        extra = json.loads(row.pop("extra") or "{}")
        if row["messages"] is not None:
            row["messages"] = json.loads(row["messages"])
        yield {
            **{k: v for k, v in row.items() if v is not None},
            **{k: v for k, v in extra.items() if k not in row},
        }
