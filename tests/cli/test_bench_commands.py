"""A benchmark goes out of one database and comes back into another; what was changed on the way is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from harness_analysis.outcomes.from_store import answers_in_store
from harness_analysis.publishing.manifest import sha256_of
from harness_analysis.reader import StoreReader
from harness_cli.main import harness
from harness_store import datasets, fleet, jobs
from harness_store.database import Store, open_store
from harness_store.dataset_tables import list_datasets
from harness_store.datasets import NewDataset, QueryRow
from harness_store.results import results_table
from sqlalchemy import text

from tests.store.worlds import NOW, new_job, register, run_to_its_end, sources

REPORT = {
    "kind": "clean",
    "rows_before": 20,
    "steps": [{"step": "exact", "rows_before": 20, "removed": 8}],
}


def call(url: str, *arguments: str) -> Result:
    ran = CliRunner().invoke(harness, [*arguments, "--db", url])
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return ran


def rows(count: int = 12) -> list[QueryRow]:
    return [
        QueryRow(f"q{i}", i, f"What is {i} + 1?", reference=str(i + 1), domain=f"d{i % 2}", licence="CC0-1.0")
        for i in range(count)
    ]


def two_jobs(store: Store) -> list[str]:
    """Run one job whose energy was measured and one whose energy was estimated, on a named dataset."""
    ids: list[str] = []
    with store.begin() as c:
        register(c)
        fleet.upsert_sources(c, "a1", sources("g"))
        new = NewDataset("sums-clean", "sums.jsonl", NOW, parent="sums", report_json=json.dumps(REPORT))
        datasets.import_rows(c, new, [rows()])
        for name, source, joules in (("s1", "counter", 10.0), ("s2", "estimated", 1000.0)):
            job_id = jobs.insert_job(c, new_job(name, models=2, dataset_name="sums-clean")).job_id
            for model, wrong, times in (("m0", 5, 1), ("m1", 2, 2)):
                run_to_its_end(
                    c,
                    job_id,
                    model_id=model,
                    energy_source={"g": source},
                    joules={"g": [joules * times] * 12},
                    responses=["no idea" if i < wrong else str(i + 1) for i in range(12)],
                )
            assert jobs.finish_if_complete(c, job_id, NOW) == "done"
            ids.append(job_id)
    return ids


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(f"sqlite:///{tmp_path / 'h.db'}")
    yield made
    made.close()


def exported(store: Store, folder: Path) -> list[str]:
    ids = two_jobs(store)
    options = [word for job_id in ids for word in ("--job", job_id)]
    ran = call(str(store.engine.url), "export", "bench", "-o", str(folder), *options)
    assert ran.exit_code == 0, ran.stderr
    return ids


def test_what_went_out_comes_back_the_same(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    ids = exported(store, folder)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    ran = call(other, "import", "bench", str(folder), "--format", "json")
    assert ran.exit_code == 0, ran.stderr
    assert [(row["dataset"], row["rows"], row["stored"]) for row in json.loads(ran.stdout)] == [
        ("sums-clean", 12, "new")
    ]
    assert (
        json.loads(call(other, "import", "bench", str(folder), "--format", "json").stdout)[0]["stored"]
        == "was there"
    )
    read = open_store(other)
    with store.read() as ours, read.read() as theirs:
        (a,), (b,) = list_datasets(ours), list_datasets(theirs)
        assert (a.content_hash, a.row_count, a.licence, a.parent) == (
            b.content_hash,
            b.row_count,
            b.licence,
            b.parent,
        )
        assert list(datasets.queries(ours, a.dataset_id)) == list(datasets.queries(theirs, b.dataset_id))
        assert json.loads(datasets.find_dataset(theirs, "sums-clean").report_json or "") == REPORT
        whole = results_table(ours, ids[0])
    read.close()
    published = pq.read_table(folder / f"jobs/{ids[0]}.results.parquet")
    assert "host_name" not in published.column_names
    assert "agent" not in published.column_names
    assert set(published.column("dataset_id").to_pylist()) == {"sums-clean"}
    for name in ("joules", "joules_low", "coverage", "correct", "response", "energy_source", "device_scope"):
        assert published.column(name).to_pylist() == whole.column(name).to_pylist(), name
    verdicts = pl.read_parquet(folder / f"jobs/{ids[1]}.verdicts.parquet")
    assert (verdicts.height, verdicts["correct"].sum()) == (24, 17)


def test_outcomes_are_read_as_the_database_is(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    (measured, _) = exported(store, folder)
    outcomes = str(folder / "outcomes.parquet")
    solved = ("analyze", "solvability", "--energy", "measured", "--format", "json")
    from_file = CliRunner().invoke(harness, [*solved, outcomes])
    from_store = CliRunner().invoke(harness, [*solved, str(store.engine.url), "--job", measured])
    assert from_file.exit_code == 0, from_file.output
    assert json.loads(from_file.stdout) == json.loads(from_store.stdout)
    routed = ("route", "evaluate", outcomes, "--routers", "oracle,heuristic", "--cost", "joules", "--energy")
    ran = CliRunner().invoke(harness, [*routed, "measured", "--format", "json"])
    assert ran.exit_code == 0, ran.output
    assert len(json.loads(ran.stdout)) > 1


def test_a_model_without_a_stated_size_has_the_one_that_was_counted(store: Store, tmp_path: Path) -> None:
    (job_id, _) = two_jobs(store)
    with store.begin() as c:
        c.execute(text("UPDATE models SET params_b = NULL WHERE model_id = 'm0'"))
        c.execute(text("UPDATE models SET params_b = 7 WHERE model_id = 'm1'"))
        c.execute(text("UPDATE runs SET facts_json = :facts"), {"facts": '{"parameters": "134515008"}'})
    ran = call(str(store.engine.url), "export", "bench", "-o", str(tmp_path / "bench"), "--job", job_id)
    assert ran.exit_code == 0, ran.stderr
    published = pq.read_table(tmp_path / "bench/outcomes.parquet").select(["model_id", "params_b"])
    stored = answers_in_store(StoreReader(store), job_id).select(["model_id", "params_b"])
    for table in (published, stored):
        sizes = {row["model_id"]: row["params_b"] for row in table.to_pylist()}
        assert sizes == {"m0": pytest.approx(0.134515008), "m1": 7.0}


def test_the_card_never_means_over_measured_and_estimated(store: Store, tmp_path: Path) -> None:
    exported(store, tmp_path / "bench")
    card = (tmp_path / "bench/README.md").read_text()
    assert "| m0 | NVIDIA H200 | measured | counter | gpu | tokens | 12 | 0 | 12 | 10 | 1 | 0.5 |" in card
    assert (
        "| m0 | NVIDIA H200 | estimated | estimated | gpu | tokens | 12 | 0 | 12 | 1000 | 1 | 0.5 |" in card
    )
    assert "505" not in card, "the mean over both kinds"
    assert "| sums-clean | 12 | CC0-1.0 (12) | sums | sums.jsonl |" in card
    assert "| sums-clean | clean: exact | 8 of 20 removed |" in card
    assert "exact_match | m1 | yes | 12 | 0 | 0.8333 |" in card


def test_the_same_export_is_the_same_files(store: Store, tmp_path: Path) -> None:
    ids = exported(store, tmp_path / "bench")
    options = [word for job_id in ids for word in ("--job", job_id)]
    url = str(store.engine.url)
    assert call(url, "export", "bench", "-o", str(tmp_path / "again"), *options).exit_code == 0
    assert (tmp_path / "bench/manifest.json").read_text() == (tmp_path / "again/manifest.json").read_text()
    taken = call(url, "export", "bench", "-o", str(tmp_path / "again"), *options)
    assert (taken.exit_code, "is there already" in taken.stderr) == (2, True)


def test_queries_of_a_job_file_are_published_with_the_job(store: Store, tmp_path: Path) -> None:
    with store.begin() as c:
        register(c)
        fleet.upsert_sources(c, "a1", sources("g"))
        job_id = jobs.insert_job(c, new_job(), rows(3)).job_id
    url = str(store.engine.url)
    early = call(url, "export", "bench", "-o", str(tmp_path / "bench"), "--job", job_id)
    assert (early.exit_code, "is active: wait for its end" in early.stderr) == (2, True)
    with store.begin() as c:
        run_to_its_end(c, job_id)
        jobs.finish_if_complete(c, job_id, NOW)
    assert call(url, "export", "bench", "-o", str(tmp_path / "bench"), "--job", job_id).exit_code == 0
    (found,) = json.loads((tmp_path / "bench/manifest.json").read_text())["datasets"]
    assert (found["name"].startswith("queries-"), found["rows"]) == (True, 3)
    assert call(url, "import", "bench", str(tmp_path / "bench")).exit_code == 0


def _truncated(folder: Path, manifest: dict[str, Any]) -> None:
    path = folder / manifest["datasets"][0]["file"]
    path.write_bytes(path.read_bytes()[:-20])


def _absent(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / manifest["jobs"][0]["verdicts"]).unlink()


def _other_rows(folder: Path, manifest: dict[str, Any]) -> None:
    # Whoever changes a file and its hash still meets the content hash of the dataset.
    path = folder / manifest["datasets"][0]["file"]
    table = pl.read_parquet(path).with_columns(reference=pl.lit("42")).to_arrow()
    pq.write_table(table, path)
    for file in manifest["files"]:
        if folder / file["path"] == path:
            file.update(sha256=sha256_of(path), size_bytes=path.stat().st_size)


def _outside(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["files"][0]["path"] = "../h.db"


def _unlisted(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["files"] = [file for file in manifest["files"] if file["path"] != "outcomes.parquet"]


def _newer(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["version"] = 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_truncated, "is not what was published"),
        (_absent, "verdicts.parquet: cannot be read: No such file"),
        (_other_rows, "its rows are not those of sums-clean"),
        (_outside, "leads out of the folder"),
        (_unlisted, "`files` has no hash and rows of outcomes.parquet"),
        (_newer, "`version`"),
    ],
)
def test_what_was_changed_on_the_way_is_named_and_nothing_is_stored(
    store: Store, tmp_path: Path, change: Callable[[Path, dict[str, Any]], None], said: str
) -> None:
    folder = tmp_path / "bench"
    exported(store, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    change(folder, manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    ran = call(f"sqlite:///{tmp_path / 'other.db'}", "import", "bench", str(folder))
    assert (ran.exit_code, said in ran.stderr) == (2, True), ran.stderr
    assert not (tmp_path / "other.db").exists()


def test_a_name_of_other_queries_stops_the_import(store: Store, tmp_path: Path) -> None:
    exported(store, tmp_path / "bench")
    other = open_store(f"sqlite:///{tmp_path / 'other.db'}")
    with other.begin() as c:
        datasets.import_rows(c, NewDataset("sums-clean", "x", NOW), [rows(2)])
    ran = call(str(other.engine.url), "import", "bench", str(tmp_path / "bench"))
    other.close()
    assert (ran.exit_code, "exists with other queries; nothing was stored" in ran.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name something to publish"),
        (("--dataset", "nope"), "no dataset is named 'nope'"),
        (("--job", "nope"), "there is no job 'nope'"),
    ],
)
def test_what_cannot_be_published_leaves_no_folder(
    store: Store, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    ran = call(str(store.engine.url), "export", "bench", "-o", str(tmp_path / "bench"), *arguments)
    assert (ran.exit_code, said in ran.stderr) == (2, True), ran.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == []
