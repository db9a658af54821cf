"""A table that was read, in whatever form the caller works with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Frame:
    """Rows and named columns; absent values are null in every form but pandas' float columns, where they are NaN."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.num_rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._table.to_batches():
            yield from batch.to_pylist()

    def __repr__(self) -> str:
        return f"Frame({len(self)} rows: {', '.join(self.columns)})"

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._table.column_names)

    def to_arrow(self) -> pa.Table:
        """Return the rows as an Arrow table."""
        return self._table

    def to_polars(self) -> pl.DataFrame:
        """Return the rows as a polars data frame."""
        import polars as pl

        frame = pl.from_arrow(self._table)
        if not isinstance(frame, pl.DataFrame):
            raise TypeError("a table became a series")
        return frame

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a pandas data frame."""
        return self._table.to_pandas()

    def to_parquet(self, path: str | Path) -> None:
        """Write the rows to a Parquet file, which appears whole or not at all."""
        import pyarrow.parquet

        def write(partial: Path) -> None:
            pyarrow.parquet.write_table(self._table, partial, compression="zstd")

        _replace(Path(path), write)

    def to_csv(self, path: str | Path) -> None:
        """Write the rows to a CSV file, which appears whole or not at all; absent values are empty fields."""
        import pyarrow.csv

        def write(partial: Path) -> None:
            pyarrow.csv.write_csv(_without_dictionaries(self._table), partial)

        _replace(Path(path), write)


def _replace(path: Path, write: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _without_dictionaries(table: pa.Table) -> pa.Table:
    """Return the table with plain text in the place of dictionary columns, which CSV cannot hold."""
    fields = [
        pa.field(f.name, f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in table.schema
    ]
    return table.cast(pa.schema(fields))
