"""What an administrator does to a fleet: drain, remove, check, prune, export."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pyarrow.parquet as pq

from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import wait_for
from tests.fleet.secure_fleet import SecureFleet


def test_a_fleet_is_administered(own_fleet: SecureFleet, tmp_path: Path) -> None:
    fleet = own_fleet
    fleet.start_coordinator()
    fleet.log_in()
    fleet.join("box")
    first = fleet.submit(write_job(tmp_path, queries=3))
    fleet.wait_until_over(first)

    fleet.administer("agents", "drain", "box")
    assert fleet.agent_state("box") == "drained"
    second = fleet.submit(write_job(tmp_path, queries=3), "--wait-for-agents")
    wait_for(
        lambda: "drain" in fleet.job(second).get("waiting_reason", ""), "the job waits, and says for what"
    )
    fleet.administer("agents", "drain", "box", "--undo")
    assert fleet.wait_until_over(second)["summary"]["state"] == "done"

    fleet.administer("agents", "remove", "box")
    fleet.processes["box"].wait(30)
    assert fleet.processes["box"].returncode == 3
    assert fleet.agent_state("box") == ""
    assert fleet.administer("agents", "remove", "box", check=False).returncode == 2

    findings = json.loads(fleet.administer("db", "check", "--format", "json").stdout)
    assert [f["ok"] for f in findings] == [True] * 4
    assert "schema revision" in fleet.administer("db", "migrate").stdout
    assert "would delete" in fleet.administer("db", "prune", "--older-than", "1s", "--dry-run").stdout
    rows = len(fleet.results(first))
    assert "deleted" in fleet.administer("db", "prune", "--older-than", "0.001s").stdout
    assert len(fleet.results(first)) == rows, "results outlive their samples"

    fleet.administer("db", "export", "-o", str(tmp_path / "out"))
    assert pq.read_table(tmp_path / "out" / "tasks.parquet").num_rows == 6
    assert {"agent_id", "power_w_avg"} <= set(pq.read_schema(tmp_path / "out" / "samples_1hz.parquet").names)
    assert not (tmp_path / "out" / "join_tokens.parquet").exists()
    with sqlite3.connect(fleet.database.removeprefix("sqlite:///")) as database:
        database.execute("update generations set counted = 0 where rowid = 1")
    broken = fleet.administer("db", "check", check=False)
    assert (broken.returncode, "results" in broken.stderr) == (1, True)
