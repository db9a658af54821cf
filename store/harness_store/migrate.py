"""Brings a database to this program's schema, and refuses one that is not ours or too new."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from harness_store.errors import NewerDatabaseError, NotOurDatabaseError, OlderDatabaseError

PRODUCT = "joule-harness"
VERSION_TABLE = "alembic_version"

_MIGRATION_LOCK_KEY = 0x6A6F756C65
"""Advisory lock on PostgreSQL ("joule" in ASCII): two coordinators may start at the same moment."""

# Alembic's `context` and `op` are global to the process.
_alembic = threading.Lock()


def head_revision() -> str:
    """Return the schema revision of this program."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("the package holds no migrations: it is installed incompletely")
    return head


def current_revision(connection: Connection) -> str | None:
    """Return the schema revision of a database, None before its first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def check_ours(connection: Connection, shown_url: str) -> bool:
    """Return whether the database holds our schema (False: it is empty).

    Raises:
        NotOurDatabaseError: it holds tables and not our mark.
    """
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return False
    if "meta" in tables:
        columns = {column["name"] for column in inspect(connection).get_columns("meta")}
        if {"key", "value"} <= columns:
            product = connection.execute(text("SELECT value FROM meta WHERE key = 'product'")).scalar()
            if product == PRODUCT:
                return True
    raise NotOurDatabaseError(
        f"{shown_url} holds tables of another program ({', '.join(sorted(tables)[:3])}); name another database"
    )


def check_not_newer(connection: Connection, shown_url: str) -> str | None:
    """Return the revision of a database of ours.

    Raises:
        NewerDatabaseError: this program does not know the revision.
    """
    current = current_revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is not None and current not in known:
        raise NewerDatabaseError(
            f"{shown_url} has schema revision {current} and this program knows up to {head_revision()};"
            " update joule-harness, or name another database"
        )
    return current


def check_current(connection: Connection, shown_url: str) -> None:
    """Refuse a database that a reader cannot use as it is.

    Raises:
        NotOurDatabaseError: it is empty or another program's.
        NewerDatabaseError: this program does not know its revision.
        OlderDatabaseError: a coordinator of this version has not migrated it yet.
    """
    if not check_ours(connection, shown_url):
        raise NotOurDatabaseError(f"{shown_url} is empty; a coordinator fills it: harness coordinator run")
    current = check_not_newer(connection, shown_url)
    if current != head_revision():
        raise OlderDatabaseError(
            f"{shown_url} has schema revision {current} and this program reads {head_revision()};"
            " `harness db migrate` brings it up to date, as `harness coordinator run` does",
            current,
        )


def migrate(engine: Engine, shown_url: str) -> None:
    """Create or upgrade the schema, in one transaction that a second process waits for.

    Raises:
        NotOurDatabaseError: the database holds tables of another program.
        NewerDatabaseError: this program does not know the database's revision.
    """
    with _alembic, engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK_KEY})
        ours = check_ours(connection, shown_url)
        current = check_not_newer(connection, shown_url) if ours else None
        if current == head_revision():
            return
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
