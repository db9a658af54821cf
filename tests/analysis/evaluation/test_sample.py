"""Blind samples and labels, replies of judges, and judges files: what is taken and what is named as wrong."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from harness_analysis.evaluation.judge_settings import JudgesFileError, load_judges
from harness_analysis.evaluation.judging import AnswerToJudge
from harness_analysis.evaluation.prompts import pairwise_prompt
from harness_analysis.evaluation.replies import PairwiseReply, TrueFalseReply, UnusableReplyError, parse_reply
from harness_analysis.evaluation.sample import LabelFileError, blind_id, blind_rows, read_labels, write_sample

ANSWERS = [
    AnswerToJudge(
        f"job-{i}", 1, f"q{i // 2}", f"secret-model-{i % 2}", f"Question {i}?", None, "ref", f"answer {i}"
    )
    for i in range(20)
]


def test_a_sample_is_blind_shuffled_and_seeded(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    write_sample(blind_rows(ANSWERS, 10, 7), path)
    text = path.read_text()
    assert "secret-model" not in text
    assert "job-" not in text
    rows = list(csv.DictReader(text.splitlines()))
    assert len({row["id"] for row in rows}) == 10
    assert blind_rows(ANSWERS, 10, 7) == blind_rows(list(reversed(ANSWERS)), 10, 7)
    assert blind_rows(ANSWERS, 10, 7) != blind_rows(ANSWERS, 10, 8)


def test_labels_come_back_and_each_wrong_row_is_named(tmp_path: Path) -> None:
    ids = [blind_id(a) for a in ANSWERS]
    path = tmp_path / "labels.csv"
    path.write_text(
        f"id,label\n{ids[0]},Right\n{ids[1]},wrong\nnobody,right\n{ids[2]},maybe\n{ids[3]},\n{ids[0]},no\n"
    )
    read = read_labels(path, ANSWERS)
    assert [(x.answer.task_id, x.correct) for x in read.labels] == [("job-0", True), ("job-1", False)]
    assert read.unlabelled == 1
    assert [p.removeprefix(f"{path} ") for p in read.problems] == [
        "line 4: `id`: 'nobody' is no answer of this job",
        "line 5: `label`: 'maybe' is neither right nor wrong",
        f"line 7: `id`: {ids[0]!r} was labelled otherwise above",
    ]
    path.write_text("id,verdict\n")
    with pytest.raises(LabelFileError, match="line 1: the column `label` is missing"):
        read_labels(path, ANSWERS)


def test_json_is_found_in_prose_and_prose_is_not_json() -> None:
    said = (
        '<think>{"correct": false}</think> Here:\n```json\n{"explanation": "{x}", "correct": true}\n```\nBye.'
    )
    assert parse_reply(said, TrueFalseReply).correct is True
    for wrong, why in (
        ("True", "no JSON object"),
        ('{"correct": "yes"}', "`correct`"),
        ('{"explanation": "x"}', "`correct`: Field required"),
    ):
        with pytest.raises(UnusableReplyError, match=why):
            parse_reply(wrong, TrueFalseReply)
    with pytest.raises(UnusableReplyError, match="verdict"):
        parse_reply('{"verdict": "A"}', PairwiseReply)


def test_braces_in_an_answer_fill_nothing() -> None:
    prompt = pairwise_prompt("{second}", "{first}", "{question}", "answer-first")
    assert "<user_message>\n{second}\n</user_message>" in prompt
    assert "<answer_a>\n{first}\n</answer_a>" in prompt


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("judges: []", "`judges`"),
        ("judges: [{name: a}]", "give either `base_url` and `model`"),
        ("judges: [{name: a, base_url: 'http://x', modle: m}]", "`judges.0.modle`"),
        ("judges: [{name: 'a b', base_url: 'http://x', model: m}]", "letters, digits"),
        ("judges: [{name: a, base_url: x, model: m}]", "begins with http"),
        (
            "judges: [{name: a, base_url: 'http://x', model: m}, {name: a, base_url: 'http://y', model: m}]",
            "twice",
        ),
        ("judges: [", "line"),
    ],
)
def test_a_wrong_judges_file_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "judges.yaml"
    path.write_text(text)
    with pytest.raises(JudgesFileError, match=said):
        load_judges(path)
