"""Job file to joules on one machine, with real processes, real gRPC and real SQL."""

from __future__ import annotations

import csv
import io
import json
import math
import sqlite3
from pathlib import Path

import pytest
from harness_analysis import connect

from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import Harness, wait_for


def test_a_measured_job_yields_rows_that_add_up_to_the_device(
    measured_harness: Harness, tmp_path: Path
) -> None:
    harness = measured_harness
    harness.start_coordinator()
    harness.start_agent()
    burning = {"tokens": 8, "token_s": 0.03, "burn": True}
    models = [{"id": "stand-in", "engine": "stub", "device": "cpu", "engine_args": burning}]
    job = write_job(tmp_path, queries=5, repetitions=2, warmup=1, energy="measured", models=models)

    watched = harness.run("submit", str(job), "--watch", check=True)
    job_id = watched.stdout.strip()

    rows = harness.results(job_id)
    assert {(r["query_id"], r["repetition"]) for r in rows} == {
        (f"q{i}", n) for i in range(5) for n in (0, 1)
    }
    for row in rows:
        assert row["energy_source"] == "counter"
        assert row["device_scope"] == "package"
        assert 0 < row["joules_low"] <= row["joules"] <= row["joules_high"]
        assert math.isclose(row["net_joules"] + row["idle_joules"], row["joules"], rel_tol=1e-9)
        assert row["output_tokens"] == 8
        assert 0 < row["time_to_first_token_s"] < row["total_s"]
        assert row["correct"] is not None
        assert row["host_joules"] is None
        assert row["cpu_memory_mb_max"] > 0

    detail = harness.job(job_id)
    (total,) = detail["totals"]
    attributed = sum(r["joules"] for r in rows)
    assert math.isclose(attributed, total["attributed_joules"], rel_tol=1e-9)
    assert math.isclose(attributed + total["unattributed_joules"], total["device_joules"], rel_tol=1e-9)
    # 10 W idle and 20 W for each busy core: the device used more than idle and less than its limit.
    assert 9 < total["baseline_w"] < 55


def test_joules_are_there_before_the_job_is_over_and_say_that_they_are_provisional(
    measured_harness: Harness, tmp_path: Path
) -> None:
    harness = measured_harness
    harness.start_coordinator()
    harness.start_agent()
    burning = {"tokens": 10, "token_s": 0.05, "burn": True}
    models = [{"id": "stand-in", "engine": "stub", "device": "cpu", "engine_args": burning}]
    job = write_job(tmp_path, queries=24, energy="measured", models=models, concurrency=1, baseline_s=1)
    job_id = harness.submit(job)

    def live_rows() -> list[dict[str, object]]:
        return [r for r in harness.results(job_id) if r["joules"] is not None]

    live = wait_for(live_rows, "a query has joules")
    assert harness.job(job_id)["summary"]["state"] == "active"
    assert all("provisional" in str(r["flags"]) and not r["final"] for r in live)
    harness.wait_until_over(job_id)
    final = {r["query_id"]: r for r in harness.results(job_id)}
    assert all(r["final"] and "provisional" not in str(r["flags"]) for r in final.values())
    for row in live:
        assert row["joules"] == pytest.approx(final[row["query_id"]]["joules"], rel=0.25)


def test_an_estimate_is_never_shown_as_a_measurement(harness: Harness, tmp_path: Path) -> None:
    harness.start_coordinator()
    harness.start_agent()
    job_id = harness.submit(write_job(tmp_path))
    harness.wait_until_over(job_id)
    rows = harness.results(job_id)
    assert len(rows) == 6
    assert {r["energy_source"] for r in rows} == {"estimated"}
    (total,) = harness.job(job_id)["totals"]
    assert total["energy_source"] == "estimated"


def test_a_job_without_energy_has_no_joules_and_is_done_at_once(harness: Harness, tmp_path: Path) -> None:
    harness.start_coordinator()
    harness.start_agent()
    job_id = harness.submit(write_job(tmp_path, energy="off"))
    detail = harness.wait_until_over(job_id)
    assert detail["summary"]["state"] == "done"
    assert "totals" not in detail
    rows = harness.results(job_id)
    assert len(rows) == 6
    assert all(r["joules"] is None and r["energy_source"] is None and r["total_s"] > 0 for r in rows)


def test_recomputing_by_equal_time_moves_joules_between_queries_and_not_the_total(
    measured_harness: Harness, tmp_path: Path
) -> None:
    harness = measured_harness
    harness.start_coordinator()
    harness.start_agent()
    models = [{"id": "m", "engine": "stub", "device": "cpu", "engine_args": {"tokens": 6, "token_s": 0.03}}]
    job_id = harness.submit(write_job(tmp_path, energy="measured", models=models))
    harness.wait_until_over(job_id)

    def total() -> float:
        return sum(t["device_joules"] for t in harness.job(job_id)["totals"])

    before, device = harness.results(job_id), total()
    assert "6 rows of 1 runs made again" in harness.call("recompute", job_id, check=True).stdout
    assert harness.results(job_id) == before
    harness.call("recompute", job_id, "--attribution", "time", check=True)
    by_time = harness.results(job_id)
    assert math.isclose(total(), device, rel_tol=1e-9)
    assert {r["attribution"] for r in by_time} == {"time"}
    assert harness.call("recompute", "nope").returncode == 2


