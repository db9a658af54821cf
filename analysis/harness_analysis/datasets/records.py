"""Files as records: JSONL, CSV, Parquet and Arrow, each record with the number of its line or row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness_analysis.datasets.mapping import nearest
from harness_analysis.errors import DatasetError

JSON_KINDS = frozenset({".jsonl", ".ndjson"})
ARROW_KINDS = frozenset({".arrow", ".feather", ".ipc"})
FILE_KINDS = (".jsonl", ".ndjson", ".csv", ".parquet", ".arrow", ".feather", ".ipc")

_BATCH_ROWS = 2_000
_ARROW_FILE_MAGIC = b"ARROW1"
_MAX_FIELD_CHARACTERS = 16_000_000
"""Of one CSV cell: a conversation of the longest context, with room; an unclosed quote ends here, not in memory."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file, or why a line is none."""

    place: str
    """`line 7` or `row 7`, counted from 1."""
    fields: dict[str, Any]
    error: str = ""


def read_records(
    path: Path, columns: Sequence[str], *, keep: Sequence[str] | None = None
) -> Iterator[Record]:
    """Yield the records of a file; a line that is no record is yielded with its error.

    Args:
        path: .jsonl, .csv, .parquet or .arrow.
        columns: names that must be there (of a path, its first part); checked where a file has a heading.
        keep: further columns to read, all when None.

    Raises:
        DatasetError: no such file, not of a known kind, empty, damaged, or without a column.
    """
    kind = path.suffix.lower()
    if kind not in FILE_KINDS:
        raise DatasetError(f"{path}: datasets are read from {', '.join(FILE_KINDS)} files")
    try:
        if not path.is_file():
            raise DatasetError(f"{path}: there is no such file")
        if path.stat().st_size == 0:
            raise DatasetError(f"{path}: the file is empty")
        if kind in JSON_KINDS:
            yield from _json_lines(path)
        elif kind == ".csv":
            yield from _csv(path, columns)
        else:
            yield from _columnar(path, kind, columns, keep)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from None
    except pa.ArrowException as error:
        what = str(error).splitlines()[0]
        raise DatasetError(f"{path}: is damaged, or no {kind[1:]} file: {what}") from None


def _json_lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"line {number}"
            try:
                fields = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                yield Record(
                    place, {}, f"is not UTF-8 text ({error.reason} at byte {error.start} of the line)"
                )
                continue
            except (json.JSONDecodeError, RecursionError) as error:
                yield Record(place, {}, f"not valid JSON: {getattr(error, 'msg', 'nested too deeply')}")
                continue
            if not isinstance(fields, dict):
                kind = type(fields).__name__
                yield Record(
                    place, {}, f'each line must be a JSON object like {{"query": "..."}}, not {kind}'
                )
                continue
            yield Record(place, fields)


def _csv(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    with path.open("rb") as file:
        reader = csv.reader(_text_lines(file, path))
        try:
            heading = next(reader, None)
            if heading is None:
                raise DatasetError(f"{path}: the file is empty")
            for name in heading:
                if heading.count(name) > 1:
                    raise DatasetError(
                        f"{path}: line 1: the column `{name}` is there twice; give each a name of its own"
                    )
            _check_columns(path, columns, heading, "line 1: ")
            while True:
                first = reader.line_num + 1
                cells = next(reader, None)
                if cells is None:
                    return
                if not cells:
                    continue
                if len(cells) != len(heading):
                    what = f"has {len(cells)} cells where the heading has {len(heading)}"
                    yield Record(f"line {first}", {}, what)
                    continue
                yield Record(f"line {first}", {k: v or None for k, v in zip(heading, cells, strict=True)})
        except csv.Error as error:
            raise DatasetError(f"{path} line {reader.line_num}: is no CSV: {error}") from None


def _text_lines(file: IO[bytes], path: Path) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            # A record may go over several lines: which of them are lost cannot be known.
            raise DatasetError(
                f"{path} line {number}: is not UTF-8 text ({error.reason} at byte {error.start} of the line);"
                " write the file as UTF-8"
            ) from None


def _columnar(path: Path, kind: str, columns: Sequence[str], keep: Sequence[str] | None) -> Iterator[Record]:
    if kind == ".parquet":
        with pq.ParquetFile(path) as file:
            wanted = _wanted(path, columns, keep, file.schema_arrow.names)
            yield from _batches(file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted))
        return
    with pa.memory_map(str(path)) as mapped:
        if mapped.read(len(_ARROW_FILE_MAGIC)) == _ARROW_FILE_MAGIC:
            reader = pa.ipc.open_file(mapped)
            wanted = _wanted(path, columns, keep, reader.schema.names)
            batches = (reader.get_batch(at) for at in range(reader.num_record_batches))
        else:
            mapped.seek(0)
            batches = pa.ipc.open_stream(mapped)
            wanted = _wanted(path, columns, keep, batches.schema.names)
        yield from _batches(
            part
            for batch in batches
            for part in pa.Table.from_batches([batch]).select(wanted).to_batches(_BATCH_ROWS)
        )


def _batches(batches: Iterator[pa.RecordBatch]) -> Iterator[Record]:
    number = 0
    for batch in batches:
        for fields in batch.to_pylist():
            number += 1
            yield Record(f"row {number}", fields)


def _wanted(
    path: Path, columns: Sequence[str], keep: Sequence[str] | None, there: Sequence[str]
) -> list[str]:
    _check_columns(path, columns, there, "")
    return [name for name in there if keep is None or name in columns or name in keep]


def _check_columns(path: Path, columns: Sequence[str], there: Sequence[str], place: str) -> None:
    for name in columns:
        if name not in there:
            raise DatasetError(f"{path}: {place}there is no column `{name}`{nearest(name, there)}")
