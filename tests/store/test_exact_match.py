"""Right or wrong: the cases that answers of real models bring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness_store.verdicts.exact_match import exact_match, last_number, number_of


@pytest.mark.parametrize(
    ("response", "reference", "verdict"),
    [
        ("Paris", "Paris", True),
        ("  the PARIS. ", "Paris", True),
        ("The capital of France is Paris.", "Paris", False),
        ("Let me think.\nThe answer is Paris.", "Paris", True),
        ("Answer: Paris", "paris", True),
        ("\\boxed{Paris}", "Paris", True),
        ("carbon  dioxide", "Carbon-Dioxide", True),
        ("H2O", "H2O", True),
        ("CO2", "H2O", False),
        ("", "Paris", False),
        ("anything", None, None),
        ("anything", "  ", None),
        ("Pacific Ocean", "Pacific | the Pacific Ocean", True),
        ("seven", "7 | seven", True),
        ("7", "7 | seven", True),
        ("8", "7 | seven", False),
        # numbers: the last one, by value
        ("12", "12", True),
        ("7 + 5 = 12.", "12", True),
        ("It is 12.0", "12", True),
        ("That makes $1,234.50 in all", "1234.5", True),
        ("1,234", "1234", True),
        ("about 5%", "5 %", True),
        ("5", "$5", True),
        ("She makes $18.", "18", True),
        ("12 apples, not 13", "12", False),
        ("no idea", "12", False),
        ("-3", "-3", True),
        ("3", "-3", False),
        ("It is −3 degrees", "-3", True),
        ("10-7 = 3", "3", True),
        ("x = 2-5", "5", True),
        ("Step 1: 9 * 2 = 18\n#### 18", "18", True),
        ("#### 18\nI hope that helps 100 %.", "18", True),
        ("so \\boxed{18} after 3 steps", "18", True),
        ("1e3", "1000", True),
        ("0.5", ".5", True),
        ("In 2024 GPT4 said 7", "7", True),
        ("model v2 says GPT4", "4", False),
        ("zero", "0 | zero", True),
        # choices
        ("B", "B", True),
        ("(b)", "B", True),
        ("**B**", "B", True),
        ("B. Paris", "B", True),
        ("B) Paris", "B", True),
        ("The answer is (C).", "C", True),
        ("The correct answer is B: Paris", "B", True),
        ("Option D is right", "D", True),
        ("A dog is an animal", "A", False),
        ("I think so", "I", False),
        ("A", "A", True),
        ("The answer is A.", "A", True),
        ("It is clearly (A) and not anything else", "A", True),
        ("C", "B", False),
        # letters that are no choice
        ("e", "e", True),
        ("E.", "e", True),
        # yes and no
        ("Yes, it does.", "yes", True),
        ("No. Yes would be wrong.", "yes", False),
        ("True", "true", True),
        ("perhaps", "no", False),
    ],
)
def test_an_answer_is_judged_as_a_person_would(
    response: str, reference: str | None, verdict: bool | None
) -> None:
    assert exact_match(response, reference) is verdict


def test_text_is_no_number() -> None:
    assert number_of("H2O") is None
    assert number_of("1,23") is None
    assert number_of("1.2.3") is None
    assert last_number("none here") is None


def test_every_gold_answer_of_gsm8k_matches_its_own_solution(shared_data: Path) -> None:
    solutions = [
        json.loads(line)["answer"]
        for line in (shared_data / "queries" / "gsm8k-test.jsonl").open(encoding="utf-8")
    ]
    golds = [solution.rsplit("####", 1)[1].strip() for solution in solutions]
    assert len(golds) > 1000
    wrong = [gold for solution, gold in zip(solutions, golds, strict=True) if not exact_match(solution, gold)]
    assert wrong == []
    shifted = golds[1:] + golds[:1]
    chance = sum(bool(exact_match(solution, gold)) for solution, gold in zip(solutions, shifted, strict=True))
    assert chance < 0.1 * len(golds)
