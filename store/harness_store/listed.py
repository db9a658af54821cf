"""A condition on any number of values with one parameter: the statement is built, compiled and cached once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from harness_store.models.base import storable


def one_of(column: Any, parameter: str) -> ColumnElement[bool]:
    """Return the condition that a column is one of the texts in a parameter, which `listed` makes.

    SQLAlchemy's own IN writes a parameter for each value into the text anew at each execution; for hundreds of
    ids that costs more than the statement itself.
    """
    return column.op("IN", is_comparison=True)(_Listed(bindparam(parameter, type_=Text())))


def listed(values: Iterable[str]) -> str:
    """Return texts as the parameter of `one_of`."""
    return json.dumps([storable(value) for value in values])


def is_any(column: Any, values: Iterable[str]) -> ColumnElement[bool]:
    """Return the condition that a column is one of a few constants, written into the statement's text."""
    return column.in_([literal_column(f"'{value}'") for value in values])


class _Listed(FunctionElement[Any]):
    """The elements of a JSON array of texts, as a subquery."""

    inherit_cache = True


@compiles(_Listed, "sqlite")
def _on_sqlite(element: _Listed, compiler: Any, **how: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **how)}))"  # noqa: S608 - a parameter mark


@compiles(_Listed, "postgresql")
def _on_postgresql(element: _Listed, compiler: Any, **how: Any) -> str:
    return f"(SELECT json_array_elements_text(CAST({compiler.process(element.clauses, **how)} AS json)))"
