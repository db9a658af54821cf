"""`harness integrate`: files in, joules out, one plain sentence when something is wrong."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from harness_cli.integrate import COLUMNS, integrate

from tests.coordinator.energy.rig import (
    Run,
    batched_queries,
    counter_samples,
    dithered_polls,
    ns,
    single_queries,
)


@pytest.fixture
def recording(tmp_path: Path) -> tuple[Run, Path, Path]:
    """A recorded run of the rig as two CSV files."""
    rng = np.random.default_rng(7)
    run = batched_queries(rng, 60, 3)
    return run, *_write(tmp_path, rng, run)


def _write(folder: Path, rng: np.random.Generator, run: Run) -> tuple[Path, Path]:
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    sample_file, window_file = folder / "samples.csv", folder / "windows.csv"
    with sample_file.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["t_ns", "energy_j"])
        writer.writerows(zip(samples.t_ns.tolist(), samples.energy_j.tolist(), strict=True))
    queries = run.queries()
    with window_file.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "start_ns", "first_token_ns", "end_ns", "prompt_tokens", "output_tokens"])
        columns = (
            queries.start_ns,
            queries.first_token_ns,
            queries.end_ns,
            queries.prompt_tokens,
            queries.output_tokens,
        )
        for k, row in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            writer.writerow([f"q{k}", *row])
    return sample_file, window_file


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(integrate, [str(argument) for argument in arguments])


def _json(*arguments: object) -> dict[str, Any]:
    result = _run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_windows_and_summary_add_up(recording: tuple[Run, Path, Path]) -> None:
    run, samples, windows = recording
    answer = _json(samples, "--windows", windows)
    rows, summary = answer["windows"], answer["summary"]
    assert [row["id"] for row in rows] == [f"q{k}" for k in range(60)]
    assert set(COLUMNS) <= set(rows[0])
    total = sum(row["joules"] for row in rows)
    assert total == pytest.approx(summary["attributed_joules"], rel=1e-12)
    assert total + summary["unattributed_joules"] == pytest.approx(summary["total_joules"], rel=1e-9)
    assert summary["alpha"] == pytest.approx(0.24, abs=0.02)
    assert summary["method"] == "counter-shape"
    true = run.truth.window(run.start_s.min(), run.end_s.max())
    assert summary["total_joules"] == pytest.approx(float(true), rel=0.002)
    for row in rows:
        assert row["joules_low"] <= row["joules"] <= row["joules_high"]
        assert row["net_joules"] + row["idle_joules"] == pytest.approx(row["joules"])
        assert row["coverage"] == 1.0
        assert row["method"] == "counter-shape"


def test_csv_and_table_carry_the_same_rows(recording: tuple[Run, Path, Path]) -> None:
    _, samples, windows = recording
    rows = _json(samples, "--windows", windows)["windows"]
    table = _run(samples, "--windows", windows)
    assert table.exit_code == 0
    assert "total_joules:" in table.stdout
    assert "q59" in table.stdout
    listing = list(csv.DictReader(io.StringIO(_run(samples, "--windows", windows, "--format", "csv").stdout)))
    assert [row["id"] for row in listing] == [row["id"] for row in rows]
    assert float(listing[5]["joules"]) == pytest.approx(rows[5]["joules"])


def test_options_reach_the_arithmetic(recording: tuple[Run, Path, Path]) -> None:
    _, samples, windows = recording
    by_time = _json(samples, "--windows", windows, "--attribution", "time", "--inside", "linear")
    assert by_time["summary"]["attribution"] == "time"
    assert by_time["summary"]["method"] == "counter-linear"
    assert by_time["summary"]["alpha"] is None
    assert _json(samples, "--windows", windows, "--alpha", "0.5")["summary"]["alpha"] == 0.5
    start, end = int(ns(np.array(1.0))), int(ns(np.array(11.0)))
    idle = _json(samples, "--windows", windows, "--baseline", f"{start}:{end}")["summary"]["baseline_watts"]
    assert idle == pytest.approx([90.0], rel=0.001)


def test_activity_shapes_windows_that_are_not_queries(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    run = single_queries(rng, 150)
    samples, activity = _write(tmp_path, rng, run)
    start = np.arange(15.0, run.length_s - 15.0, 0.35)
    windows = tmp_path / "asked.csv"
    rows = [f"w{k},{ns(a)},{ns(a + 0.3)}" for k, a in enumerate(start)]
    windows.write_text("id,start_ns,end_ns\n" + "\n".join(rows) + "\n")
    true = run.truth.window(start, start + 0.3)

    def median_error(*more: object) -> float:
        found = _json(samples, "--windows", windows, *more)["windows"]
        return float(np.median(np.abs(np.array([row["joules"] for row in found]) / true - 1)))

    assert median_error("--activity", activity) < 0.003
    assert median_error("--inside", "linear") > 3 * median_error("--activity", activity)


def test_window_outside_the_samples_is_absent_not_zero(
    recording: tuple[Run, Path, Path], tmp_path: Path
) -> None:
    _, samples, _ = recording
    windows = tmp_path / "outside.csv"
    windows.write_text(
        f"id,start_ns,end_ns\nlost,1,2000000000\nkept,{ns(np.array(5.0))},{ns(np.array(6.0))}\n"
    )
    lost, kept = _json(samples, "--windows", windows)["windows"]
    assert lost["joules"] is None
    assert "no_samples" in lost["flags"]
    assert kept["joules"] == pytest.approx(90.0, rel=0.01)


@pytest.mark.parametrize(
    ("windows", "more", "message"),
    [
        ("id,start_ns,end_ns\na,1,x\n", (), "line 2: end_ns is 'x'"),
        ("id,start_ns\na,1\n", (), "no column end_ns"),
        ("id,start_ns,end_ns\na,9,1\n", (), "every window ends before it starts"),
        (
            "id,start_ns,end_ns\na,1,9\n",
            ("--method", "power"),
            "no power reading; use method counter or auto",
        ),
        ("id,start_ns,end_ns\na,1,9\n", ("--baseline", "noon"), "--baseline 'noon' must be START_NS:END_NS"),
        (
            "id,start_ns,end_ns\na,1,9\n",
            ("--source", "gpu7", "--activity", "no.csv"),
            "there is no file no.csv",
        ),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_two(
    recording: tuple[Run, Path, Path], tmp_path: Path, windows: str, more: tuple[str, ...], message: str
) -> None:
    asked = tmp_path / "asked.csv"
    asked.write_text(windows)
    result = _run(recording[1], "--windows", asked, *more)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_recorded_mlperf_run_gives_the_published_average(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    folder = shared_data / "power" / "mlperf-v4.1-h200x8" / "llama2-70b-99-server"
    window = json.loads((folder / "window.json").read_text())
    asked = tmp_path / "window.csv"
    asked.write_text(f"id,start_ns,end_ns\nrun,{window['begin_ns']},{window['end_ns']}\n")
    row = _json(folder / "meter.parquet", "--windows", asked)["windows"][0]
    length_s = (window["end_ns"] - window["begin_ns"]) * 1e-9
    assert row["joules"] / length_s == pytest.approx(window["published_average_w"], rel=2e-4)


def test_a_recording_is_held_against_a_meter_of_the_same_time(tmp_path: Path) -> None:
    times = [k * 10_000_000 for k in range(1001)]
    (tmp_path / "smi.csv").write_text("t_ns,power_draw_w\n" + "".join(f"{t},95\n" for t in times))
    (tmp_path / "meter.csv").write_text("t_ns,power_w\n" + "".join(f"{t},100\n" for t in times))
    (tmp_path / "w.csv").write_text("id,start_ns,end_ns\na,1000000000,3000000000\nb,5000000000,9000000000\n")
    arguments = [str(tmp_path / "smi.csv"), "--windows", str(tmp_path / "w.csv"), "--format", "json"]
    ran = CliRunner().invoke(
        integrate, [*arguments, "--power-column", "power_draw_w", "--reference", str(tmp_path / "meter.csv")]
    )
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.output)
    assert [w["reference_joules"] for w in told["windows"]] == [pytest.approx(200), pytest.approx(400)]
    assert [w["difference_percent"] for w in told["windows"]] == [pytest.approx(-5), pytest.approx(-5)]
    assert told["summary"]["difference_percent"] == pytest.approx(-5)

    refused = CliRunner().invoke(integrate, arguments)
    assert refused.exit_code == 2
    assert "--power-column power_draw_w takes that one" in refused.output
    absent = CliRunner().invoke(integrate, [*arguments, "--power-column", "watts"])
    assert absent.exit_code == 2
    assert "has no column watts" in absent.output
