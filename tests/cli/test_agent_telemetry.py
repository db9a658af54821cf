from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from harness_cli.agent_telemetry import doctor, sample

from tests.standins.powercap_tree import two_socket_xeon


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


def test_sample_estimates_the_whole_machine_where_nothing_else_is_asked() -> None:
    arguments = ["--seconds", "0.5", "--hz", "20", "--source", "estimate", "--format", "json"]
    ran = CliRunner().invoke(sample, arguments)
    assert ran.exit_code == 0, ran.output
    row = json.loads(ran.output)[0]
    assert row["energy_source"] == "estimated"
    assert row["joules"] > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seconds", "1", "--source", "abacus"], "no such provider; known here: amd, apple, estimate"),
        (["--seconds", "1", "-o", "samples.xls"], "must end in .parquet or .csv"),
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
