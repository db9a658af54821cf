"""A blind sample for people to label: no model names, shuffled by a seed; and their labels back."""

from __future__ import annotations

import csv
import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness_analysis.errors import AnalysisError
from harness_analysis.evaluation.judging import AnswerToJudge
from harness_analysis.evaluation.prompts import question_text

COLUMNS: tuple[str, ...] = ("id", "question", "reference", "answer", "label", "comment")
LABELS = {
    **dict.fromkeys(("right", "correct", "true", "yes", "1"), True),
    **dict.fromkeys(("wrong", "incorrect", "false", "no", "0"), False),
}


class LabelFileError(AnalysisError):
    """A label file that cannot be used at all; the message names file and field."""


@dataclass(frozen=True, slots=True)
class Label:
    """One person's label of one answer."""

    answer: AnswerToJudge
    correct: bool
    comment: str


@dataclass(frozen=True, slots=True)
class Labels:
    """What a label file holds."""

    labels: list[Label]
    unlabelled: int
    problems: list[str]
    """One sentence each, with line and field."""


def blind_id(answer: AnswerToJudge) -> str:
    """Return an id that tells neither model nor order."""
    return hashlib.sha256(f"blind {answer.task_id} {answer.attempt}".encode()).hexdigest()[:12]


def blind_rows(answers: Sequence[AnswerToJudge], count: int, seed: int) -> list[dict[str, str]]:
    """Return rows of a sample of answers without replacement, in random order."""
    by_id = sorted(answers, key=blind_id)
    chosen = random.Random(seed).sample(by_id, min(count, len(by_id)))  # noqa: S311 - it shall be repeatable
    return [
        {
            "id": blind_id(a),
            "question": question_text(a.query, a.messages_json),
            "reference": a.reference or "",
            "answer": a.response,
            "label": "",
            "comment": "",
        }
        for a in chosen
    ]


def write_sample(rows: Iterable[dict[str, str]], path: Path) -> None:
    """Write rows as CSV; the file appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(COLUMNS))
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise LabelFileError(f"{path}: cannot be written: {error.strerror}") from None


def read_labels(path: Path, answers: Sequence[AnswerToJudge]) -> Labels:
    """Read a file of labels; a row that cannot be used is named and left out.

    Raises:
        LabelFileError: there is no such file, or it lacks the column `id` or `label`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in ("id", "label") if name not in (reader.fieldnames or ())]
            if missing:
                raise LabelFileError(f"{path} line 1: the column `{missing[0]}` is missing")
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise LabelFileError(f"{path}: there is no such label file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelFileError(f"{path}: cannot be read: {error}") from None
    known = {blind_id(answer): answer for answer in answers}
    found: dict[str, Label] = {}
    problems: list[str] = []
    unlabelled = 0
    for line, row in rows:
        name, text = (row["id"] or "").strip(), (row["label"] or "").strip().lower()
        correct = LABELS.get(text)
        if name not in known:
            problems.append(f"{path} line {line}: `id`: {name!r} is no answer of this job")
        elif not text:
            unlabelled += 1
        elif correct is None:
            problems.append(f"{path} line {line}: `label`: {text!r} is neither right nor wrong")
        elif name in found and found[name].correct != correct:
            problems.append(f"{path} line {line}: `id`: {name!r} was labelled otherwise above")
        else:
            found[name] = Label(known[name], correct, (row.get("comment") or "").strip())
    return Labels(list(found.values()), unlabelled, problems)
