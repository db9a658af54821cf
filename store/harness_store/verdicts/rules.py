"""The rule methods by name: what needs no judge, and so is judged when an answer arrives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness_store.verdicts.exact_match import exact_match
from harness_store.verdicts.multiple_choice import multiple_choice
from harness_store.verdicts.numeric import numeric

RULES: Mapping[str, Callable[..., bool | None]] = {
    "exact_match": exact_match,
    "multiple_choice": multiple_choice,
    "numeric": numeric,
}
RULE_OPTIONS: Mapping[str, frozenset[str]] = {
    "exact_match": frozenset(),
    "multiple_choice": frozenset(),
    "numeric": frozenset({"relative_tolerance", "absolute_tolerance"}),
}


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """What a rule says of an answer; `correct` is None with a reason where it cannot tell."""

    correct: bool | None
    reason: str | None = None

    @property
    def score(self) -> float | None:
        """1 for right, 0 for wrong."""
        return None if self.correct is None else float(self.correct)


def judge_by_rule(
    method: str, response: str, reference: str | None, options: Mapping[str, Any]
) -> RuleVerdict:
    """Judge an answer by a rule of `RULES`; options that the rule does not know are left out."""
    known = RULE_OPTIONS[method]
    kept = {name: value for name, value in options.items() if name in known and value is not None}
    correct = RULES[method](response, reference, **kept)
    if correct is not None:
        return RuleVerdict(correct)
    if reference is None or not reference.strip():
        return RuleVerdict(None, "the query has no reference to judge by")
    return RuleVerdict(None, f"the reference is not one that {method} can judge by")


def rule_options(options_json: str | None) -> dict[str, Any]:
    """Return a job's options of its method."""
    found = json.loads(options_json) if options_json else {}
    return found if isinstance(found, dict) else {}
