"""Files of every kind give the same rows; what is wrong with one is said with file, row and column."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness_analysis.datasets.exporting import EXPORT_KINDS, export_rows
from harness_analysis.datasets.importing import ImportReport, import_batches
from harness_analysis.datasets.mapping import Mapping, load_mapping
from harness_analysis.datasets.spool import ABANDONED_S, LOCK, Spool
from harness_analysis.errors import DatasetError

ROWS = [
    {
        "id": "a",
        "query": "Was ist «das»?",
        "reference": "1, 2",
        "domain": "x",
        "origin": "o",
        "licence": "MIT",
    },
    {
        "id": "b",
        "query": 'A "quoted"\nquestion',
        "origin": "o",
        "licence": "MIT",
        "level": 3,
        "tags": ["a", {"b": None}],
    },
]


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _read(
    path: Path, mapping: Mapping | None = None, **options: Any
) -> tuple[list[dict[str, Any]], ImportReport]:
    report = ImportReport()
    batches = list(import_batches([str(path)], mapping or load_mapping("plain"), report, **options))
    return pa.Table.from_batches(batches).to_pylist(), report


@pytest.mark.parametrize("kind", [*EXPORT_KINDS, ".stream"])
def test_what_is_exported_is_imported_as_the_same_rows(tmp_path: Path, kind: str) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "user", "content": "there"}]
    rows, _ = _read(_write(tmp_path / "in.jsonl", [*ROWS, {"id": "c", "query": "there", "messages": talk}]))
    rows[2]["licence"] = None
    path = tmp_path / f"out{kind if kind != '.stream' else '.arrow'}"
    batches = pa.Table.from_pylist(rows, schema=_schema()).to_batches()
    if kind == ".stream":
        export_rows(batches, tmp_path / "whole.arrow")
        table = pa.ipc.open_file(tmp_path / "whole.arrow").read_all()
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        assert export_rows(batches, path) == 3
    again, report = _read(path)
    assert json.loads(rows[1]["extra_json"]) == {"level": 3, "tags": ["a", {"b": None}]}
    assert again == rows
    assert report.rows_imported == 3
    assert not (tmp_path / f"{path.name}.partial").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl", b"\n\n", "nothing to import, there is no row in it"),
        ("a.jsonl", b'{"query": "x"}\n[1]\n', r"a.jsonl line 2: each line must be a JSON object .* not list"),
        ("a.jsonl", b'{"query": "x"}\n{"query"\n', "a.jsonl line 2: not valid JSON"),
        ("a.jsonl", b'{"query": "x"}\n{"query": "\xff"}\n', "a.jsonl line 2: is not UTF-8 text"),
        ("a.jsonl", b'{"qeury": "x"}\n', r"line 1: `query` is missing; did you mean `qeury`"),
        ("a.jsonl", b'{"query": 5}\n', r"line 1: `query` must be a text, not int"),
        (
            "a.jsonl",
            b'{"id": 1, "query": "x"}\n{"id": 1, "query": "y"}\n',
            r"line 2: `id` '1' is also at line 1",
        ),
        ("a.jsonl", b'{"query": "x", "messages": "no"}\n', r"`messages` must be a list"),
        ("a.csv", b"id,query\n1,x\n2,y,z\n", "a.csv line 3: has 3 cells where the heading has 2"),
        ("a.csv", b"id,query\n1,\xff\n", "a.csv line 2: is not UTF-8 text"),
        ("a.parquet", b"PAR1 not really", "is damaged, or no parquet file"),
        ("a.arrow", b"ARROW1 not really", "is damaged, or no arrow file"),
        ("a.txt", b"x", "datasets are read from .jsonl"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        _read(tmp_path / name)


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    table = pa.table({"qestion": ["x"], "answer": ["#### 1"]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=r"no column `question`; did you mean `qestion`"):
        _read(tmp_path / "a.parquet", load_mapping("gsm8k"))
    (tmp_path / "a.csv").write_text("qestion,answer\nx,#### 1\n")
    with pytest.raises(DatasetError, match=r"line 1: there is no column `question`"):
        _read(tmp_path / "a.csv", load_mapping("gsm8k"))
    _write(tmp_path / "a.jsonl", [{"qestion": "x", "answer": "#### 1"}])
    with pytest.raises(DatasetError, match=r"line 1: `question` is missing; did you mean `qestion`"):
        _read(tmp_path / "a.jsonl", load_mapping("gsm8k"))


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query": [f"q{i}" for i in range(5000)]}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"a\.parquet: is damaged"):
        _read(tmp_path / "a.parquet")


def test_skipped_rows_are_counted_and_the_first_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    bad = [{"query": ""}] * 30
    _write(path, [ROWS[0], *bad, ROWS[0], ROWS[1]])
    rows, report = _read(path, on_error="skip")
    assert [row["query_id"] for row in rows] == ["a", "b"]
    assert (report.rows_read, report.rows_imported, report.rows_skipped) == (33, 2, 31)
    assert len(report.skipped) == 20
    assert report.skipped[0].endswith("a.jsonl line 2: `query` is empty")
    _write(path, bad)
    with pytest.raises(DatasetError, match="all 30 rows were skipped, the first"):
        _read(path, on_error="skip")


def test_an_empty_reference_is_absent_or_where_asked_for_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", [{"query": "x", "reference": " "}, {"query": "y", "reference": "1"}])
    rows, report = _read(path)
    assert ([row["reference"] for row in rows], report.without_reference) == ([None, "1"], 1)
    with pytest.raises(DatasetError, match=r"line 1: `reference` is empty"):
        _read(path, require_reference=True)


def _schema() -> pa.Schema:
    from harness_store.dataset_tables import ROWS_SCHEMA

    return ROWS_SCHEMA


def test_turns_of_conversations_are_counted_and_cut_as_rows(tmp_path: Path) -> None:
    def talk(number: int, *said: str) -> dict[str, Any]:
        turns = [{"role": "user", "content": text, "turn_identifier": number} for text in said]
        return {"conversation": turns, "conversation_hash": f"c{number}", "turn": len(said)}

    path = _write(
        tmp_path / "talks.jsonl", [talk(1, "a", "b"), talk(2, "c", " "), talk(1, "d"), talk(3, "e", "f")]
    )
    rows, report = _read(path, load_mapping("wildchat_turns"), on_error="skip", limit=3)
    assert [row["query_id"] for row in rows] == ["1-1", "1-2", "3-1"]
    assert (report.rows_read, report.rows_imported, report.rows_skipped) == (4, 3, 2)
    assert "line 2: `conversation` is empty" in report.skipped[0]
    assert "line 3: `conversation.0.turn_identifier` '1-1' is also at line 1" in report.skipped[1]


def test_an_empty_cell_is_an_empty_reference_and_no_missing_column(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("question,gold,level\nWhy?,,\nHow?,so,3\n,so,3\n")
    mapping = Mapping(query="question", reference="gold")
    rows, report = _read(path, mapping, on_error="skip")
    assert [(row["reference"], row["extra_json"]) for row in rows] == [(None, None), ("so", '{"level": "3"}')]
    assert report.skipped == [f"{path} line 4: `question` is empty"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("question,answer\nhi,1\n", r"line 2: `query` is missing; known are answer, question"),
        ("query,domain,query\na,b,c\n", r"line 1: the column `query` is there twice"),
    ],
)
def test_a_heading_that_names_no_question_or_two(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=said):
        _read(path)


def test_rows_that_a_killed_import_left_are_removed_and_those_in_use_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = (
        "import sys; from harness_analysis.datasets.spool import Spool\n"
        "with Spool(): print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        other.stdout.readline()
        (held,) = tmp_path.iterdir()
        for age_s, dead, left in (
            (ABANDONED_S * 2, False, True),
            (0, True, True),
            (ABANDONED_S * 2, True, False),
        ):
            if dead and other.poll() is None:
                other.kill()
                other.wait()
            os.utime(held / LOCK, (time.time() - age_s,) * 2)
            with Spool() as own:
                assert own.path.parent != held
            assert held.exists() == left, (age_s, dead)
    assert list(tmp_path.iterdir()) == []
