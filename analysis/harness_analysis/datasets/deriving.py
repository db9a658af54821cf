"""New datasets from rows of one that is there: some of its rows, or all of them with other domains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
from harness_store.dataset_tables import BATCH_ROWS

from harness_analysis.datasets.duplicates import IntArray
from harness_analysis.errors import DatasetError


def chosen_rows(table: pa.Table, rows: IntArray) -> Iterator[pa.RecordBatch]:
    """Yield some rows of a dataset, in the order given, as batches that may be imported again."""
    for at in range(0, len(rows), BATCH_ROWS):
        yield from table.take(pa.array(rows[at : at + BATCH_ROWS])).combine_chunks().to_batches()


def with_domains(table: pa.Table, domains: Sequence[str | None]) -> pa.Table:
    """Return a dataset's rows with other domains, one for each row; None leaves a row without one.

    Raises:
        DatasetError: not as many domains as rows.
    """
    if len(domains) != table.num_rows:
        raise DatasetError(f"{len(domains)} domains for {table.num_rows} rows")
    at = table.schema.get_field_index("domain")
    return table.set_column(at, table.schema.field(at), pa.array(domains, pa.large_string()))
