"""Many rows into a table at once, in the way that costs each database's driver least."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, Double, LargeBinary, Table

SQLITE_ROWS = 64
"""Rows in one statement: each statement costs its start, and gives the interpreter's lock away and takes it back."""

_POSTGRES_TYPES = ((Boolean, "boolean"), (BigInteger, "bigint"), (Double, "float8"), (LargeBinary, "bytea"))


class BulkInsert:
    """An insert of tuples: SQLite takes some dozens in a statement, PostgreSQL each column as one array.

    A row for itself costs SQLite twice as much; PostgreSQL a message and the planner's start, five times as much.
    """

    def __init__(self, table: Table, columns: Sequence[str], on_conflict: str = "") -> None:
        """Prepare it.

        Args:
            table: where the rows go.
            columns: what each tuple holds, in order.
            on_conflict: the clause, from `ON CONFLICT`. One call must not name a key twice where it updates.
        """
        into = f"INSERT INTO {table.name} ({', '.join(columns)})"
        marks = f"({', '.join(['?'] * len(columns))})"
        # Bytes go as they are: as text each would be two characters.
        arrays = ", ".join(
            f"{'%b' if kind == 'bytea' else '%s'}::{kind}[]"
            for kind in (_postgres_type(table, name) for name in columns)
        )
        self._one = f"{into} VALUES {marks} {on_conflict}"
        self._some = f"{into} VALUES {', '.join([marks] * SQLITE_ROWS)} {on_conflict}"
        self._arrays = f"{into} SELECT * FROM unnest({arrays}) {on_conflict}"  # noqa: S608 - names of our own

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert the rows."""
        if not rows:
            return
        if connection.dialect.name == "postgresql":
            columns: Any = tuple(list(column) for column in zip(*rows, strict=True))
            connection.exec_driver_sql(self._arrays, columns)
            return
        whole = len(rows) // SQLITE_ROWS * SQLITE_ROWS
        if whole:
            flat = [
                tuple(chain.from_iterable(rows[at : at + SQLITE_ROWS])) for at in range(0, whole, SQLITE_ROWS)
            ]
            connection.exec_driver_sql(self._some, flat)
        if whole < len(rows):
            connection.exec_driver_sql(self._one, list(rows[whole:]))


def _postgres_type(table: Table, column: str) -> str:
    kind = table.c[column].type
    return next((name for known, name in _POSTGRES_TYPES if isinstance(kind, known)), "text")
