"""A file becomes a dataset at a real coordinator, and a job asks its queries by that name."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from harness_store.database import open_store
from harness_store.dataset_tables import list_datasets

from tests.analysis.evaluation.standin_judge import standin_judge
from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import HARNESS, Harness, wait_for

pytestmark = pytest.mark.timeout(300)


def _write(path: Path, count: int, text: str = "word") -> Path:
    rows = [
        {"id": f"q{i}", "query": f"Say {text} {i}.", "reference": "word1", "domain": f"d{i % 3}"}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_imported_dataset_is_split_asked_and_kept(fleet: Harness, tmp_path: Path) -> None:
    file = _write(tmp_path / "in.jsonl", 40)
    imported = ("dataset", "import", "words", str(file), "--licence", "MIT")
    assert "words: 40 rows, 0 skipped" in fleet.call(*imported, check=True).stdout
    assert "already" in fleet.call(*imported, check=True).stdout
    fleet.call("dataset", "clean", "words", "--skip", "near", "--skip", "english", check=True)
    parts = ("--part", "train=36", "--part", "test=4")
    fleet.call("dataset", "split", "words-clean", "--exact-only", *parts, check=True)
    assert {row["name"]: row["rows"] for row in fleet.rows("dataset", "list") if "words" in row["name"]} == {
        "words": 40, "words-clean": 40, "words-clean/test": 4, "words-clean/train": 36,
    }  # fmt: skip
    shown = json.loads(fleet.call("dataset", "show", "words-clean", "--format", "json", check=True).stdout)
    assert shown["made_from_it"] == {"words-clean/test": 4, "words-clean/train": 36}
    assert [step["step"] for step in shown["report"]["steps"]] == ["reference", "length", "exact"]
    job_id = fleet.submit(write_job(tmp_path, baseline_s=0.05, dataset={"name": "words-clean/test"}))
    detail = fleet.wait_until_over(job_id)
    assert (detail["summary"]["state"], int(detail["summary"]["done"])) == ("done", 4)
    fleet.call("dataset", "export", "words-clean/test", "-o", str(tmp_path / "out.jsonl"), check=True)
    exported = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {row["query_id"] for row in fleet.results(job_id)} == {row["id"] for row in exported}
    assert {row["licence"] for row in exported} == {"MIT"}
    refused = fleet.call("dataset", "drop", "words-clean/test")
    assert (refused.returncode, job_id in refused.stderr) == (2, True)
    assert fleet.call("dataset", "drop", "words-clean/train").returncode == 0
    stats = fleet.rows("dataset", "stats", "words")
    assert {r["value"]: r["rows"] for r in stats if r["of"] == "domain"} == {"d0": 14, "d1": 13, "d2": 13}
    other = fleet.call("dataset", "import", "words", str(_write(tmp_path / "b.jsonl", 3)))
    assert (other.returncode, "exists with other queries" in other.stderr) == (2, True)
    assert fleet.call("dataset", "show", "wrods").returncode == 2


def test_an_import_that_is_killed_leaves_nothing(harness: Harness, tmp_path: Path) -> None:
    harness.start_coordinator()
    count = 20_000
    file = _write(tmp_path / "large.jsonl", count, "x" * 400)
    command = [*HARNESS, "dataset", "import", "large", str(file), "--coordinator", harness.address]
    log = tmp_path / "harness.db-wal"
    before = log.stat().st_size
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # The coordinator is in the middle of the one transaction, or just through with it.
    wait_for(
        lambda: log.stat().st_size > before + (2 << 20) or process.poll() is not None, "rows are written"
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    harness.kill("coordinator")
    store = open_store(harness.database, create=False)
    with store.read() as connection:
        rows = list_datasets(connection)
    store.close()
    # Either it was through already, or there is nothing of it.
    assert [row.row_count for row in rows] in ([], [count])
    harness.start_coordinator()
    assert f"{count:,} rows" in harness.call("dataset", "import", "large", str(file), check=True).stdout
    assert [row["rows"] for row in harness.rows("dataset", "list")] == [count]


def test_a_judge_labels_through_the_coordinator_and_a_benchmark_comes_back(
    fleet: Harness, tmp_path: Path
) -> None:
    fleet.call("dataset", "import", "talk", str(_write(tmp_path / "in.jsonl", 8, "talk")), check=True)
    reply = '{"category": "Education instruction and library"}'
    with standin_judge(reply=reply) as url:
        judge = {"name": "j", "base_url": url, "model": "m"}
        (tmp_path / "judges.yaml").write_text(json.dumps({"judges": [judge]}))
        asked = ("dataset", "label", "talk", "--judge", "j", "--judges", str(tmp_path / "judges.yaml"))
        first = fleet.call(*asked, check=True)
    assert "8 asks were sent now" in first.stderr
    assert "talk-labelled: 8 of 8 rows have a domain" in first.stdout
    # The judge is gone: what it said is kept by the coordinator.
    assert "0 asks were sent now" in fleet.call(*asked, check=True).stderr
    job_id = fleet.submit(write_job(tmp_path, baseline_s=0.05, dataset={"name": "talk-labelled"}))
    assert fleet.wait_until_over(job_id)["summary"]["state"] == "done"
    folder = tmp_path / "bench"
    unnamed = fleet.submit(write_job(tmp_path, baseline_s=0.05, queries=2))
    assert fleet.wait_until_over(unnamed)["summary"]["state"] == "done"
    published = ("--dataset", "talk", "--job", job_id, "--job", unnamed)
    fleet.call("export", "bench", "-o", str(folder), *published, check=True)
    beside = tmp_path / "beside"
    fleet.call("export", "bench", "-o", str(beside), *published, "--db", fleet.database, check=True)
    # What comes from a coordinator is, byte for byte, what comes from its database.
    assert (folder / "manifest.json").read_text() == (beside / "manifest.json").read_text()
    for wrong, said in (
        (("--job", "nojob"), "there is no job"),
        (("--dataset", "no"), "no dataset is named"),
    ):
        refused = fleet.call("export", "bench", "-o", str(tmp_path / "none"), *wrong)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
    assert not (tmp_path / "none").exists()
    rows = json.loads(fleet.call("import", "bench", str(folder), "--format", "json", check=True).stdout)
    assert [(row["rows"], row["stored"]) for row in rows] == [(8, "was there"), (8, "was there"), (2, "new")]
    assert [row["dataset"] for row in rows][:2] == ["talk", "talk-labelled"]
    outcomes = pq.read_table(folder / "outcomes.parquet")
    assert outcomes.num_rows == 8 + 2
    assert set(outcomes.column("domain").to_pylist()[:8]) == {"Education instruction and library"}


def test_a_model_of_the_fleet_labels_and_cleans_in_jobs_of_its_own(fleet: Harness, tmp_path: Path) -> None:
    rows = [{"query": q, "reference": "1"} for q in ("Is a will valid?", "What is 1 + 1?", "What is 1 + 1?")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fleet.call("dataset", "import", "asked", str(tmp_path / "in.jsonl"), check=True)
    judges = [
        {
            "name": name,
            "fleet": {
                "model": {
                    "id": name, "engine": "stub", "device": "cpu",
                    "engine_args": {"reply": reply, "burn": True, "first_token_s": 0.3},
                },
                "energy": "estimated-ok",
                "baseline_s": 0.05,
            },
        }
        for name, reply in (
            ("sorter", '{"category": "Legal services"}'),
            ("finder", '{"fault": "nonsensical"}'),
            ("chatty", "Lovely."),
        )
    ]  # fmt: skip
    (tmp_path / "judges.yaml").write_text(json.dumps({"judges": judges}))
    file = ("--judges", str(tmp_path / "judges.yaml"))
    label = ("dataset", "label", "asked", *file, "--judge")
    before = {row["job"] for row in fleet.rows("jobs")}
    labelled = json.loads(fleet.call(*label, "sorter", "--format", "json", check=True).stdout)
    assert (labelled["domains"], labelled["undecided"]) == ({"Legal services": 3}, 0)
    made = {row["job"]: row for row in fleet.rows("jobs") if row["job"] not in before}
    assert list(made) == labelled["judging_jobs"]
    (job,) = made.values()
    # The two equal queries are one ask, and the asks have joules of their own.
    assert (job["name"], int(job["tasks"]), job["joules"] > 0) == ("judge-sorter-of-dataset-asked", 2, True)
    again = fleet.call(*label, "sorter", check=True)
    assert "none of it is part of dataset asked" in again.stderr
    assert len(fleet.rows("jobs")) == len(before) + 1, "the same asks are the job that is there"
    clean = ("dataset", "clean", "asked", "--skip", "near", "--skip", "english", "--skip", "exact", *file)
    nothing = fleet.call(*clean, "--judge", "finder")
    assert (nothing.returncode, "the step `judge` leaves no row of 3" in nothing.stderr) == (2, True)
    mute = fleet.call(*clean, "--judge", "chatty", "--to", "mute")
    assert (mute.returncode, "decided on none of the rows; nothing was stored" in mute.stderr) == (1, True)
    assert "2 replies were no JSON and are asked for once more" in mute.stderr
    assert fleet.call("dataset", "show", "mute").returncode == 2
    capped = fleet.call(*label, "sorter", "--budget", "1")
    assert (capped.returncode, "--budget caps endpoints only" in capped.stderr) == (2, True)
