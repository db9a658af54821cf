"""The declarative base and the column types that every table shares."""

from __future__ import annotations

from typing import Annotated, Any

from sqlalchemy import BigInteger, Double, MetaData, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class StorableText(TypeDecorator[str]):
    """Text in which a NUL character becomes its picture (U+2400): PostgreSQL stores every character but NUL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Return the text without NUL characters."""
        return storable(value)


def storable(value: Any) -> Any:
    """Return a value with NUL characters made visible where it is a text."""
    return value.replace("\x00", "\u2400") if isinstance(value, str) and "\x00" in value else value


class Base(DeclarativeBase):
    """Base of all tables. Times named `*_realtime_ns` are unix ns, other `*_ns` the agent's CLOCK_MONOTONIC."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {str: StorableText, int: BigInteger, float: Double}  # noqa: RUF012


TextKey = Annotated[str, mapped_column(primary_key=True)]
IntKey = Annotated[int, mapped_column(primary_key=True, autoincrement=False)]
