"""Multiple choice and numeric answers."""

from __future__ import annotations

import pytest
from harness_store.verdicts.multiple_choice import multiple_choice
from harness_store.verdicts.numeric import numeric
from harness_store.verdicts.rules import judge_by_rule


@pytest.mark.parametrize(
    ("response", "reference", "correct"),
    [
        ("B", "B", True),
        ("The answer is (B).", "B", True),
        ("B. Paris", "b", None),
        ("Paris.", "B. Paris", True),
        ("paris", "B) Paris", True),
        ("The answer is C", "B. Paris", False),
        ("I cannot tell", "B", False),
        ("", "B", False),
        ("A", "A | B", True),
        ("B", "Paris", None),
        ("B", "", None),
        ("B", None, None),
    ],
)
def test_multiple_choice(response: str, reference: str | None, correct: bool | None) -> None:
    assert multiple_choice(response, reference) is correct


@pytest.mark.parametrize(
    ("response", "reference", "relative", "absolute", "correct"),
    [
        ("It is 3.14", "3.14159", 0.0, 0.0, False),
        ("It is 3.14", "3.14159", 0.001, 0.0, True),
        ("It is 3.14", "3.14159", 0.0, 0.01, True),
        ("-5", "5", 0.5, 0.0, False),
        ("1.05", "1", 0.05, 0.0, True),
        ("1.0500001", "1", 0.05, 0.0, False),
        ("first 7, then \\boxed{1,234}", "1234", 0.0, 0.0, True),
        ("about 300000 m/s", "3e5 m/s", 0.0, 0.0, True),
        ("no idea", "3", 1.0, 1.0, False),
        ("3", "three", 0.0, 0.0, None),
        ("3", None, 0.0, 0.0, None),
        ("4", "3 | 4", 0.0, 0.0, True),
    ],
)
def test_numeric(
    response: str, reference: str | None, relative: float, absolute: float, correct: bool | None
) -> None:
    found = numeric(response, reference, relative_tolerance=relative, absolute_tolerance=absolute)
    assert found is correct


def test_what_cannot_be_judged_has_a_reason() -> None:
    assert judge_by_rule("numeric", "3", " ", {}).reason == "the query has no reference to judge by"
    assert judge_by_rule("multiple_choice", "B", "Paris", {}).reason is not None
    assert judge_by_rule("numeric", "3.1", "3", {"absolute_tolerance": 0.2, "form": "x"}).score == 1.0
