"""Datasets: queries stored once by content, with a job or imported under a name."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, select, update

from harness_store.errors import DuplicateDatasetError, UnknownDatasetError
from harness_store.models import Dataset, Query
from harness_store.models.base import storable
from harness_store.prompts import content_hash, prompt_text
from harness_store.rows import as_row, chunks, insert_absent, insert_into, table_of

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]|/(?=[A-Za-z0-9])){0,199}")


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
    origin: str | None = None
    """The set it comes from, where that is known for each row."""
    licence: str | None = None
    content_hash: str | None = None
    """Of the prompt; made when the row is stored."""


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A dataset without its queries."""

    dataset_id: str
    name: str | None
    origin: str
    content_hash: str
    row_count: int
    created_realtime_ns: int
    licence: str | None = None
    parent: str | None = None
    """Name of the dataset it was cleaned or split from."""
    owner: str | None = None
    """Who imported it, as their certificate says; None where there is no TLS."""
    mapping_json: str | None = None
    report_json: str | None = None
    """What the import, the cleaning or the split counted."""


@dataclass(frozen=True, slots=True)
class NewDataset:
    """A dataset to be imported under a name."""

    name: str
    origin: str
    now_ns: int
    """Realtime."""
    licence: str | None = None
    parent: str | None = None
    owner: str | None = None
    mapping_json: str | None = None
    report_json: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """A dataset as stored; `is_new` is False where the same rows were there under the name already."""

    dataset: DatasetRow
    is_new: bool


