"""Datasets that were imported under a name: listed, read as Arrow batches, dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
from sqlalchemy import Connection, delete, func, select

from harness_store import datasets
from harness_store.datasets import DatasetRow, QueryRow
from harness_store.errors import DatasetInUseError, NotOwnerError
from harness_store.models import Dataset, Job, Query

BATCH_ROWS = 5_000

ROWS_SCHEMA = pa.schema(
    [
        (name, pa.large_string())
        for name in (
            "query_id",
            "text",
            "messages_json",
            "reference",
            "domain",
            "extra_json",
            "origin",
            "licence",
            "content_hash",
        )
    ]
)
"""Columns of a dataset's rows wherever they travel; their order is the dataset's."""


def list_datasets(connection: Connection) -> list[DatasetRow]:
    """Return the datasets that have a name, by name, without their reports."""
    names = [name for name in DatasetRow.__dataclass_fields__ if name not in {"mapping_json", "report_json"}]
    query = select(*(getattr(Dataset, name) for name in names)).where(Dataset.name.is_not(None))
    return [DatasetRow(**row._mapping) for row in connection.execute(query.order_by(Dataset.name))]


def row_batch(
    connection: Connection, dataset_id: str, *, first: int, limit: int = BATCH_ROWS
) -> pa.RecordBatch:
    """Return up to `limit` rows of a dataset from the ordinal `first` on, none behind its end."""
    return as_batch(list(datasets.queries(connection, dataset_id, limit, first=first)))


def as_batch(rows: Sequence[QueryRow]) -> pa.RecordBatch:
    """Return rows as a batch of `ROWS_SCHEMA`."""
    columns = [
        pa.array([getattr(row, name) for row in rows], pa.large_string()) for name in ROWS_SCHEMA.names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ROWS_SCHEMA)


def rows_of(batches: Iterator[pa.RecordBatch] | Sequence[pa.RecordBatch]) -> Iterator[list[QueryRow]]:
    """Yield batches as rows, numbered from 0; columns that are not known are left out.

    Raises:
        ValueError: a column is missing or holds no text, or a row has no id or text.
    """
    ordinal = 0
    for batch in batches:
        lists = [_strings(batch, name) for name in ROWS_SCHEMA.names]
        rows = [
            QueryRow(query_id, ordinal + at, *rest)
            for at, (query_id, *rest) in enumerate(zip(*lists, strict=True))
        ]
        for row in rows:
            if not row.query_id or not row.text:
                raise ValueError(f"row {row.ordinal + 1} has no id or no text")
        yield rows
        ordinal += len(rows)


def drop_dataset(connection: Connection, name: str, *, by: str | None = None) -> DatasetRow:
    """Delete a dataset and its queries.

    Args:
        connection: in a transaction.
        name: the dataset's.
        by: who asks, as their certificate says; None is an administrator, who may drop what others imported.

    Raises:
        UnknownDatasetError: there is none.
        NotOwnerError: somebody else imported it.
        DatasetInUseError: a job took its queries from it, whose results need them.
    """
    row = datasets.find_dataset(connection, name)
    if by is not None and row.owner is not None and row.owner != by:
        raise NotOwnerError(f"the dataset {name!r} was imported by {row.owner}; only they may drop it")
    jobs = connection.execute(
        select(Job.job_id).where(Job.dataset_id == row.dataset_id).order_by(Job.job_id)
    ).scalars()
    if used := list(jobs):
        more = f" and {len(used) - 1} more" if len(used) > 1 else ""
        raise DatasetInUseError(
            f"job {used[0]}{more} took its queries from {name!r}: their results need them, so it stays"
        )
    connection.execute(delete(Query).where(Query.dataset_id == row.dataset_id))
    connection.execute(delete(Dataset).where(Dataset.dataset_id == row.dataset_id))
    return row


def children(connection: Connection, name: str) -> dict[str, int]:
    """Return the datasets that were made from one, with their numbers of rows."""
    query = select(Dataset.name, func.coalesce(Dataset.row_count, 0)).where(Dataset.parent == name)
    return {str(row[0]): int(row[1]) for row in connection.execute(query.order_by(Dataset.name))}


def _strings(batch: pa.RecordBatch, name: str) -> list[str | None]:
    at = batch.schema.get_field_index(name)
    if at < 0:
        raise ValueError(f"the rows have no column `{name}`")
    column = batch.column(at)
    if pa.types.is_null(column.type):
        return [None] * batch.num_rows
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise ValueError(f"the column `{name}` holds {column.type}, not text")
    return column.to_pylist()
