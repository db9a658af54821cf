"""A real job's database feeds the analysis and the routers as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import Harness


@pytest.mark.timeout(300)
def test_a_jobs_database_feeds_routing_analysis_and_report(harness: Harness, tmp_path: Path) -> None:
    harness.start_coordinator()
    harness.start_agent()
    models = [
        {
            "id": name,
            "engine": "stub",
            "device": "cpu",
            "engine_args": {"tokens": tokens},
            "params_b": size_b,
            "precision": "fp16",
        }
        for name, tokens, size_b in (("small", 2, 1.0), ("large", 5, 9.0))
    ]
    job_id = harness.submit(write_job(tmp_path, queries=12, models=models, baseline_s=0.05))
    harness.wait_until_over(job_id)
    database = harness.database
    options = ("--job", job_id, "--format", "json")
    quick = ("--routers", "smallest,heuristic,oracle", "--resamples", "100")
    routed = json.loads(harness.call("route", "evaluate", database, *options, *quick, check=True).stdout)
    assert [r["router"] for r in routed] == ["smallest", "heuristic", "oracle", "zero"]
    solved = json.loads(harness.call("analyze", "solvability", database, *options, check=True).stdout)
    assert {(r["model_id"], r["queries"]) for r in solved} == {("small", 12), ("large", 12)}
    joules = json.loads(harness.call("analyze", "efficiency", database, *options, check=True).stdout)
    assert {r["energy_kind"] for r in joules} == {"estimated"}
    page = tmp_path / "report.html"
    harness.call(
        "report", database, "--job", job_id, "--routers", "heuristic,oracle", "-o", str(page), check=True
    )
    assert "<h2>Solvability" in page.read_text(encoding="utf-8")
