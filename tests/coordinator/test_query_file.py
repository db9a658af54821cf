"""Query files: what is read, and the line that is named when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness_coordinator.query_file import QueryFileError, read_query_file


def write(tmp_path: Path, text: str, name: str = "q.jsonl") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_keep_their_fields_and_extra_ones(tmp_path: Path) -> None:
    path = write(
        tmp_path, '{"id": 7, "query": "2+2?", "reference": 4, "domain": "sums", "level": "easy"}\n\n'
    )
    (row,) = read_query_file(path)
    assert (row.query_id, row.text, row.reference, row.domain) == ("7", "2+2?", "4", "sums")
    assert row.extra_json == '{"level": "easy"}'


def test_csv_and_limit(tmp_path: Path) -> None:
    path = write(tmp_path, 'id,query,reference\na,"What, now?",x\nb,Second,\nc,Third,\n', "q.csv")
    rows = read_query_file(path, limit=2)
    assert [(r.query_id, r.text, r.reference) for r in rows] == [
        ("a", "What, now?", "x"),
        ("b", "Second", None),
    ]


def test_a_conversation_keeps_its_turns(tmp_path: Path) -> None:
    path = write(tmp_path, '{"id": "c", "messages": [{"role": "user", "content": "Hi"}]}\n')
    (row,) = read_query_file(path)
    assert row.text == "Hi"
    assert row.messages_json == '[{"role": "user", "content": "Hi"}]'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": "a", "query": "x"}\n{"id": "b", "query"\n', "line 2: not valid JSON"),
        ('["x"]\n', "line 1: each line must be a JSON object"),
        ('{"id": "a"}\n', "line 1: `query` must be a text that is not empty"),
        ('{"id": "a", "query": "  "}\n', "line 1: `query` must be a text"),
        ('{"id": "a", "query": "x"}\n{"id": "a", "query": "y"}\n', "line 2: the id 'a' is also on line 1"),
        ('{"id": "a", "messages": [{"role": "user"}]}\n', "line 1: `messages` must be a list of"),
        ("\n\n", "holds no queries"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(QueryFileError) as caught:
        read_query_file(write(tmp_path, text))
    assert said in str(caught.value)
    assert "q.jsonl" in str(caught.value)


def test_files_of_another_kind_or_encoding_or_absent(tmp_path: Path) -> None:
    with pytest.raises(QueryFileError, match=r"\.jsonl or \.csv"):
        read_query_file(write(tmp_path, "x", "q.txt"))
    with pytest.raises(QueryFileError, match="there is no such query file"):
        read_query_file(tmp_path / "absent.jsonl")
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"id": "a", "query": "café"}\n'.encode("latin-1"))
    with pytest.raises(QueryFileError, match="is not UTF-8 text"):
        read_query_file(latin)
    with pytest.raises(QueryFileError, match="a column named `query` is needed"):
        read_query_file(write(tmp_path, "id,text\na,b\n", "q.csv"))
