"""What a user sees who gets something wrong: one plain sentence, the right exit code, nothing half done."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import DEADLINE_S, HARNESS, Harness, wait_for


def harness_alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HARNESS, *arguments], check=False, capture_output=True, text=True, timeout=DEADLINE_S
    )


def assert_says(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr


def test_an_unknown_key_in_the_job_file(tmp_path: Path) -> None:
    job = write_job(tmp_path, concurency=2)
    assert_says(harness_alone("submit", str(job)), 2, str(job), "unknown key `concurency`", "`concurrency`")


def test_a_missing_query_file_and_a_missing_job_file(tmp_path: Path) -> None:
    job = write_job(tmp_path, dataset={"path": "nowhere.jsonl"})
    assert_says(harness_alone("submit", str(job)), 2, "`dataset.path`", "nowhere.jsonl")
    assert_says(harness_alone("submit", str(tmp_path / "no.yaml")), 2, "there is no such job file")


def test_a_broken_line_in_the_queries(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    with (tmp_path / "queries.jsonl").open("a") as file:
        file.write('{"id": "x", "query": \n')
    assert_says(harness_alone("submit", str(job)), 2, "queries.jsonl line 7: not valid JSON")


def test_no_coordinator_there(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    done = harness_alone("submit", str(job), "--coordinator", "127.0.0.1:9")
    assert_says(done, 3, "No coordinator answers at 127.0.0.1:9", "harness coordinator run")
    assert_says(harness_alone("jobs", "--coordinator", "nonsense"), 2, "HOST:PORT")


def test_an_unknown_command_suggests_the_nearest() -> None:
    assert_says(harness_alone("sumbit"), 2, "did you mean `submit`?")


def test_a_database_that_is_not_ours(tmp_path: Path) -> None:
    text = tmp_path / "notes.db"
    text.write_text("these are notes, not a database, and they must stay as they are\n" * 40)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as database:
        database.execute("create table customers (id integer)")
    for path in (text, foreign):
        before = path.read_bytes()
        done = harness_alone(
            "coordinator", "run", "--db", f"sqlite:///{path}", "--state-dir", str(tmp_path / "s"),
            "--listen", "127.0.0.1:0",
        )  # fmt: skip
        assert_says(done, 3, path.name)
        assert path.read_bytes() == before
    assert_says(harness_alone("results", "x", "--db", f"sqlite:///{tmp_path}/absent.db"), 3, "absent.db")


def test_a_coordinator_does_not_listen_to_the_network_without_tls(tmp_path: Path) -> None:
    done = harness_alone("coordinator", "run", "--listen", "0.0.0.0:0", "--state-dir", str(tmp_path))
    assert_says(done, 2, "loopback only")


def test_an_address_that_is_taken(harness: Harness, tmp_path: Path) -> None:
    harness.start_coordinator()
    done = harness_alone(
        "coordinator", "run", "--listen", harness.address, "--state-dir", str(tmp_path / "other")
    )
    assert_says(done, 2, "the address is taken")


def test_what_only_the_coordinator_can_know_is_refused_and_nothing_is_stored(
    harness: Harness, tmp_path: Path
) -> None:
    harness.start_coordinator()
    harness.start_agent()
    no_gpu = write_job(tmp_path, hardware=[{"vendor": "nvidia", "name": "*H200*"}])
    done = harness.call("submit", str(no_gpu))
    assert_says(done, 2, "hardware[0]", "it has no device that matches", "nothing was stored")
    (tmp_path / "unknown").mkdir()
    unknown = write_job(tmp_path / "unknown", models=[{"id": "m", "engine": "lamacpp", "source": "x"}])
    assert_says(harness.call("submit", str(unknown)), 2, "lamacpp", "llamacpp")
    assert json.loads(harness.call("jobs", "--format", "json").stdout) == []
    assert_says(harness.call("job", "show", "nope"), 2, "nope")
    assert_says(harness.call("results", "nope"), 2, "nope")
    taken = harness.submit(no_gpu, "--wait-for-agents")
    wait_for(
        lambda: "no agent can run it" in harness.job(taken).get("waiting_reason", ""),
        "the job says why it waits",
    )


def test_a_model_file_that_is_no_model(harness: Harness, tmp_path: Path) -> None:
    harness.start_coordinator()
    harness.start_agent()
    (tmp_path / "model.gguf").write_text("this is not a model")
    source = {"id": "m", "engine": "llamacpp", "source": str(tmp_path / "model.gguf"), "device": "cpu"}
    job_id = harness.submit(write_job(tmp_path, models=[source], queries=1))
    detail = harness.wait_until_over(job_id)
    assert detail["summary"]["state"] == "failed"
    assert "model.gguf" in detail["failures"][0]["reason"]
    assert "GGUF" in detail["failures"][0]["reason"]
    assert int(detail["failures"][0]["attempts"]) == 1


@pytest.mark.parametrize("label", ["site", "=x"])
def test_a_label_without_key_or_value(label: str, tmp_path: Path) -> None:
    done = harness_alone("agent", "run", "--label", label, "--state-dir", str(tmp_path))
    assert_says(done, 2, "--label takes KEY=VALUE")


def test_a_watch_whose_coordinator_goes_away_says_how_to_go_on(harness: Harness, tmp_path: Path) -> None:
    harness.start_coordinator()
    job_id = harness.submit(write_job(tmp_path), "--wait-for-agents")
    watching = subprocess.Popen(
        [*HARNESS, "job", "watch", job_id, "--coordinator", harness.address],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stderr is not None
    assert "0/6 done" in watching.stderr.readline()
    harness.kill("coordinator")
    _, said = watching.communicate(timeout=DEADLINE_S)
    assert watching.returncode == 3
    assert f"harness job watch {job_id}" in said