def test_results_come_from_the_database_as_from_the_coordinator(harness: Harness, tmp_path: Path) -> None:
    harness.start_coordinator()
    harness.start_agent()
    job_id = harness.submit(write_job(tmp_path))
    harness.wait_until_over(job_id)
    asked = harness.results(job_id)
    read = json.loads(
        harness.call("results", job_id, "--db", harness.database, "--format", "json", check=True).stdout
    )
    assert asked == read

    as_csv = harness.call("results", job_id, "--format", "csv", check=True).stdout
    assert [r["query_id"] for r in csv.DictReader(io.StringIO(as_csv))] == [r["query_id"] for r in read]

    for name in ("rows.csv", "rows.json", "rows.parquet"):
        harness.call("results", job_id, "-o", str(tmp_path / name), check=True)
        assert (tmp_path / name).stat().st_size > 0
    store = connect(harness.database)
    frame = store.results(job_id).to_polars()
    assert frame.height == 6
    assert store.samples(job_id).to_arrow().num_rows > 0
    with sqlite3.connect(tmp_path / "harness.db") as database:
        (count,) = database.execute("select count(*) from trafficbench_metrics").fetchone()
    assert count == 6

    samples = json.loads(harness.call("samples", job_id, "--format", "json", check=True).stdout)
    assert {"agent", "source", "t_ns"} <= set(samples[0])
    listing = json.loads(harness.call("jobs", "--format", "json", check=True).stdout)
    assert [(j["job"], j["state"], j["done"]) for j in listing] == [(job_id, "done", 6)]


def test_a_job_with_failing_queries_goes_on_and_the_exit_code_says_so(
    harness: Harness, tmp_path: Path
) -> None:
    harness.start_coordinator()
    harness.start_agent()
    arguments = {"tokens": 3, "fault": "500", "fault_every": 3}
    models = [{"id": "stand-in", "engine": "stub", "device": "cpu", "engine_args": arguments}]
    job = write_job(tmp_path, models=models, max_attempts=1)
    watched = harness.run("submit", str(job), "--watch")
    assert watched.returncode == 1
    assert "2 of 6 tasks" in watched.stderr
    assert "HTTP 500" in watched.stderr
    rows = harness.results(watched.stdout.strip())
    failed = [r for r in rows if r["error"]]
    assert (len(rows), len(failed)) == (6, 2)
    assert all(r["joules"] is None and "HTTP 500" in r["error"] for r in failed)


def test_an_engine_that_never_starts_fails_its_tasks_with_the_reason(
    harness: Harness, tmp_path: Path
) -> None:
    harness.start_coordinator()
    harness.start_agent()
    models = [{"id": "m", "engine": "stub", "device": "cpu", "engine_args": {"start_fault": "exit"}}]
    job_id = harness.submit(write_job(tmp_path, models=models, max_attempts=1, queries=2))
    detail = harness.wait_until_over(job_id)
    assert detail["summary"]["state"] == "failed"
    assert "exit" in detail["failures"][0]["reason"]


def test_a_cancelled_job_stops_and_its_engine_with_it(harness: Harness, tmp_path: Path) -> None:
    harness.start_coordinator()
    harness.start_agent()
    slow = {"tokens": 100, "token_s": 0.2}
    models = [{"id": "slow", "engine": "stub", "device": "cpu", "engine_args": slow}]
    job_id = harness.submit(write_job(tmp_path, models=models))
    running = "select 1 from tasks where job_id = ? and state = 'running'"
    wait_for(lambda: harness.query(running, job_id), "a task is running")
    assert any("standin_server" in line for line in harness.left_over())
    assert harness.call("job", "cancel", job_id).returncode == 0
    assert harness.job(job_id)["summary"]["state"] == "cancelled"
    wait_for(lambda: not [p for p in harness.left_over() if "standin_server" in p], "the engine is stopped")
    again = harness.submit(write_job(tmp_path, queries=1))
    assert harness.wait_until_over(again)["summary"]["state"] == "done"


@pytest.mark.parametrize("victim", ["box", "coordinator"])
def test_nothing_is_lost_or_doubled_when_a_process_is_killed(
    measured_harness: Harness, tmp_path: Path, victim: str
) -> None:
    harness = measured_harness
    harness.start_coordinator()
    harness.start_agent()
    arguments = {"tokens": 4, "token_s": 0.05}
    models = [{"id": "stand-in", "engine": "stub", "device": "cpu", "engine_args": arguments}]
    job_id = harness.submit(write_job(tmp_path, queries=24, energy="measured", models=models))
    done = "select 1 from tasks where job_id = ? and state = 'done'"
    wait_for(lambda: len(harness.query(done, job_id)) >= 3, "three tasks are done")
    harness.kill(victim)
    if victim == "box":
        harness.start_agent()
    else:
        harness.start_coordinator(harness.address)
    assert harness.wait_until_over(job_id)["summary"]["state"] == "done"
    rows = harness.results_with_joules(job_id)
    detail = harness.job(job_id)
    assert sorted(r["query_id"] for r in rows) == sorted(f"q{i}" for i in range(24))
    assert not [r for r in rows if r["error"]]
    attributed = sum(t["attributed_joules"] for t in detail["totals"])
    unattributed = sum(t["unattributed_joules"] for t in detail["totals"])
    device = sum(t["device_joules"] for t in detail["totals"])
    assert math.isclose(attributed + unattributed, device, rel_tol=1e-9)
    assert math.isclose(sum(r["joules"] for r in rows), attributed, rel_tol=1e-9)
    with sqlite3.connect(tmp_path / "harness.db") as database:
        doubled = database.execute(
            "select task_id from generations where counted group by task_id having count(*) > 1"
        ).fetchall()
    assert doubled == []
