"""A job on a GPU whose power is known: the stand-in NVML below the real pynvml, everything above it real."""

from __future__ import annotations

import math
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import Harness
from tests.standins.build import NoCompilerError, build_library
from tests.standins.play import VARIABLE, Stage, constant
from tests.standins.powercap_tree import add_zone

GPU_W = 300.0


@pytest.fixture
def gpu_box(tmp_path: Path) -> Iterator[Harness]:
    """Yield a harness whose agents find two GPUs that draw exactly 300 W each, and a metered processor."""
    try:
        library = build_library("libnvidia-ml.so.1")
    except NoCompilerError as error:
        pytest.skip(str(error))
    # A folder of its own: beside it lies the stand-in of another vendor.
    (tmp_path / "lib").mkdir()
    shutil.copy(library, tmp_path / "lib" / "libnvidia-ml.so.1")
    stage = Stage(
        constant(GPU_W),
        devices=2,
        settings={"device_name": "Stand-in H200", "power_period_s": 0.1, "counter_period_s": 0.1},
    )
    tree = tmp_path / "powercap"
    add_zone(tree, "intel-rapl:0", "package-0", energy_j=100.0, limits_w=(65.0,))
    player = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("powercap_player.py")), str(tree), "10", "20"]
    )
    environment = {
        "LD_LIBRARY_PATH": str(tmp_path / "lib"),
        VARIABLE: str(stage.write(tmp_path / "stage")),
        "HARNESS_POWERCAP_ROOT": str(tree),
    }
    made = Harness(tmp_path, environment)
    yield made
    try:
        player.kill()
        player.wait()
    finally:
        assert made.stop() == []


def test_joules_of_a_gpu_job_are_its_power_times_its_time(gpu_box: Harness, tmp_path: Path) -> None:
    harness = gpu_box
    harness.start_coordinator()
    harness.start_agent()
    hardware = harness.run("agents", "--format", "json", check=True).stdout
    assert "2 x Stand-in H200" in hardware, hardware
    models = [{"id": "m", "engine": "stub", "engine_args": {"tokens": 20, "token_s": 0.03}}]
    job = write_job(
        tmp_path,
        models=models,
        energy="measured",
        hardware=[{"vendor": "nvidia", "name": "*H200*"}],
        queries=8,
        concurrency=2,
        baseline_s=1.0,
    )
    job_id = harness.submit(job)
    detail = harness.wait_until_over(job_id)
    assert detail["summary"]["state"] == "done", detail
    rows = harness.results(job_id)
    assert len(rows) == 8
    with sqlite3.connect(tmp_path / "harness.db") as database:
        (start_ns, end_ns) = database.execute("select start_ns, end_ns from runs").fetchone()
    run_s = (end_ns - start_ns) * 1e-9

    primary = [t for t in detail["totals"] if t["scope"] == "gpu"]
    assert len(primary) == 1  # one of the two GPUs was used, and only that one is charged
    device = primary[0]["device_joules"]
    assert device == pytest.approx(GPU_W * run_s, rel=2e-3)
    attributed = sum(r["joules"] for r in rows)
    assert math.isclose(attributed + primary[0]["unattributed_joules"], device, rel_tol=1e-9)
    for row in rows:
        assert row["energy_source"] == "counter"
        assert row["device_scope"] == "gpu"
        assert row["hardware"] == "Stand-in H200"
        assert row["joules_low"] <= row["joules"] <= row["joules_high"]
        # At constant power nothing is above idle: the whole share is idle power.
        assert abs(row["net_joules"]) < 0.02 * row["joules"]
        assert row["host_joules"] > 0
        assert row["watts_avg"] == pytest.approx(GPU_W, rel=0.02)
    in_flight_s = sum(r["total_s"] for r in rows)
    # Two in flight at a time share 300 W, so a second of a query costs at least 150 J and at most 300 J.
    assert GPU_W / 2 * 0.98 <= attributed / in_flight_s <= GPU_W * 1.02
