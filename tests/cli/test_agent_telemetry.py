from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from harness_cli.agent_telemetry import doctor, sample

from tests.standins.build import HERE
from tests.standins.play import Stage, constant, random_steps
from tests.standins.powercap_tree import two_socket_xeon
from tests.standins.stage import amdsmi_on_stage, nvml_on_stage


@pytest.fixture
def xeon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "powercap"
    two_socket_xeon(root)
    monkeypatch.setenv("HARNESS_POWERCAP_ROOT", str(root))
    return root


def test_doctor_names_every_zone_and_why_not(xeon: Path) -> None:
    ran = CliRunner().invoke(doctor, ["--format", "json"])
    assert ran.exit_code == 0, ran.output
    rows = {(row["provider"], row["subject"]): row for row in json.loads(ran.output)}
    assert rows["rapl", "package-0"]["available"] is True
    assert rows["rapl", "package-0:core"]["available"] is False
    assert rows["estimate", "cpu"]["available"] is True


def test_doctor_lists_the_engines_and_what_is_missing(xeon: Path) -> None:
    ran = CliRunner().invoke(doctor, ["--format", "json"])
    engines = {row["provider"]: row for row in json.loads(ran.output) if row["subject"] == "engine"}
    assert engines["llamacpp"]["available"] is True
    assert engines["stub"]["available"] is True
    assert all(row["detail"] for row in engines.values())


def test_doctor_tells_a_machine_without_meters_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_POWERCAP_ROOT", str(tmp_path))
    ran = CliRunner().invoke(doctor)
    assert ran.exit_code == 0
    assert "modprobe intel_rapl_msr" in ran.output
    assert "0 of them measured" in ran.output


def test_doctor_table_as_csv_parses(xeon: Path) -> None:
    ran = CliRunner().invoke(doctor, ["--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(ran.output)))
    assert {"provider", "subject", "available", "detail", "fix"} == set(rows[0])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_sample_writes_a_file_that_energy_can_be_made_of(xeon: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"samples{suffix}"
    arguments = ["--seconds", "0.5", "--hz", "50", "--source", "rapl", "-o", str(target), "--format", "json"]
    ran = CliRunner().invoke(sample, arguments)
    assert ran.exit_code == 0, ran.output
    summary = {row["source"]: row for row in json.loads(ran.output)}
    assert summary["rapl:package-0"]["joules"] == 0.0
    rows = list(csv.DictReader(target.open())) if suffix == ".csv" else pq.read_table(target).to_pylist()
    assert {row["source"] for row in rows} == set(summary)
    assert len(rows) == sum(row["samples"] for row in summary.values())
    stamps = [int(row["t_ns"]) for row in rows]
    assert stamps == sorted(stamps)
    assert {float(row["energy_j"]) for row in rows if row["source"] == "rapl:package-0"} == {1000.0}


def test_sample_estimates_the_process_tree_that_it_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            arguments = ["--seconds", "0.5", "--hz", "20", "--source", "estimate", "--pid", str(busy.pid)]
            ran = CliRunner().invoke(sample, [*arguments, "--format", "json"])
        finally:
            busy.kill()
    assert ran.exit_code == 0, ran.output
    row = json.loads(ran.output)[0]
    assert row["energy_source"] == "estimated"
    assert row["joules"] > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seconds", "1", "--source", "abacus"], "no such provider; known here: amd, apple, estimate"),
        (["--seconds", "1", "-o", "samples.xls"], "must end in .parquet or .csv"),
        (["--seconds", "1", "-o", "no-such-folder/samples.csv"], "there is no folder no-such-folder"),
        (["--seconds", "1", "--hz", "0"], "--hz"),
        ([], "--seconds"),
    ],
)
def test_sample_refuses_wrong_usage_in_one_sentence(arguments: list[str], told: str) -> None:
    ran = CliRunner().invoke(sample, arguments)
    assert ran.exit_code == 2
    assert told in ran.output


def test_sample_says_why_nothing_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_POWERCAP_ROOT", str(tmp_path))
    ran = CliRunner().invoke(sample, ["--seconds", "1", "--source", "rapl"])
    assert ran.exit_code == 1
    assert "no intel-rapl zone" in ran.output


def _doctor() -> dict[tuple[str, str], dict[str, object]]:
    ran = CliRunner().invoke(doctor, ["--format", "json"])
    assert ran.exit_code == 0, ran.output
    return {(row["provider"], row["subject"]): row for row in json.loads(ran.output)}


def test_doctor_on_nvml_tells_sensors_and_rhythm(tmp_path: Path) -> None:
    stage = Stage(random_steps(1, 600), devices=2, settings={"device_name": "NVIDIA H200", "noise_w": 1.0})
    with nvml_on_stage(stage, tmp_path):
        rows = _doctor()
    assert "NVIDIA H200" in str(rows["nvidia", "gpu 1"]["detail"])
    timing = str(rows["nvidia", "nvidia:GPU-00000000-0000-4000-8000-000000000001:gpu"]["detail"])
    assert "counter changes every" in timing
    assert "power changes every" in timing


def test_doctor_on_a_frozen_amd_counter_warns(tmp_path: Path) -> None:
    with amdsmi_on_stage(Stage(constant(300), settings={"freeze_s": -1.0}), tmp_path):
        rows = _doctor()
    assert rows["amd", "gpu 0"]["available"] is True
    warning = next(row for (_, subject), row in rows.items() if subject.endswith("counter"))
    assert warning["available"] is False
    assert "stands still" in str(warning["detail"])


def test_doctor_and_sample_on_powermetrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "powermetrics.json"
    told.write_text(json.dumps({"rails": {"cpu": 5.0, "gpu": 30.0, "ane": 0.0}}))
    monkeypatch.setenv("HARNESS_STANDIN_POWERMETRICS", str(told))
    monkeypatch.setenv("PATH", f"{HERE / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert _doctor()["apple", "soc"]["available"] is True
    ran = CliRunner().invoke(
        sample, ["--seconds", "1.2", "--hz", "20", "--source", "apple", "--format", "json"]
    )
    assert ran.exit_code == 0, ran.output
    watts = {row["source"]: row["watts"] for row in json.loads(ran.output)}
    assert watts["apple:soc"] == pytest.approx(35.0, rel=0.1)
    assert watts["apple:gpu"] == pytest.approx(30.0, rel=0.1)


def test_sample_on_nvml_gives_the_true_joules(tmp_path: Path) -> None:
    with nvml_on_stage(Stage(constant(400), settings={"counter_period_s": 0.02}), tmp_path / "stage"):
        target = tmp_path / "samples.csv"
        arguments = ["--seconds", "1", "--source", "nvidia", "-o", str(target), "--format", "json"]
        ran = CliRunner().invoke(sample, arguments)
    assert ran.exit_code == 0, ran.output
    row = json.loads(ran.output)[0]
    assert row["watts"] == pytest.approx(400, rel=0.06)
    header = target.read_text().splitlines()[0].split(",")
    assert header[:5] == ["t_ns", "source", "power_w", "energy_j", "power_avg_w"]
