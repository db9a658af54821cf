"""Engines that go wrong, in one job beside one that does not: failed tasks with reasons, and no effect on figures."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness_backends.engines.stub import SERVER

from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import Harness

FAULTS = {
    "cut": "cut: the connection broke (2 chunks had arrived)",
    "stall": "timeout: no complete answer within 1.5 s",
    "error-event": "server: the engine broke off: stand-in fault in the stream",
    "429": "rate-limited: HTTP 429",
}
"""Faults of a request, and what the row of a failed task says."""


def stub(name: str, **engine_args: Any) -> dict[str, Any]:
    return {"id": name, "engine": "stub", "device": "cpu", "engine_args": {"tokens": 4, **engine_args}}


def counts(detail: dict[str, Any]) -> tuple[int, int]:
    """Return how many tasks of a job are done and failed."""
    return int(detail["summary"].get("done", 0)), int(detail["summary"].get("failed", 0))


def test_each_fault_is_a_failed_task_with_its_reason_and_no_part_of_any_mean(
    harness: Harness, tmp_path: Path
) -> None:
    models = [stub("good"), stub("slow", fault="slow", fault_s=0.5), stub("liar", fault="wrong-usage")]
    models += [stub(fault, fault=fault, fault_every=2, fault_s=0.01) for fault in FAULTS]
    harness.start_coordinator()
    harness.start_agent()
    job = write_job(
        tmp_path, models=models, queries=4, concurrency=1, max_attempts=1, query_timeout_s=1.5, baseline_s=0
    )
    job_id = harness.submit(job)
    detail = harness.wait_until_over(job_id)
    assert counts(detail) == (12 + 8, 8)
    rows = harness.results(job_id)
    for fault, reason in FAULTS.items():
        failed = [row["error"] for row in rows if row["model_id"] == fault and row["error"]]
        assert len(failed) == 2
        assert all(error.startswith(reason) for error in failed), failed
    table = json.loads(harness.run("metrics", job_id, "--format", "json", check=True).stdout)
    metrics = {entry.pop("metric"): {k.partition(" (")[0]: v for k, v in entry.items()} for entry in table}
    assert metrics["errors"] == {"good": 0, "slow": 0, "liar": 0, **dict.fromkeys(FAULTS, 2)}
    # The answers that came are as quick as the good engine's, whatever the failed ones took.
    for fault in FAULTS:
        assert metrics["total_query_seconds"][fault] < 0.4
        assert metrics["throughput_tokens_per_sec"][fault] > 10
    assert metrics["total_query_seconds"]["slow"] > 0.5
    # Chunks are no tokens: a count that cannot be true is no count, and no speed is made of it.
    assert (metrics["output"]["liar"], metrics["throughput_tokens_per_sec"]["liar"]) == (None, None)


def test_a_load_without_end_is_ended_by_its_limit(harness: Harness, tmp_path: Path) -> None:
    harness.start_coordinator()
    harness.start_agent()
    job = write_job(
        tmp_path,
        models=[stub("endless", start_fault="never-ready"), stub("good")],
        queries=2,
        max_attempts=1,
        load_timeout_s=1.5,
    )
    detail = harness.wait_until_over(harness.submit(job))
    assert counts(detail) == (2, 2)
    assert "The engine was not ready within 1.5 s" in detail["failures"][0]["reason"]
    assert detail["failures"][0]["model_id"] == "endless"
    assert int(detail["failed_runs"]) == 1
    assert "was not ready within 1.5 s" in detail["last_failed_run_reason"]
    shown = harness.run("job", "show", detail["summary"]["job_id"], check=True).stdout
    assert "a run failed: The engine was not ready within 1.5 s" in shown
    watched = harness.run("job", "watch", detail["summary"]["job_id"])
    assert watched.stderr.count("a run failed: The engine was not ready") == 1


def test_a_storm_of_429_is_sat_out_or_told(harness: Harness, tmp_path: Path) -> None:
    """An endpoint that turns away every second request, asked by a client that tries again and by one that does not."""
    settings = json.dumps({"tokens": 4, "fault": "429", "fault_every": 2, "fault_s": 0.01})
    with ExitStack() as servers:
        models: list[dict[str, Any]] = []
        for name, retries in (("patient", 3), ("impatient", 0)):
            server = servers.enter_context(
                subprocess.Popen([sys.executable, str(SERVER), settings], stdout=subprocess.PIPE, text=True)
            )
            servers.callback(server.kill)
            assert server.stdout is not None
            url = f"http://127.0.0.1:{server.stdout.readline().split()[-1]}/v1"
            arguments = {"base_url": url, "retries": retries}
            models.append({"id": name, "engine": "openai", "source": "big", "engine_args": arguments})
        harness.start_coordinator()
        harness.start_agent()
        job_id = harness.submit(write_job(tmp_path, models=models, queries=6, concurrency=1, max_attempts=1))
        assert counts(harness.wait_until_over(job_id)) == (9, 3)
    rows = harness.results(job_id)
    errors = [(row["model_id"], row["error"]) for row in rows if row["error"]]
    assert errors == [("impatient", "rate-limited: HTTP 429: stand-in fault 429")] * 3
    # Nobody's joules are taken for those of a model behind a URL.
    assert all(row["joules"] is None and row["energy_source"] is None for row in rows)


def test_an_engine_that_never_starts_is_given_up_for_all_its_queries_and_can_be_tried_again(
    harness: Harness, tmp_path: Path
) -> None:
    harness.start_coordinator()
    harness.start_agent()
    models = [stub("broken", start_fault="exit"), stub("good")]
    job = write_job(tmp_path, models=models, queries=30, concurrency=1, max_attempts=2, baseline_s=0)
    job_id = harness.submit(job)
    detail = harness.wait_until_over(job_id)
    assert counts(detail) == (30, 30)
    assert int(detail["failed_runs"]) == 2, "not once for every other query"
    assert any("the engine failed to start again and again on box" in f["reason"] for f in detail["failures"])
    harness.run("job", "retry", job_id, check=True)
    detail = harness.wait_until_over(job_id)
    assert (counts(detail), int(detail["failed_runs"])) == ((30, 30), 4)
