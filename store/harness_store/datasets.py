"""Datasets: queries stored once by content, with a job or imported under a name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from harness_store.errors import DuplicateDatasetError, UnknownDatasetError
from harness_store.models import Dataset, Query
from harness_store.models.base import storable
from harness_store.rows import as_row, chunks, insert_absent


@dataclass(frozen=True, slots=True)
class QueryRow:
    """One query; `ordinal` counts from 0 in the order of its file."""

    query_id: str
    ordinal: int
    text: str
    messages_json: str | None = None
    reference: str | None = None
    domain: str | None = None
    extra_json: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset without its queries."""

    dataset_id: str
    name: str | None
    origin: str
    content_hash: str
    row_count: int
    created_realtime_ns: int


def store_rows(
    connection: Connection, rows: Sequence[QueryRow], *, origin: str, now_ns: int, name: str | None = None
) -> DatasetRow:
    """Store queries as a dataset, once by content and name.

    Args:
        connection: in a transaction.
        rows: at least one query, ids all different.
        origin: where they came from, for people.
        now_ns: realtime.
        name: set to import the dataset under a name.

    Raises:
        ValueError: no queries, or an id that is there twice.
        DuplicateDatasetError: the name belongs to other queries.
    """
    if not rows:
        raise ValueError("a dataset needs at least one query")
    seen: set[str] = set()
    for row in rows:
        if row.query_id in seen:
            raise ValueError(f"the query id {row.query_id!r} is there twice; each query needs its own")
        seen.add(row.query_id)
    content_hash = _hash(rows)
    dataset_id = content_hash[:16] if name is None else f"{name}-{content_hash[:8]}"
    row = DatasetRow(dataset_id, name, origin, content_hash, len(rows), now_ns)
    if name is not None:
        there = connection.execute(select(Dataset.content_hash).where(Dataset.name == name)).scalar()
        if there is not None and there != content_hash:
            raise DuplicateDatasetError(
                f"a dataset named {name!r} exists with other queries; choose another name"
            )
    if insert_absent(connection, Dataset, as_row(row)):
        _insert_queries(connection, dataset_id, rows)
    return row


def find_dataset(connection: Connection, name: str) -> DatasetRow:
    """Return the dataset that was imported under a name.

    Raises:
        UnknownDatasetError: there is none.
    """
    query = select(*Dataset.__table__.columns).where(Dataset.name == name)
    found = connection.execute(query).first()
    if found is None:
        known = connection.execute(
            select(Dataset.name).where(Dataset.name.is_not(None)).order_by(Dataset.name)
        )
        names = ", ".join(row.name for row in known) or "none is imported"
        raise UnknownDatasetError(f"no dataset is named {name!r} ({names})")
    return DatasetRow(**found._mapping)


def queries(connection: Connection, dataset_id: str, limit: int | None = None) -> Iterator[QueryRow]:
    """Yield the first `limit` queries of a dataset in its order, all when None."""
    columns = [getattr(Query, name) for name in QueryRow.__dataclass_fields__]
    query = select(*columns).where(Query.dataset_id == dataset_id).order_by(Query.ordinal).limit(limit)
    for row in connection.execute(query):
        yield QueryRow(**row._mapping)


def _hash(rows: Sequence[QueryRow]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(_values(row)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _values(row: QueryRow) -> tuple[object, ...]:
    return (row.query_id, row.ordinal, row.text, row.messages_json, row.reference, row.domain, row.extra_json)


def _insert_queries(connection: Connection, dataset_id: str, rows: Sequence[QueryRow]) -> None:
    """Insert queries through the driver: of a million, each microsecond holds up every other writer by a second."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    columns = ("dataset_id", *QueryRow.__dataclass_fields__)
    marks = ", ".join([mark] * len(columns))
    statement = f"INSERT INTO queries ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
    for chunk in chunks(rows):
        values = [(dataset_id, *(storable(value) for value in _values(row))) for row in chunk]
        connection.exec_driver_sql(statement, values)
