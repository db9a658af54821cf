"""A router's own joules: counted by RAPL where there is a counter, else estimated and said to be."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from harness_cli.router_energy import energy_of

from tests.analysis.routing_worlds import topic_world
from tests.analysis.test_route_commands import long_form, run
from tests.standins.powercap_tree import add_zone

PLAYER = Path(__file__).parents[1] / "end_to_end" / "powercap_player.py"


def burn() -> None:
    end_s = time.process_time() + 0.05
    while time.process_time() < end_s:
        pass


def test_without_a_counter_it_is_an_estimate_by_cpu_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARNESS_POWERCAP_ROOT", str(tmp_path))
    monkeypatch.setenv("HARNESS_WATTS_PER_CORE", "10")
    found = energy_of(burn, 5)
    assert found.kind == "estimated"
    # 0.05 s of one core at 10 W for 5 queries is 0.1 J each.
    assert found.joules == pytest.approx(0.1, rel=0.3)
    assert (found.low, found.high) == (None, None)


def test_a_counter_is_read_and_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    add_zone(tmp_path, "intel-rapl:0", "package-0", energy_j=100.0, limits_w=(65.0,))
    monkeypatch.setenv("HARNESS_POWERCAP_ROOT", str(tmp_path))
    player = subprocess.Popen([sys.executable, str(PLAYER), str(tmp_path), "10", "20"])
    try:
        found = energy_of(burn, 5)
    finally:
        player.kill()
        player.wait()
    assert found.kind == "measured"
    assert found.low is not None
    assert found.joules is not None
    assert 0 <= found.low <= found.joules == found.high


def test_evaluate_shows_it_and_replay_adds_it_to_joules_of_its_kind_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARNESS_POWERCAP_ROOT", str(tmp_path / "none"))
    file = tmp_path / "o.parquet"
    frame = long_form(topic_world(120))
    frame.write_parquet(file)
    estimated = tmp_path / "e.parquet"
    frame.with_columns(energy_kind=pl.lit("estimated")).write_parquet(estimated)
    routers = ("--cost", "joules", "--routers", "heuristic,oracle", "--resamples", "100", "--format", "json")
    rows = json.loads(run("route", "evaluate", str(file), *routers, "--router-energy").stdout)
    assert [r["router_energy_kind"] for r in rows] == ["estimated", None, None]
    assert rows[0]["router_joules"] >= 0
    day = ("--cost", "joules", "--requests-per-day", "2000", "--router", "mf", "--format", "json")
    refused = run("route", "replay", str(file), *day, "--router-energy", "--energy", "measured", code=2)
    assert "added only to outcomes of that kind" in refused.output
    without = json.loads(run("route", "replay", str(estimated), *day, "--energy", "estimated").stdout)
    shown = run("route", "replay", str(estimated), *day, "--energy", "estimated", "--router-energy")
    net = json.loads(shown.stdout)
    assert net[0]["total_joules"] == without[0]["total_joules"]
    assert net[1]["total_joules"] > without[1]["total_joules"]
    assert "estimated" in shown.stderr
