"""Datasets under names, and embeddings: stored whole or not at all, once, and dropped when nothing needs them."""

from __future__ import annotations

import json
from pathlib import Path

import harness_store.migrate as migrating
import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from harness_store import dataset_tables, datasets, jobs
from harness_store.database import Store, open_store
from harness_store.datasets import NewDataset, QueryRow, import_rows, rows_hash
from harness_store.embeddings import count_embeddings, find_embeddings, store_embeddings
from harness_store.errors import (
    DatasetInUseError,
    DuplicateDatasetError,
    NotOwnerError,
    UnknownDatasetError,
)
from harness_store.models import Dataset, Query
from harness_store.prompts import content_hash, prompt_text
from sqlalchemy import Connection, create_engine, func, select, text

from tests.store.worlds import NOW, new_job, query_rows

TALK = json.dumps([{"role": "user", "content": "Hi"}, {"role": "user", "content": "What is 1 + 1?"}])


def _new(name: str = "sums", **more: object) -> NewDataset:
    return NewDataset(name, "file.jsonl", NOW, **more)  # type: ignore[arg-type]


def _count(c: Connection, model: type) -> int:
    return c.execute(select(func.count()).select_from(model)).scalar_one()


def test_an_import_in_batches_is_there_once_however_often_it_is_repeated(store: Store) -> None:
    rows = [*query_rows(5), QueryRow("t", 5, "What is 1 + 1?", TALK, "2", "talk", '{"a": 1}', "chat", "MIT")]
    with store.begin() as c:
        first = import_rows(c, _new(licence="MIT", report_json="{}"), [rows[:2], rows[2:]])
    with store.begin() as c:
        again = import_rows(c, _new(), [rows])
        assert (first.is_new, again.is_new) == (True, False)
        assert again.dataset == first.dataset
        assert first.dataset.content_hash == rows_hash([rows[:4], rows[4:]])
        assert (_count(c, Dataset), _count(c, Query)) == (1, 6)
        with pytest.raises(DuplicateDatasetError, match="'sums' exists with other queries"):
            import_rows(c, _new(), [rows[:3]])
        stored = list(datasets.queries(c, first.dataset.dataset_id))
    assert [r.query_id for r in stored] == ["q0", "q1", "q2", "q3", "q4", "t"]
    assert stored[5].content_hash == content_hash("user: Hi\nuser: What is 1 + 1?")
    assert stored[0].content_hash == content_hash("What is 0 + 1?") != stored[5].content_hash


def test_an_import_that_fails_leaves_nothing(store: Store) -> None:
    def broken() -> object:
        yield query_rows(3)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"), store.begin() as c:
        import_rows(c, _new(), broken())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'q0' is there twice"), store.begin() as c:
        import_rows(c, _new(), [query_rows(3), query_rows(1)])
    with pytest.raises(ValueError, match="at least one query"), store.begin() as c:
        import_rows(c, _new(), [])
    for name in ("", "a//b", "/a", "a/", "ä", "x" * 300):
        with pytest.raises(ValueError, match="cannot name a dataset"), store.begin() as c:
            import_rows(c, _new(name), [query_rows(1)])
    with store.read() as c:
        assert (_count(c, Dataset), _count(c, Query)) == (0, 0)


def test_rows_come_back_as_batches_and_batches_become_rows(store: Store) -> None:
    with store.begin() as c:
        row = import_rows(c, _new("a/train", parent="a"), [query_rows(7)]).dataset
        batches = [dataset_tables.row_batch(c, row.dataset_id, first=at, limit=3) for at in (0, 3, 6, 9)]
        assert [b.num_rows for b in batches] == [3, 3, 1, 0]
        back = [row for part in dataset_tables.rows_of(batches) for row in part]
        assert back == list(datasets.queries(c, row.dataset_id))
        assert [d.name for d in dataset_tables.list_datasets(c)] == ["a/train"]
        assert dataset_tables.children(c, "a") == {"a/train": 7}
    lacking = batches[0].drop_columns(["reference"])
    with pytest.raises(ValueError, match="no column `reference`"):
        list(dataset_tables.rows_of([lacking]))


def test_a_dataset_is_dropped_by_its_owner_when_no_job_needs_it(store: Store) -> None:
    with store.begin() as c:
        import_rows(c, _new(owner="ada"), [query_rows(3)])
        import_rows(c, _new("other"), [query_rows(2)])
        with pytest.raises(NotOwnerError, match="imported by ada"):
            dataset_tables.drop_dataset(c, "sums", by="bob")
        job_id = jobs.insert_job(c, new_job(dataset_name="sums")).job_id
        with pytest.raises(DatasetInUseError, match=job_id):
            dataset_tables.drop_dataset(c, "sums", by="ada")
        dataset_tables.drop_dataset(c, "other", by="ada")
        with pytest.raises(UnknownDatasetError, match=r"'other' \(sums\)"):
            dataset_tables.drop_dataset(c, "other")
        assert _count(c, Query) == 3


def test_embeddings_are_kept_once_for_each_model_and_text(store: Store) -> None:
    vectors = np.random.default_rng(0).standard_normal((1200, 8)).astype(np.float32)
    hashes = [content_hash(str(i)) for i in range(1200)]
    with store.begin() as c:
        store_embeddings(c, "m", hashes, vectors)
        store_embeddings(c, "m", hashes[:5], vectors[5:10])
        store_embeddings(c, "other", hashes[:1], vectors[:1])
    with store.read() as c:
        found = find_embeddings(c, "m", [*hashes, "absent"])
        assert (count_embeddings(c, "m"), len(found)) == (1200, 1200)
    np.testing.assert_array_equal(np.stack([found[h] for h in hashes]), vectors)
    with store.begin() as c:
        with pytest.raises(ValueError, match="not finite"):
            store_embeddings(c, "m", ["x"], np.array([[np.nan]], dtype=np.float32))
        with pytest.raises(ValueError, match="1 vectors for 2"):
            store_embeddings(c, "m", ["x", "y"], vectors[:1])


def test_a_prompt_is_its_text_or_all_its_turns() -> None:
    one = json.dumps([{"role": "user", "content": "Hi"}])
    assert prompt_text("Hi", None) == prompt_text("anything", one) == "Hi"
    assert prompt_text("x", TALK) == "user: Hi\nuser: What is 1 + 1?"


def test_a_database_of_the_revision_before_keeps_its_rows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    open_store(url).close()
    config = Config()
    config.set_main_option("script_location", str(Path(migrating.__file__).parent / "migrations"))
    engine = create_engine(url)
    with engine.begin() as c:
        config.attributes["connection"] = c
        command.downgrade(config, "0004")
        c.execute(text("INSERT INTO datasets VALUES ('d', 'old', 'f', 'h', 1, 5)"))
        c.execute(text("INSERT INTO queries VALUES ('d', 'q', 0, 'Hi', NULL, '1', NULL, NULL)"))
    engine.dispose()
    store = open_store(url)
    with store.read() as c:
        row = datasets.find_dataset(c, "old")
        (query,) = datasets.queries(c, row.dataset_id)
    store.close()
    assert (row.licence, row.report_json, query.text, query.content_hash) == (None, None, "Hi", None)
