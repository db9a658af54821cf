"""Samples as one table and as files that `harness integrate` reads: CSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from harness_agent.sample_blocks import INTEGER_COLUMNS, SampleBlock

SUFFIXES = (".parquet", ".csv")
_FIRST_COLUMNS = ("t_ns", "source", "power_w", "energy_j", "power_avg_w")


class SampleFileError(Exception):
    """A sample file cannot be written; the message says why and what to do."""


def merge(blocks: Sequence[SampleBlock]) -> dict[str, np.ndarray]:
    """Return all blocks as one table in time order.

    Columns are `t_ns`, `source` and every column that any block has; where a source lacks one its values are
    NaN (0 for the integer columns).
    """
    present = {name for block in blocks for name in block.columns}
    others = sorted(present - set(_FIRST_COLUMNS))
    names = [name for name in _FIRST_COLUMNS if name in present or name in {"t_ns", "source"}] + others
    table: dict[str, np.ndarray] = {}
    for name in names:
        parts = [_column(block, name) for block in blocks]
        table[name] = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    order = np.argsort(table["t_ns"], kind="stable")
    return {name: values[order] for name, values in table.items()}


def write_samples(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Write a table of `merge` to a `.csv` or `.parquet` file.

    Raises:
        SampleFileError: the place cannot be written, or Parquet is asked for without pyarrow.
    """
    try:
        if path.suffix == ".csv":
            with path.open("w", newline="") as file:
                rows = zip(*(values.tolist() for values in columns.values()), strict=True)
                write_csv(file, list(columns), rows)
        else:
            _write_parquet(path, columns)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise SampleFileError(msg) from error


def write_csv(file: IO[str], names: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a header and rows; absent values (NaN, None) become empty fields."""
    writer = csv.writer(file)
    writer.writerow(names)
    writer.writerows(["" if _is_absent(value) else value for value in row] for row in rows)


def _write_parquet(path: Path, columns: dict[str, np.ndarray]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        msg = f"{path}: Parquet needs pyarrow; pip install 'joule-harness[coordinator]', or write a .csv file"
        raise SampleFileError(msg) from error
    # pyarrow's own NaN is a value; an absent reading is a null to every reader.
    arrays = {name: pa.array(values.tolist(), from_pandas=True) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path, compression="zstd")


def _column(block: SampleBlock, name: str) -> np.ndarray:
    if name == "source":
        return np.full(len(block), block.source_id, object)
    if name in block.columns:
        return block.columns[name]
    return np.zeros(len(block), np.int64) if name in INTEGER_COLUMNS else np.full(len(block), np.nan)


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))
