"""Small steps between records and rows that every module of the store takes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase

CHUNK_ROWS = 2_000
"""Rows sent to the database at once: far below the limits on parameters of a statement."""

T = TypeVar("T")


def as_row(record: Any) -> dict[str, Any]:
    """Return a record's fields with NaN and infinity as None: absent is NULL in every column."""
    return {name: absent_to_none(getattr(record, name)) for name in _names(type(record))}


def absent_to_none(value: Any) -> Any:
    """Return None for NaN and infinity, any other value as it is."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_or_none(text: str) -> str | None:
    """Return a JSON object as it is and None for anything else: one broken text would break the views."""
    try:
        return text if isinstance(json.loads(text), dict) else None
    except ValueError:
        return None


def chunks(items: Iterable[T], size: int = CHUNK_ROWS) -> Iterator[list[T]]:
    """Yield lists of up to `size` items."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def table_of(model: type[DeclarativeBase]) -> Table:
    """Return a model's table."""
    table = model.__table__
    if not isinstance(table, Table):
        raise TypeError(f"{model.__name__} is no table")
    return table


def upsert(
    connection: Connection,
    model: type[DeclarativeBase],
    rows: Sequence[Mapping[str, Any]],
    *,
    keep: Sequence[str] = (),
) -> None:
    """Insert rows; where the primary key is there already, replace the other columns but those of `keep`.

    All rows carry the same columns.
    """
    if not rows:
        return
    statement = _upsert(connection.dialect.name, table_of(model), tuple(rows[0]), tuple(keep))
    for chunk in chunks(rows):
        connection.execute(statement, [dict(row) for row in chunk])


def insert_absent(connection: Connection, model: type[DeclarativeBase], row: Mapping[str, Any]) -> bool:
    """Insert one row unless its primary key is there already; return whether it was inserted."""
    statement = _insert_absent(connection.dialect.name, table_of(model))
    return connection.execute(statement, dict(row)).first() is not None


def insert_into(dialect: str, table: Table) -> Any:
    """Return an insert of the dialect that knows ON CONFLICT."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@lru_cache(maxsize=64)
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


# Building a statement costs SQLAlchemy five times what running it costs SQLite.
@lru_cache(maxsize=128)
def _upsert(dialect: str, table: Table, columns: tuple[str, ...], keep: tuple[str, ...]) -> Any:
    key = [column.name for column in table.primary_key.columns]
    statement = insert_into(dialect, table)
    replaced = {name: statement.excluded[name] for name in columns if name not in key and name not in keep}
    if replaced:
        return statement.on_conflict_do_update(index_elements=key, set_=replaced)
    return statement.on_conflict_do_nothing(index_elements=key)


@lru_cache(maxsize=128)
def _insert_absent(dialect: str, table: Table) -> Any:
    key = list(table.primary_key.columns)
    return insert_into(dialect, table).on_conflict_do_nothing(index_elements=key).returning(*key)
