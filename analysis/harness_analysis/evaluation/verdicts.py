"""From what judges reply to a verdict on an answer: five levels in both orders, or true and false."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness_analysis.evaluation.prompts import ANSWER_FIRST, REFERENCE_FIRST
from harness_analysis.evaluation.replies import PairwiseReply, TrueFalseReply

LEVELS = {"A>>B": 2, "A>B": 1, "A=B": 0, "B>A": -1, "B>>A": -2}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge found: `correct` is None, with a reason, where nothing was decided."""

    correct: bool | None
    score: float | None = None
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict[str, Any])


def level_of_answer(reply: PairwiseReply, presented: str) -> int:
    """Return how much better the judged answer is than the reference, from -2 to 2."""
    level = LEVELS[reply.verdict]
    return level if presented == ANSWER_FIRST else -level


def pairwise_verdict(levels: Mapping[str, int], undecided: Mapping[str, str]) -> Verdict:
    """Return the verdict of the orders that were asked.

    The score is the mean level of the answer. It is correct where it wins or ties, score >= 0: "equal to or better
    than reference" (profiling paper, appendix D.3). An order without a usable reply leaves all undecided, since
    the other alone would carry its position bias.

    Args:
        levels: of the answer, by order.
        undecided: reasons, by order.
    """
    detail: dict[str, Any] = {"form": "pairwise", "levels": dict(levels)}
    if undecided:
        reason = "; ".join(f"{presented}: {why}" for presented, why in sorted(undecided.items()))
        return Verdict(None, None, reason, detail)
    score = sum(levels.values()) / len(levels)
    return Verdict(score >= 0, score, None, detail)


def true_false_verdict(reply: TrueFalseReply) -> Verdict:
    """Return the verdict of a judgement against a reference."""
    return Verdict(reply.correct, float(reply.correct), None, {"form": "true_false"})


def without_asking(answer: str, reference: str | None, form: str) -> Verdict | None:
    """Return the verdict that needs no judge: nothing to compare with, or nothing said."""
    if reference is None or not reference.strip():
        return Verdict(None, None, "the query has no reference to judge by", {"form": form})
    if not answer.strip():
        return Verdict(False, -2.0 if form == "pairwise" else 0.0, None, {"form": form, "empty_answer": True})
    return None


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How a judge depends on which answer it sees first."""

    both_orders: int
    """Answers that were judged in both orders."""
    disagree: int
    """Of these, where the orders prefer different sides (win, tie and loss are told apart)."""
    first_gains: int
    """Of those that disagree, where whichever stood first came off better."""
    second_gains: int


def position_bias(levels: Iterable[Mapping[str, int]]) -> PositionBias:
    """Return the position bias over answers, each with its levels by order."""
    both = [(one[ANSWER_FIRST], one[REFERENCE_FIRST]) for one in levels if len(one) == 2]
    split = [(first, second) for first, second in both if _sign(first) != _sign(second)]
    first_gains = sum(first > second for first, second in split)
    return PositionBias(len(both), len(split), first_gains, len(split) - first_gains)


def _sign(level: int) -> int:
    return (level > 0) - (level < 0)
