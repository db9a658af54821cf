"""Rows of well-known sets become queries with their reference in the form that exact match takes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness_analysis.datasets.choices import RowError
from harness_analysis.datasets.importing import ImportReport, import_batches
from harness_analysis.datasets.mapped_row import map_record, map_records
from harness_analysis.datasets.mapping import Mapping, adapted, load_mapping, shipped_mappings
from harness_analysis.errors import DatasetError
from harness_store.verdicts.exact_match import exact_match

LETTERED = {"question": "Which?", "options": ["red", "green", "blue"]}
TALK = [
    {"role": "user", "content": "Hi", "turn_identifier": 17},
    {"role": "assistant", "content": "Hello!", "turn_identifier": 17},
    {"role": "user", "content": "A poem, please", "turn_identifier": 17},
    {"role": "assistant", "content": "Roses", "turn_identifier": 17},
]
ROWS: dict[str, tuple[dict[str, Any], str | None]] = {
    "plain": ({"id": "a", "query": "1+1?", "reference": 2, "level": 3}, "2"),
    "gsm8k": ({"question": "1+1?", "answer": "One and one\n#### 1,002"}, "1,002"),
    "mmlu": (
        {"question": "Which?", "subject": "art", "choices": ["x", "y"], "answer": 1, "split": "dev"},
        "B",
    ),
    "mmlu_pro": ({**LETTERED, "question_id": 5, "answer": "C", "category": "law", "src": "s"}, "C"),
    "arc": (
        {
            "id": "x",
            "question": "Which?",
            "choices": {"text": ["p", "q"], "label": ["1", "2"]},
            "answerKey": "2",
        },
        "B",
    ),
    "supergpqa": ({**LETTERED, "uuid": "u", "answer_letter": "A", "discipline": "Law", "field": "f"}, "A"),
    "boolq": ({"question": "is it", "passage": "It is.", "answer": False}, "no"),
    "winogrande": ({"sentence": "_ ate", "option1": "Ann", "option2": "Bob", "answer": "2"}, "B"),
    "natural_reasoning": ({"question": "Why?", "reference_answer": "", "responses": []}, None),
    "wildchat": ({"conversation": TALK, "model": "gpt-4", "turn": 2, "language": "English"}, None),
}


@pytest.mark.parametrize("name", sorted(set(ROWS) - {"plain"}))
def test_each_set_s_rows_become_queries(name: str) -> None:
    record, reference = ROWS[name]
    row = map_record(load_mapping(name), record, number=3, origin="file")
    assert row.reference == reference
    assert (row.origin, bool(row.licence), row.ordinal) == (name, True, 2)
    if reference is not None:
        assert exact_match(f"The answer is {reference}", reference)


def test_every_shipped_mapping_is_tried_here() -> None:
    assert set(shipped_mappings()) == {*ROWS, "sciq", "wildchat_turns"}


def test_choices_stand_lettered_below_the_question() -> None:
    row = map_record(load_mapping("mmlu_pro"), ROWS["mmlu_pro"][0], number=1, origin="f")
    assert row.text == ("Which?\n\nA. red\nB. green\nC. blue\n\nAnswer with the letter of the right choice.")
    assert (row.query_id, row.domain, json.loads(row.extra_json or "")) == ("5", "law", {"src": "s"})


def test_the_right_choice_of_sciq_is_placed_by_chance_and_the_same_each_time() -> None:
    letters = []
    mapping = load_mapping("sciq")
    for number in range(400):
        record = {"question": f"Q{number}?", "correct_answer": "right"}
        record |= {f"distractor{i}": f"wrong {i}" for i in (1, 2, 3)}
        rows = [map_record(mapping, record, number=1, origin="f") for _ in range(2)]
        assert rows[0] == rows[1]
        assert f"{rows[0].reference}. right" in rows[0].text
        letters.append(rows[0].reference)
    counts = Counter(letters)
    assert set(counts) == set("ABCD")
    assert min(counts.values()) > 60


def test_a_conversation_keeps_its_turns_up_to_the_last_of_the_user() -> None:
    mapping = load_mapping("wildchat")
    row = map_record(mapping, ROWS["wildchat"][0], number=1, origin="f")
    assert [m["content"] for m in json.loads(row.messages_json or "")] == ["Hi", "Hello!", "A poem, please"]
    assert (row.text, row.query_id) == ("A poem, please", "17")
    first = map_record(adapted(mapping, {"turns": "first"}), ROWS["wildchat"][0], number=1, origin="f")
    assert (first.text, first.messages_json) == ("Hi", None)


def test_each_turn_of_a_conversation_becomes_a_query_with_what_was_said_before() -> None:
    record = {"conversation": TALK, "conversation_hash": "c1", "turn": 2, "model": "gpt-4"}
    rows = map_records(load_mapping("wildchat_turns"), record, number=5, origin="f")
    assert [(row.query_id, row.ordinal, row.text) for row in rows] == [
        ("17-1", 4, "Hi"),
        ("17-2", 5, "A poem, please"),
    ]
    assert rows[0].messages_json is None, "a first turn is asked like any text"
    assert [m["content"] for m in json.loads(rows[1].messages_json or "")] == [
        "Hi",
        "Hello!",
        "A poem, please",
    ]
    # WildChat's `turn` counts the conversation's: here each row has its own.
    assert [json.loads(row.extra_json or "")["turn"] for row in rows] == [1, 2]
    with pytest.raises(RowError, match="`conversation` is empty"):
        map_records(load_mapping("wildchat_turns"), {"conversation": None}, number=1, origin="f")
    with pytest.raises(DatasetError, match="a `reference` belongs to one of them"):
        adapted(load_mapping("wildchat_turns"), {"reference": "model"})
    with pytest.raises(DatasetError, match="`turns: each` needs `messages`"):
        adapted(Mapping(query="q"), {"turns": "each"})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gsm8k", {"answer": "42"}, "`answer` has no answer after ####"),
        ("gsm8k", {"question": " "}, "`question` is empty"),
        ("mmlu", {"answer": 2}, "`answer` is 2 and there are 2 choices"),
        ("mmlu", {"answer": -1}, "`answer` is -1"),
        ("mmlu", {"choices": ["x", ""]}, "`choices` has an empty choice at position 2"),
        ("mmlu", {"choices": [str(i) for i in range(11)]}, "2 to 10 can be lettered"),
        ("mmlu_pro", {"answer": "D"}, "`answer` names none of the 3 choices: 'D'"),
        ("boolq", {"answer": "perhaps"}, "must be true or false"),
        (
            "wildchat",
            {"conversation": [{"role": "assistant", "content": "x", "turn_identifier": 1}]},
            "no turn of",
        ),
        (
            "wildchat",
            {"conversation": [{"role": "owl", "content": "x", "turn_identifier": 1}]},
            "turn 1: the role",
        ),
    ],
)
def test_a_row_that_contradicts_its_mapping_is_refused(
    name: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RowError, match=message):
        map_record(load_mapping(name), {**ROWS[name][0], **change}, number=1, origin="f")


def test_an_unknown_key_of_a_mapping_suggests_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("qeury: text\n")
    with pytest.raises(DatasetError, match=r"m\.yaml: unknown key `qeury`; did you mean `query`\?"):
        load_mapping(str(path))
    with pytest.raises(DatasetError, match="did you mean `gsm8k`"):
        load_mapping("gsm8")
    path.write_text("query: [\n")
    with pytest.raises(DatasetError, match="line 2"):
        load_mapping(str(path))
    with pytest.raises(DatasetError, match="`answer: index` needs `choices`"):
        adapted(Mapping(query="q"), {"answer": "index"})


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    row = map_record(load_mapping("plain"), {"query": "a\ud83d b \U0001f600"}, number=1, origin="f")
    assert row.text == "a\ufffd b \U0001f600"
    assert row.query_id == "f-1"


@pytest.mark.parametrize(
    ("name", "file", "count", "references"),
    [
        ("gsm8k", "gsm8k-test.jsonl", 1319, None),
        ("mmlu", "mmlu.parquet", 15858, "ABCD"),
        ("arc", "ai2_arc__ARC-Challenge__validation.parquet", 299, "ABCDE"),
        ("boolq", "boolq__none__validation.parquet", 3270, ("yes", "no")),
        ("sciq", "sciq__none__validation.parquet", 1000, "ABCD"),
        ("winogrande", "winogrande__winogrande_xl__validation.parquet", 1267, "AB"),
    ],
)
def test_published_sets_are_read_whole(
    shared_data: Path, name: str, file: str, count: int, references: Any
) -> None:
    report = ImportReport()
    batches = list(import_batches([str(shared_data / "queries" / file)], load_mapping(name), report))
    table = pa.Table.from_batches(batches)
    assert (table.num_rows, report.without_reference) == (count, 0)
    said = table.column("reference").to_pylist()
    if references is not None:
        assert set(said) == set(references)
    if name == "mmlu":
        answers = pq.read_table(shared_data / "queries" / file, columns=["answer"]).column(0).to_pylist()
        assert said == ["ABCD"[answer] for answer in answers]
    if name == "gsm8k":
        lines = (shared_data / "queries" / file).read_text().splitlines()
        assert said == [json.loads(line)["answer"].split("#### ")[1].strip() for line in lines]
