"""A file becomes a dataset at a real coordinator, and a job asks its queries by that name."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from harness_store.database import open_store
from harness_store.dataset_tables import list_datasets

from tests.analysis.evaluation.standin_judge import standin_judge
from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import HARNESS, Harness, wait_for


def _write(path: Path, count: int, text: str = "word") -> Path:
    rows = [
        {"id": f"q{i}", "query": f"Say {text} {i}.", "reference": "word1", "domain": f"d{i % 3}"}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_imported_dataset_is_split_asked_and_kept(harness: Harness, tmp_path: Path) -> None:
    harness.start_coordinator()
    harness.start_agent()
    file = _write(tmp_path / "in.jsonl", 40)
    imported = harness.run("dataset", "import", "words", str(file), "--licence", "MIT", check=True)
    assert "words: 40 rows, 0 skipped" in imported.stdout
    assert (
        "already"
        in harness.run("dataset", "import", "words", str(file), "--licence", "MIT", check=True).stdout
    )
    harness.run("dataset", "clean", "words", "--skip", "near", "--skip", "english", check=True)
    harness.run(
        "dataset",
        "split",
        "words-clean",
        "--exact-only",
        "--part",
        "train=34",
        "--part",
        "test=6",
        check=True,
    )
    listed = json.loads(harness.run("dataset", "list", "--format", "json", check=True).stdout)
    assert {row["name"]: row["rows"] for row in listed} == {
        "words": 40, "words-clean": 40, "words-clean/test": 6, "words-clean/train": 34,
    }  # fmt: skip
    shown = json.loads(harness.run("dataset", "show", "words-clean", "--format", "json", check=True).stdout)
    assert shown["made_from_it"] == {"words-clean/test": 6, "words-clean/train": 34}
    assert [step["step"] for step in shown["report"]["steps"]] == ["reference", "length", "exact"]
    job_id = harness.submit(write_job(tmp_path, dataset={"name": "words-clean/test"}))
    detail = harness.wait_until_over(job_id)
    assert (detail["summary"]["state"], int(detail["summary"]["done"])) == ("done", 6)
    harness.run("dataset", "export", "words-clean/test", "-o", str(tmp_path / "out.jsonl"), check=True)
    exported = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {row["query_id"] for row in harness.results(job_id)} == {row["id"] for row in exported}
    assert {row["licence"] for row in exported} == {"MIT"}
    refused = harness.run("dataset", "drop", "words-clean/test")
    assert (refused.returncode, job_id in refused.stderr) == (2, True)
    assert harness.run("dataset", "drop", "words-clean/train").returncode == 0
    stats = json.loads(harness.run("dataset", "stats", "words", "--format", "json", check=True).stdout)
    assert {r["value"]: r["rows"] for r in stats if r["of"] == "domain"} == {"d0": 14, "d1": 13, "d2": 13}
    other = harness.run("dataset", "import", "words", str(_write(tmp_path / "b.jsonl", 3)))
    assert (other.returncode, "exists with other queries" in other.stderr) == (2, True)
    assert harness.run("dataset", "show", "wrods").returncode == 2


def test_an_import_that_is_killed_leaves_nothing(harness: Harness, tmp_path: Path) -> None:
    harness.start_coordinator()
    file = _write(tmp_path / "large.jsonl", 60_000, "x" * 400)
    command = [*HARNESS, "dataset", "import", "large", str(file), "--coordinator", harness.address]
    for delay_s in (1.5, 2.5):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        killed_at = time.monotonic() + delay_s
        wait_for(lambda until=killed_at: time.monotonic() > until, "the import is on its way")
        process.send_signal(signal.SIGKILL)
        process.communicate()
    store = open_store(harness.database, create=False)
    with store.read() as connection:
        rows = list_datasets(connection)
    store.close()
    # Either it was through already, or there is nothing of it.
    assert [row.row_count for row in rows] in ([], [60_000])
    done = harness.run("dataset", "import", "large", str(file), check=True)
    assert "60,000 rows" in done.stdout
    listed = json.loads(harness.run("dataset", "list", "--format", "json").stdout)
    assert [row["rows"] for row in listed] == [60_000]


@pytest.mark.timeout(300)
def test_a_judge_labels_through_the_coordinator_and_a_benchmark_comes_back(
    harness: Harness, tmp_path: Path
) -> None:
    harness.start_coordinator()
    harness.start_agent()
    harness.run("dataset", "import", "words", str(_write(tmp_path / "in.jsonl", 8)), check=True)
    reply = '{"category": "Education instruction and library"}'
    with standin_judge(reply=reply) as url:
        judge = {"name": "j", "base_url": url, "model": "m"}
        (tmp_path / "judges.yaml").write_text(json.dumps({"judges": [judge]}))
        asked = ("dataset", "label", "words", "--judge", "j", "--judges", str(tmp_path / "judges.yaml"))
        first = harness.run(*asked, check=True)
    assert "8 asks were sent now" in first.stderr
    assert "words-labelled: 8 of 8 rows have a domain" in first.stdout
    # The judge is gone: what it said is kept by the coordinator.
    assert "0 asks were sent now" in harness.run(*asked, check=True).stderr
    job_id = harness.submit(write_job(tmp_path, dataset={"name": "words-labelled"}))
    assert harness.wait_until_over(job_id)["summary"]["state"] == "done"
    folder = tmp_path / "bench"
    published = ("export", "bench", "-o", str(folder), "--job", job_id, "--db", harness.database)
    harness.run(*published, check=True)
    rows = json.loads(harness.run("import", "bench", str(folder), "--format", "json", check=True).stdout)
    assert [(row["dataset"], row["rows"], row["stored"]) for row in rows] == [
        ("words-labelled", 8, "was there")
    ]
    outcomes = pq.read_table(folder / "outcomes.parquet")
    assert outcomes.num_rows == 8
    assert set(outcomes.column("domain").to_pylist()) == {"Education instruction and library"}
