"""SQLAlchemy engines for the two databases, set up so that a commit is on disk when it returns."""

from __future__ import annotations

import re
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from harness_store.errors import StoreUnreachableError

SQLITE_BUSY_S = 30.0
"""How long a SQLite writer waits for another process's transaction; ours last milliseconds."""

SQLITE_CACHE_KIB = 32 * 1024
"""Samples of a thousand sources end in a thousand leaves of each index; with 2 MB each of them is read anew."""

SQLITE_READER_CACHE_KIB = 2 * 1024
"""Readers come in dozens, and what they read they read once: the writer's cache in each would be 1 GB for nothing."""

SQLITE_CHECKPOINT_PAGES = 16_000
"""64 MB of log before a commit itself copies its pages into the database; a coordinator does it before, beside them."""

POSTGRES_CONNECT_S = 10
POSTGRES_POOL = 10

READ_ONLY = "harness_read_only"
"""Execution option of connections that only read."""


def parse_url(url: str) -> URL:
    """Return the URL of a database; a plain path is a SQLite file, `postgres://` is taken for `postgresql://`.

    Raises:
        StoreUnreachableError: not a database URL, or one of a database that is not supported.
    """
    text = url if "://" in url else f"sqlite:///{url}"
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError):
        parsed = None
    backend = "" if parsed is None else parsed.get_backend_name()
    if parsed is None or backend not in {"sqlite", "postgresql", "postgres"}:
        shown = re.sub(r"://[^/@]*@", "://***@", url)
        raise StoreUnreachableError(
            f"{shown!r} names no database; write sqlite:///FILE or postgresql://USER@HOST/NAME"
        )
    if backend != "sqlite":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.database in {None, "", ":memory:"} or parsed.query:
        raise StoreUnreachableError(
            f"{url!r} names no file; the database must outlive the process: write sqlite:///FILE"
        )
    return parsed


def make_engine(url: URL, *, cache_kib: int = SQLITE_CACHE_KIB) -> Engine:
    """Return an engine whose transactions are durable and, on SQLite, take the writer's lock at their begin.

    Args:
        url: of `parse_url`.
        cache_kib: pages that each connection to SQLite may keep, KiB.
    """
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url, connect_args={"timeout": SQLITE_BUSY_S}, pool_size=8, max_overflow=24, pool_use_lifo=True
        )
        event.listen(engine, "connect", partial(_prepare_sqlite, cache_kib=cache_kib))
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        url,
        pool_size=POSTGRES_POOL,
        max_overflow=POSTGRES_POOL,
        pool_pre_ping=True,
        connect_args={"connect_timeout": POSTGRES_CONNECT_S, "application_name": "joule-harness"},
    )


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL, None for PostgreSQL."""
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any, *, cache_kib: int) -> None:
    # The driver must not open transactions of its own: _begin_sqlite says which kind is wanted.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    # In WAL mode only FULL flushes each commit to disk; NORMAL may lose acknowledged rows on power failure.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA cache_size=-{cache_kib}")
    cursor.execute(f"PRAGMA wal_autocheckpoint={SQLITE_CHECKPOINT_PAGES}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that turns writer late fails at once with "database is locked" when another
    # process wrote in between; an immediate one waits its turn.
    reading = bool(connection.get_execution_options().get(READ_ONLY, False))
    connection.exec_driver_sql(f"PRAGMA query_only={int(reading)}")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
