"""Opening the store: one database by URL, migrated, with transactions for writers and readers."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError, SQLAlchemyError

from harness_store.engine import (
    READ_ONLY,
    SQLITE_BUSY_S,
    SQLITE_READER_CACHE_KIB,
    make_engine,
    parse_url,
    sqlite_file,
)
from harness_store.errors import NotOurDatabaseError, StoreUnreachableError
from harness_store.migrate import check_current, check_ours, current_revision, migrate


class Store:
    """A database of ours. Thread-safe: each transaction has a connection of its own."""

    def __init__(self, engine: Engine, readers: Engine | None = None) -> None:
        """Use an engine, and another one for what only reads where that is given."""
        self._engine = engine
        self._readers = readers or engine

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, for tools that need one."""
        return self._engine

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Give a connection in a transaction; it is committed at the end, durably, or rolled back."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that only reads, and never waits for a writer."""
        options = {READ_ONLY: True}
        if self.dialect == "postgresql":
            options["postgresql_readonly"] = True
        with self._readers.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    def checkpoint(self) -> None:
        """Copy what SQLite's log holds into the database file as far as nobody needs it; writers go on meanwhile."""
        if self.dialect != "sqlite":
            return
        raw = self._readers.raw_connection()
        try:
            raw.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").close()
        finally:
            raw.close()

    def schema_version(self) -> str | None:
        """Return the schema revision of the database."""
        with self.read() as connection:
            return current_revision(connection)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()
        self._readers.dispose()


def open_store(url: str, *, create: bool = True) -> Store:
    """Open a database and bring its schema up to date.

    Args:
        url: `sqlite:///FILE`, `postgresql://...`, or the path of a SQLite file.
        create: whether to create and migrate it; a reader passes False and gets it as it is or an error.

    Raises:
        StoreUnreachableError: no such file, server or right.
        NotOurDatabaseError: the file is no database, or the database is another program's.
        NewerDatabaseError: a newer version of this program migrated it.
        OlderDatabaseError: `create` is False and it waits for a migration.
    """
    parsed = parse_url(url)
    shown = parsed.render_as_string(hide_password=True)
    path = sqlite_file(parsed)
    if path is not None and not create and not path.exists():
        raise StoreUnreachableError(f"{path}: there is no such database file")
    if path is not None and not path.absolute().parent.is_dir():
        raise StoreUnreachableError(f"{path}: the folder {path.parent} does not exist; make it first")
    engine = make_engine(parsed)
    try:
        _prepare(engine, parsed, shown, create=create)
    except (SQLAlchemyError, sqlite3.Error) as error:
        engine.dispose()
        raise _explained(error, shown) from None
    except BaseException:
        engine.dispose()
        raise
    if path is None:
        return Store(engine)
    return Store(engine, make_engine(parsed, cache_kib=SQLITE_READER_CACHE_KIB))


def _prepare(engine: Engine, url: URL, shown: str, *, create: bool) -> None:
    if not create:
        with Store(engine).read() as connection:
            check_current(connection, shown)
        return
    if url.get_backend_name() == "sqlite":
        # Before the mode is set, which is kept in the file: nobody else's database is touched.
        with Store(engine).read() as connection:
            check_ours(connection, shown)
        _write_ahead(engine)
    migrate(engine, shown)


def _write_ahead(engine: Engine) -> None:
    """Turn on write-ahead logging, so that readers and the writer never wait for each other; the file keeps it."""
    raw = engine.raw_connection()
    try:
        deadline = time.monotonic() + SQLITE_BUSY_S
        while True:
            try:
                raw.cursor().execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself here when another process switches the mode at this moment.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
    finally:
        raw.close()


def _explained(error: SQLAlchemyError | sqlite3.Error, shown: str) -> Exception:
    cause = " ".join(str(getattr(error, "orig", None) or error).split())
    if "not a database" in cause:
        return NotOurDatabaseError(f"{shown} is not a database file; name another one")
    if isinstance(error, OperationalError | InterfaceError | DatabaseError | sqlite3.Error):
        return StoreUnreachableError(f"{shown} cannot be opened: {cause.splitlines()[0]}")
    return StoreUnreachableError(f"{shown} cannot be used: {cause}")
