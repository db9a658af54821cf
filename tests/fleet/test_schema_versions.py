"""A coordinator of this version on a database of an older one, with an agent at work, and on one of a newer."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from harness_store.database import open_store
from harness_store.migrate import _config, head_revision

from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import Harness, wait_for

TASKS = 40
OLD = "0003"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """Yield an empty harness."""
    made = Harness(tmp_path)
    yield made
    assert made.stop() == []


def test_a_coordinator_that_is_upgraded_under_load_brings_its_database_along(harness: Harness) -> None:
    harness.start_coordinator()
    harness.start_agent()
    models = [{"id": "m", "engine": "stub", "device": "cpu", "engine_args": {"tokens": 3, "token_s": 0.03}}]
    job_id = harness.submit(write_job(harness.folder, queries=TASKS, models=models, max_attempts=20))
    wait_for(lambda: _sql(harness, "select count(*) from tasks where state = 'done'") >= 5, "some are done")
    harness.kill("coordinator")
    # As an older program left it: the same rows under the older schema.
    store = open_store(harness.database)
    config = _config()
    with store.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, OLD)
    store.close()
    assert _sql(harness, "select version_num from alembic_version") == OLD
    harness.start_coordinator(harness.address)
    detail = harness.wait_until_over(job_id)
    assert detail["summary"]["state"] == "done", detail["failures"]
    assert _sql(harness, "select version_num from alembic_version") == head_revision()
    assert _sql(harness, "select count(*) from generations where counted") == TASKS
    assert len(harness.results(job_id)) == TASKS


def test_a_database_of_a_newer_program_is_refused_in_one_sentence(harness: Harness) -> None:
    harness.start_coordinator()
    harness.kill("coordinator")
    with sqlite3.connect(harness.database.removeprefix("sqlite:///")) as database:
        database.execute("update alembic_version set version_num = '9999'")
    done = harness.run(
        "coordinator", "run", "--listen", "127.0.0.1:0", "--db", harness.database,
        "--state-dir", str(harness.folder / "co"),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert "has schema revision 9999 and this program knows up to" in done.stderr
    assert "update joule-harness" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert _sql(harness, "select version_num from alembic_version") == "9999"


def _sql(harness: Harness, query: str) -> object:
    with sqlite3.connect(harness.database.removeprefix("sqlite:///"), timeout=30) as database:
        return database.execute(query).fetchone()[0]
