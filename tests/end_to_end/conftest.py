"""A coordinator and an agent as real processes, on a fake powercap tree that really counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.harness_processes import Harness
from tests.standins.powercap_tree import add_zone


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    """Yield an empty harness; nothing of it may be left when the test is over."""
    made = Harness(tmp_path)
    yield made
    assert made.stop() == []


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """Yield a coordinator with one agent that the tests of a file share; what they store must not meet."""
    made = Harness(tmp_path_factory.mktemp("fleet"))
    try:
        made.start_coordinator()
        made.start_agent()
        yield made
    finally:
        left = made.stop()
    assert left == []


@pytest.fixture
def measured_harness(tmp_path: Path) -> Iterator[Harness]:
    """Yield a harness whose agents find a powercap tree with one package, played in real time."""
    tree = tmp_path / "powercap"
    add_zone(tree, "intel-rapl:0", "package-0", energy_j=100.0, limits_w=(65.0,))
    player = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("powercap_player.py")), str(tree), "10", "20"]
    )
    made = Harness(tmp_path, {"HARNESS_POWERCAP_ROOT": str(tree)})
    yield made
    try:
        player.kill()
        player.wait()
    finally:
        assert made.stop() == []


def write_job(folder: Path, *, queries: int = 6, **changes: Any) -> Path:
    """Write a job on the stand-in engine and its queries; `changes` replace keys of the job."""
    rows = [{"id": f"q{i}", "query": f"Say {i}.", "reference": "word1"} for i in range(queries)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    job: dict[str, Any] = {
        "name": "test-job",
        "dataset": {"path": "queries.jsonl"},
        "models": [{"id": "stand-in", "engine": "stub", "device": "cpu", "engine_args": {"tokens": 5}}],
        "concurrency": 2,
        "energy": "estimated-ok",
        "baseline_s": 0.3,
        "evaluation": {"method": "exact_match"},
        **changes,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path
