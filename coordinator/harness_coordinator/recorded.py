"""Recorded samples and windows from files, for `harness integrate`: CSV, JSON lines and Parquet."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness_coordinator.energy.records import Float64, Int64, QueryColumns, SampleColumns

FORMATS = (".csv", ".jsonl", ".parquet")
LARGEST_NS = 2**63 - 1


class RecordedFileError(Exception):
    """A recorded file cannot be used; the message names file, line or column, and the way out."""


@dataclass(frozen=True, slots=True)
class RecordedSamples:
    """Polls of one source from a file."""

    samples: SampleColumns
    source: str


@dataclass(frozen=True, slots=True)
class RecordedWindows:
    """Windows from a file, with the names of their rows."""

    ids: list[str]
    queries: QueryColumns


@dataclass(frozen=True, slots=True)
class _Columns:
    """Columns as they stand in a file; row k is line `lines[k]` of it (or row k + 1 of a Parquet file)."""

    path: Path
    values: dict[str, Sequence[Any]]
    lines: Sequence[int]
    unit: str = "line"

    def place(self, row: int) -> str:
        return f"{self.path}, {self.unit} {self.lines[row]}"


def read_samples(path: Path, source: str | None = None, power_column: str = "power_w") -> RecordedSamples:
    """Read the polls of one source.

    Args:
        path: file with `t_ns` and at least one of `power_w`, `energy_j`; optional `source`, `half_width_ns`,
            `interval_ns`.
        source: which source where the file holds several.
        power_column: the column to take for `power_w`, W, where the file calls it something else.

    Raises:
        RecordedFileError: the file is not there, not readable as its ending says, lacks a column, holds a
            value that is not a number, or holds several sources and none was named.
    """
    columns = _read(path)
    if "t_ns" not in columns.values:
        raise RecordedFileError(f"{path} has no column t_ns; its columns are {_listed(columns)}")
    if power_column != "power_w" and power_column not in columns.values:
        raise RecordedFileError(f"{path} has no column {power_column}; its columns are {_listed(columns)}")
    if not {power_column, "energy_j"} & set(columns.values):
        watts = next((name for name in columns.values if name.endswith("_w")), "")
        hint = f"; --power-column {watts} takes that one" if watts else ""
        raise RecordedFileError(
            f"{path} has neither a column power_w nor energy_j; its columns are {_listed(columns)}{hint}"
        )
    if not len(columns.lines):
        raise RecordedFileError(f"{path} holds no samples")
    rows, name = _rows_of(columns, source)
    t_ns = _whole(columns, "t_ns")[rows]

    def optional(column: str) -> Float64:
        return _numbers(columns, column)[rows] if column in columns.values else np.zeros(0)

    def optional_ns(column: str) -> Int64:
        return np.nan_to_num(optional(column)).astype(np.int64)

    samples = SampleColumns(
        t_ns=t_ns,
        energy_j=optional("energy_j"),
        power_w=optional(power_column),
        half_width_ns=optional_ns("half_width_ns"),
        interval_ns=optional_ns("interval_ns"),
        throttle_bits=optional_ns("throttle_bits"),
    )
    return RecordedSamples(samples, name)


def read_windows(path: Path) -> RecordedWindows:
    """Read windows or queries.

    Args:
        path: file with `id`, `start_ns`, `end_ns`; optional `first_token_ns`, `prompt_tokens`, `output_tokens`.

    Raises:
        RecordedFileError: as for `read_samples`, or two rows have one id.
    """
    columns = _read(path)
    for name in ("id", "start_ns", "end_ns"):
        if name not in columns.values:
            raise RecordedFileError(f"{path} has no column {name}; its columns are {_listed(columns)}")
    if not len(columns.lines):
        raise RecordedFileError(f"{path} holds no windows")
    ids = [str(value) for value in columns.values["id"]]
    seen: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name in seen:
            raise RecordedFileError(
                f"{columns.place(row)}: id {name!r} was used in {columns.unit} {columns.lines[seen[name]]} already"
            )
        seen[name] = row
    count = len(ids)
    known = columns.values
    first = _numbers(columns, "first_token_ns") if "first_token_ns" in known else np.zeros(count)
    queries = QueryColumns(
        start_ns=_whole(columns, "start_ns"),
        first_token_ns=np.nan_to_num(first).astype(np.int64),
        end_ns=_whole(columns, "end_ns"),
        prompt_tokens=_numbers(columns, "prompt_tokens")
        if "prompt_tokens" in known
        else np.full(count, np.nan),
        output_tokens=_numbers(columns, "output_tokens")
        if "output_tokens" in known
        else np.full(count, np.nan),
    )
    return RecordedWindows(ids, queries)


def _rows_of(columns: _Columns, source: str | None) -> tuple[np.ndarray, str]:
    everything = np.arange(len(columns.lines))
    if "source" not in columns.values:
        return everything, source or columns.path.stem
    names = np.array(["" if value is None else str(value) for value in columns.values["source"]])
    found = sorted(set(names.tolist()))
    if source is None:
        if len(found) > 1:
            raise RecordedFileError(
                f"{columns.path} holds several sources; choose one with --source: {', '.join(found)}"
            )
        return everything, found[0] or columns.path.stem
    if source not in found:
        raise RecordedFileError(f"{columns.path} holds no source {source!r}; it has {', '.join(found)}")
    return np.flatnonzero(names == source), source


def _read(path: Path) -> _Columns:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise RecordedFileError(f"{path} must end in {', '.join(FORMATS)}; its ending tells its format")
    if not path.is_file():
        raise RecordedFileError(f"there is no file {path}")
    try:
        if suffix == ".csv":
            return _read_csv(path)
        if suffix == ".jsonl":
            return _read_jsonl(path)
    except UnicodeDecodeError as error:
        raise RecordedFileError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise RecordedFileError(f"{path} cannot be read: {error.strerror}") from error
    return _read_parquet(path)


def _read_csv(path: Path) -> _Columns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = next(reader, None)
        if not header:
            raise RecordedFileError(f"{path} is empty; its first line must name the columns")
        names = [name.strip() for name in header]
        rows: list[list[str]] = []
        lines: list[int] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise RecordedFileError(
                    f"{path}, line {reader.line_num}: {len(row)} cells under {len(names)} column names"
                )
            rows.append(row)
            lines.append(reader.line_num)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return _Columns(path, dict(zip(names, columns, strict=True)), lines)


def _read_jsonl(path: Path) -> _Columns:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise RecordedFileError(f"{path}, line {number} is not JSON: {error.msg}") from error
            if not isinstance(row, dict):
                raise RecordedFileError(f"{path}, line {number} is not a JSON object")
            rows.append(row)
            lines.append(number)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _Columns(path, {name: [row.get(name) for row in rows] for name in names}, lines)


def _read_parquet(path: Path) -> _Columns:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise RecordedFileError(
            f"{path} is a Parquet file and pyarrow is missing; pip install 'joule-harness[coordinator]' or use CSV"
        ) from error
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise RecordedFileError(f"{path} is not a Parquet file that can be read: {error}") from error
    values: dict[str, Sequence[Any]] = {}
    for name in table.column_names:
        column = table.column(name)
        numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        values[name] = column.to_numpy() if numeric else column.to_pylist()
    return _Columns(path, values, range(1, table.num_rows + 1), unit="row")


def _numbers(columns: _Columns, name: str) -> Float64:
    """A column of numbers; empty cells and nulls are absent (NaN)."""
    values = columns.values[name]
    if isinstance(values, np.ndarray):
        return values.astype(np.float64)
    numbers = np.empty(len(values))
    for row, value in enumerate(values):
        if value is None or (isinstance(value, str) and value.strip().lower() in {"", "nan", "null", "none"}):
            numbers[row] = math.nan
            continue
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError):
            raise RecordedFileError(f"{columns.place(row)}: {name} is {value!r}, not a number") from None
    return numbers


def _whole(columns: _Columns, name: str) -> Int64:
    """A column of times in whole ns; every row must have one."""
    values = columns.values[name]
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        return values.astype(np.int64)
    times = np.empty(len(values), np.int64)
    for row, value in enumerate(values):
        try:
            time_ns = (
                int(value)
                if isinstance(value, int) or (isinstance(value, str) and "." not in value)
                else None
            )
            exact = float(value) if time_ns is None else 0.0
            time_ns = round(exact) if time_ns is None and math.isfinite(exact) else time_ns
        except (TypeError, ValueError):
            time_ns = None
        if time_ns is None or not -LARGEST_NS <= time_ns <= LARGEST_NS:
            raise RecordedFileError(f"{columns.place(row)}: {name} is {value!r}, not a time in whole ns")
        times[row] = time_ns
    return times


def _listed(columns: _Columns) -> str:
    return ", ".join(columns.values) or "none"
