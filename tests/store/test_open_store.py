"""Opening: what is created, what is refused, and what happens when two open at once."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import harness_store.migrate as migrating
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from harness_store import events
from harness_store.database import Store, open_store
from harness_store.errors import (
    NewerDatabaseError,
    NotOurDatabaseError,
    OlderDatabaseError,
    StoreError,
    StoreUnreachableError,
)
from harness_store.migrate import head_revision
from harness_store.models import SAMPLES_1HZ, Base
from sqlalchemy import create_engine, inspect, text


def test_the_migrations_make_exactly_the_models(store: Store) -> None:
    with store.begin() as c:
        context = MigrationContext.configure(c, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
        indexes = {i["name"] for table in Base.metadata.tables for i in inspect(c).get_indexes(table)}
    expected = {i.name for table in Base.metadata.tables.values() for i in table.indexes}
    assert expected <= indexes
    assert store.schema_version() == head_revision()


def test_the_migration_can_be_taken_back(store: Store) -> None:

    config = Config()
    config.set_main_option("script_location", str(Path(migrating.__file__).parent / "migrations"))
    with store.engine.connect() as c:
        transaction = c.begin()
        config.attributes["connection"] = c
        command.downgrade(config, "base")
        left = set(inspect(c).get_table_names()) - {"alembic_version"}
        assert left == set()
        assert inspect(c).get_view_names() == []
        transaction.rollback()


def test_seconds_of_an_older_database_are_read_under_the_old_name(store: Store) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrating.__file__).parent / "migrations"))
    columns = ", ".join(SAMPLES_1HZ.columns.keys())
    rows = [
        ("a1", "g", "c1", 7, 5.5, 20, 19, 300.0, 290.0, 310.0, 12.5, None, 40.0),
        ("a1", "g", "c1", 8, None, 20, 0, None, None, None, None, None, None),
        ("a2", "g", "c1", 7, 6.5, 1, 1, 1.0, 1.0, 1.0, None, 2.0, None),
    ]
    read = text(f"SELECT {columns} FROM samples_1hz ORDER BY agent_id, second")
    with store.engine.connect() as c:
        transaction = c.begin()
        config.attributes["connection"] = c
        command.downgrade(config, "0009")
        into = text(f"INSERT INTO samples_1hz ({columns}) VALUES (:{columns.replace(', ', ', :')})")
        c.execute(into, [dict(zip(SAMPLES_1HZ.columns.keys(), row, strict=True)) for row in rows])
        for step in (command.upgrade, command.downgrade, command.upgrade):
            step(config, "0010" if step is command.upgrade else "0009")
            assert [tuple(row) for row in c.execute(read)] == rows
        transaction.rollback()


def test_opening_again_changes_nothing(database_url: str) -> None:
    with open_store(database_url).begin() as c:
        events.add(c, kind="first")
    for _ in range(2):
        store = open_store(database_url)
        with store.read() as c:
            assert [e.kind for e in events.recent(c)] == ["first"]
        store.close()


def test_a_newer_database_is_refused_with_both_revisions(database_url: str) -> None:
    store = open_store(database_url)
    with store.begin() as c:
        c.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    for create in (True, False):
        with pytest.raises(NewerDatabaseError, match=rf"revision 9999 .*up to {head_revision()}"):
            open_store(database_url, create=create)


def test_another_programs_tables_are_left_alone(database_url: str) -> None:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as c:
        c.execute(text("CREATE TABLE invoices (id INTEGER)"))
    for create in (True, False):
        with pytest.raises(NotOurDatabaseError, match=r"another program \(invoices\)"):
            open_store(database_url, create=create)
    assert inspect(engine).get_table_names() == ["invoices"]
    engine.dispose()


def test_a_table_called_meta_is_no_proof(database_url: str) -> None:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as c:
        c.execute(text("CREATE TABLE meta (id INTEGER)"))
    engine.dispose()
    with pytest.raises(NotOurDatabaseError, match="another program"):
        open_store(database_url)


def test_a_reader_neither_fills_nor_migrates(database_url: str) -> None:
    if database_url.startswith("sqlite"):
        Path(database_url.removeprefix("sqlite:///")).touch()
    with pytest.raises(NotOurDatabaseError, match="is empty"):
        open_store(database_url, create=False)
    store = open_store(database_url)
    with store.begin() as c:
        c.execute(text("UPDATE alembic_version SET version_num = '0009'"))
    store.close()
    with pytest.raises(OlderDatabaseError, match="`harness db migrate` brings it up to date") as caught:
        open_store(database_url, create=False)
    assert caught.value.revision == "0009"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///{folder}/absent/x.db", "the folder .* does not exist"),
        ("sqlite:///{folder}", "unable to open database file"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://host/db", "names no database"),
        ("http://host:80:90/", "names no database"),
        ("postgresql://nobody@127.0.0.1:1/none", "cannot be opened"),
    ],
)
def test_what_cannot_be_opened_is_said_in_one_sentence(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(StoreUnreachableError, match=message) as caught:
        open_store(url.format(folder=tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_password_is_never_shown(scheme: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(f"{scheme}://me:geheim@127.0.0.1:1/none")
    assert "geheim" not in str(caught.value)


def test_a_text_file_is_no_database_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("meeting notes " * 100)
    with pytest.raises(NotOurDatabaseError, match="is not a database file"):
        open_store(str(path))
    assert path.read_text() == "meeting notes " * 100


def test_a_damaged_database_is_said_to_be_so(tmp_path: Path, migrated_file: Path) -> None:
    data = bytearray(migrated_file.read_bytes())
    data[4096:40960] = b"\xff" * (40960 - 4096)
    path = tmp_path / "damaged.db"
    path.write_bytes(data)
    with pytest.raises(StoreError, match=str(path)):
        open_store(str(path))


def test_two_processes_may_create_one_database(database_url: str) -> None:
    program = (
        "import sys; sys.stdin.readline()\n"
        "from harness_store.database import open_store\n"
        "print(open_store(sys.argv[1]).schema_version())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in started]
    assert [out.strip() for out, _ in outputs] == [head_revision()] * 2, outputs


def test_threads_may_create_one_database(database_url: str) -> None:
    versions: list[str | None] = []
    gate = threading.Barrier(4)

    def create() -> None:
        gate.wait(10)
        store = open_store(database_url)
        versions.append(store.schema_version())
        store.close()

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert versions == [head_revision()] * 4


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    # The view's name is taken, so the migration fails after it has made its tables.
    connection = sqlite3.connect(path)
    connection.execute("CREATE VIEW trafficbench_metrics AS SELECT 1 AS one")
    connection.close()
    with pytest.raises(StoreError):
        open_store(str(path))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("trafficbench_metrics",)]
    connection.close()


def test_a_readers_transaction_does_not_wait_for_a_writer(store: Store) -> None:
    with store.begin() as writer:
        events.add(writer, kind="unfinished")
        with store.read() as reader:
            assert events.recent(reader) == []


def test_what_raises_inside_a_transaction_leaves_nothing(store: Store) -> None:
    def write_and_fail() -> None:
        with store.begin() as c:
            events.add(c, kind="gone")
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        write_and_fail()
    with store.read() as c:
        assert events.recent(c) == []


def test_a_commit_on_sqlite_is_flushed_to_disk(migrated_file: Path) -> None:
    store = open_store(str(migrated_file))
    with store.begin() as c:
        assert c.execute(text("PRAGMA synchronous")).scalar() == 2
        assert c.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert c.execute(text("PRAGMA foreign_keys")).scalar() == 1
    store.close()


def test_the_log_is_copied_while_a_transaction_writes(tmp_path: Path, migrated_file: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copy(migrated_file, path)
    store = open_store(str(path))
    with store.begin() as c:
        events.add(c, kind="committed")
    assert store.schema_version() == head_revision()  # leaves a connection that may only read
    with store.begin() as c:
        events.add(c, kind="not committed")
        store.checkpoint()
        # Without its log: what the file itself holds.
        with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as file:
            assert file.execute("SELECT kind FROM events").fetchall() == [("committed",)]
    with store.read() as c:
        assert c.execute(text("SELECT count(*) FROM events")).scalar() == 2
    store.close()


def test_a_plain_path_is_a_sqlite_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "plain.db"))
    assert store.dialect == "sqlite"
    assert (tmp_path / "plain.db").exists()

    store.close()