def check_name(name: str) -> None:
    """Refuse a name that a command line or a job file could not carry.

    Raises:
        ValueError: it is empty, too long, or holds other characters.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name a dataset: letters, digits, `.`, `_`, `-` and `/` between parts are taken,"
            " at most 200, for example wildchat/train"
        )


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
    if name is not None:
        return import_rows(connection, NewDataset(name, origin, now_ns), chunks(rows)).dataset
    tally = _Tally()
    tally.add(rows)
    whole = tally.finish()
    row = DatasetRow(whole[:16], None, origin, whole, len(rows), now_ns)
    if insert_absent(connection, Dataset, as_row(row)):
        for chunk in chunks(rows):
            _insert_queries(connection, row.dataset_id, chunk)
    return row


def import_rows(connection: Connection, new: NewDataset, batches: Iterable[Sequence[QueryRow]]) -> Imported:
    """Store queries under a name as they come, so that a million of them never lie in memory.

    The same rows under the same name are there once, however often they are imported.

    Args:
        connection: in a transaction; when this raises, the caller rolls it back.
        new: the dataset's name, and where it is from.
        batches: queries with ordinals from 0; a batch is some thousand rows.

    Raises:
        ValueError: no queries, an id that is there twice, or a name that cannot be one.
        DuplicateDatasetError: the name belongs to other queries.
    """
    check_name(new.name)
    there = connection.execute(select_dataset(new.name)).first()
    dataset_id = f"{new.name}-{secrets.token_hex(4)}"
    row = DatasetRow(dataset_id, row_count=0, content_hash="", created_realtime_ns=new.now_ns, **_about(new))
    if there is None and not _claim(connection, row):
        raise DuplicateDatasetError(f"a dataset named {new.name!r} was imported at this moment by another")
    tally = _Tally()
    for batch in batches:
        tally.add(batch)
        if there is None:
            _insert_queries(connection, dataset_id, batch)
    whole = tally.finish()
    if there is not None:
        if there.content_hash != whole:
            raise DuplicateDatasetError(
                f"a dataset named {new.name!r} exists with other queries; choose another name"
            )
        return Imported(DatasetRow(**there._mapping), is_new=False)
    made = replace(row, row_count=tally.count, content_hash=whole)
    connection.execute(
        update(Dataset).where(Dataset.dataset_id == dataset_id),
        {"row_count": made.row_count, "content_hash": made.content_hash},
    )
    return Imported(made, is_new=True)


def select_dataset(name: str) -> Any:
    """Return the query for the dataset of a name, with the columns of `DatasetRow`."""
    return select(*(getattr(Dataset, f.name) for f in fields(DatasetRow))).where(Dataset.name == name)


def rows_hash(batches: Iterable[Sequence[QueryRow]]) -> str:
    """Return the content hash that rows would have as a dataset.

    Raises:
        ValueError: no queries, or an id that is there twice.
    """
    tally = _Tally()
    for batch in batches:
        tally.add(batch)
    return tally.finish()


def find_dataset(connection: Connection, name: str) -> DatasetRow:
    """Return the dataset that was imported under a name.

    Raises:
        UnknownDatasetError: there is none.
    """
    found = connection.execute(select_dataset(name)).first()
    if found is None:
        known = connection.execute(
            select(Dataset.name).where(Dataset.name.is_not(None)).order_by(Dataset.name).limit(21)
        )
        names = [row.name for row in known]
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") or "none is imported"
        raise UnknownDatasetError(f"no dataset is named {name!r} ({shown})")
    return DatasetRow(**found._mapping)


def dataset_of_id(connection: Connection, dataset_id: str) -> DatasetRow:
    """Return a dataset by its id, as a job has it; one of a job file has no name.

    Raises:
        UnknownDatasetError: there is none.
    """
    columns = (getattr(Dataset, f.name) for f in fields(DatasetRow))
    found = connection.execute(select(*columns).where(Dataset.dataset_id == dataset_id)).first()
    if found is None:
        raise UnknownDatasetError(f"there is no dataset of the id {dataset_id!r}")
    return DatasetRow(**found._mapping)


def queries(
    connection: Connection, dataset_id: str, limit: int | None = None, *, first: int = 0
) -> Iterator[QueryRow]:
    """Yield `limit` queries of a dataset in its order from the ordinal `first`, all when None."""
    columns = [getattr(Query, name) for name in QueryRow.__dataclass_fields__]
    query = select(*columns).where(Query.dataset_id == dataset_id).order_by(Query.ordinal).limit(limit)
    if first:
        query = query.where(Query.ordinal >= first)
    for row in connection.execute(query):
        yield QueryRow(*row)


class _Tally:
    """Counts and hashes rows, and sees that each has its own id."""

    def __init__(self) -> None:
        self.count = 0
        self._seen: set[str] = set()
        self._digest = hashlib.sha256()

    def add(self, rows: Sequence[QueryRow]) -> None:
        for row in rows:
            if row.query_id in self._seen:
                raise ValueError(f"the query id {row.query_id!r} is there twice; each query needs its own")
            self._seen.add(row.query_id)
            self._digest.update(repr(_hashed(row)).encode("utf-8", "surrogatepass"))
        self.count += len(rows)

    def finish(self) -> str:
        if not self.count:
            raise ValueError("a dataset needs at least one query")
        return self._digest.hexdigest()


def _claim(connection: Connection, row: DatasetRow) -> bool:
    """Insert a dataset without its queries; return False where another transaction took its name first."""
    absent = insert_into(connection.dialect.name, table_of(Dataset)).on_conflict_do_nothing()
    return connection.execute(absent.returning(Dataset.dataset_id), as_row(row)).first() is not None


def _about(new: NewDataset) -> dict[str, Any]:
    return {f.name: getattr(new, f.name) for f in fields(new) if f.name != "now_ns"}


def _hashed(row: QueryRow) -> tuple[object, ...]:
    """Return what a dataset's hash is made of; rows without an origin hash as they did before there was one."""
    whole = (
        row.query_id,
        row.ordinal,
        row.text,
        row.messages_json,
        row.reference,
        row.domain,
        row.extra_json,
    )
    return whole if row.origin is None and row.licence is None else (*whole, row.origin, row.licence)


def _insert_queries(connection: Connection, dataset_id: str, rows: Sequence[QueryRow]) -> None:
    """Insert queries through the driver: of a million, each microsecond holds up every other writer by a second."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    columns = ("dataset_id", *QueryRow.__dataclass_fields__)
    marks = ", ".join([mark] * len(columns))
    statement = f"INSERT INTO queries ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
    values = [
        (
            dataset_id,
            storable(row.query_id),
            row.ordinal,
            storable(row.text),
            storable(row.messages_json),
            storable(row.reference),
            storable(row.domain),
            storable(row.extra_json),
            storable(row.origin),
            storable(row.licence),
            row.content_hash or content_hash(prompt_text(row.text, row.messages_json)),
        )
        for row in rows
    ]
    if values:
        connection.exec_driver_sql(statement, values)
