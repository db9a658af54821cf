"""What a job file can ask of engines, through real coordinator, agent and engine processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness_backends.engines.stub import SERVER

from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import Harness


def test_a_model_behind_a_url_beside_a_local_one(harness: Harness, tmp_path: Path) -> None:
    with subprocess.Popen(
        [
            sys.executable,
            str(SERVER),
            json.dumps({"tokens": 5, "fault": "429", "fault_every": 3, "fault_s": 0.01}),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as cloud:
        try:
            assert cloud.stdout is not None
            port = cloud.stdout.readline().split()[-1]
            local = {
                "id": "local",
                "engine": "stub",
                "device": "cpu",
                "engine_args": {"tokens": 5},
                "params_b": 0.1,
            }
            remote = {
                "id": "cloud", "engine": "openai", "source": "big", "precision": "fp8", "params_b": 235,
                "active_params_b": 22, "engine_args": {"base_url": f"http://127.0.0.1:{port}/v1"},
                "price": {"input_per_mtok": 1.0, "output_per_mtok": 2.0}, "sampling": {"thinking": False},
                "stated_energy": {"joules_per_query": 3000, "source": "a paper"},
            }  # fmt: skip
            harness.start_coordinator()
            harness.start_agent()
            job_id = harness.submit(write_job(tmp_path, models=[local, remote], queries=4))
            assert harness.wait_until_over(job_id)["summary"]["state"] == "done"
        finally:
            cloud.kill()
    rows = {(row["model_id"], row["query_id"]): row for row in harness.results(job_id)}
    assert len(rows) == 8
    far, near = rows["cloud", "q0"], rows["local", "q0"]
    # 429 was asked again and is no failure; nobody's joules are taken for the remote model's.
    assert {row["error"] for row in rows.values()} == {None}
    assert (far["joules"], far["energy_state"], far["energy_source"]) == (None, "none", None)
    assert (far["stated_joules"], far["stated_energy_source"], far["precision"]) == (3000, "a paper", "fp8")
    assert far["cost"] == pytest.approx((far["prompt_tokens"] * 1.0 + 5 * 2.0) / 1e6)
    assert (far["thinking"], near["thinking"]) == (False, None)
    tokens = far["prompt_tokens"] + 5
    assert far["flops"] == pytest.approx(2 * 22e9 * tokens)
    assert far["macs"] == far["flops"] / 2
    assert near["joules"] is not None
    assert (near["cost"], near["stated_joules"]) == (None, None)
    shown = harness.run("metrics", job_id, check=True).stdout
    assert "flops_per_request" in shown
    assert "the run was not measured (energy: off)" in shown
    assert "the job file gives no price" in shown


def test_a_recorded_trace_is_played_with_its_times_and_lengths(harness: Harness, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,40,3\n2,10,2\n2,20,4\n6,30,100\n")
    harness.start_coordinator()
    harness.start_agent()
    job = write_job(
        tmp_path,
        dataset={"synthetic": True},
        arrivals={"kind": "recorded", "trace": "trace.csv", "speed": 10},
        models=[
            {
                "id": "m",
                "engine": "stub",
                "device": "cpu",
                "engine_args": {"tokens": 12, "first_token_s": 0.4},
            }
        ],
        concurrency=1,
    )
    job_id = harness.submit(job)
    assert harness.wait_until_over(job_id)["summary"]["state"] == "done"
    rows = sorted(harness.results(job_id), key=lambda row: row["query_id"])
    assert [row["output_tokens"] for row in rows] == [3, 2, 4, 12]
    assert [row["prompt_tokens"] for row in rows] == [38, 8, 18, 28], "words, as the stand-in counts them"
    starts = [(row["start_ns"] - rows[0]["start_ns"]) / 1e9 for row in rows]
    assert starts == pytest.approx([0, 0.2, 0.2, 0.6], abs=0.08)
    assert starts[2] < 0.4, "the second and third came while the first was in flight"
    trace.unlink()
    refused = harness.run("submit", str(job))
    assert refused.returncode == 2
    assert "`arrivals.trace`: there is no file" in refused.stderr
