"""Judging one answer with a judge: which prompts it takes, and the verdict of their replies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

from pydantic import BaseModel

from harness_analysis.evaluation.judge_client import Answered, Undecided
from harness_analysis.evaluation.prompts import (
    ANSWER_FIRST,
    REFERENCE_FIRST,
    SCHEMAS,
    Form,
    pairwise_prompt,
    question_text,
    true_false_prompt,
)
from harness_analysis.evaluation.replies import PairwiseReply, TrueFalseReply
from harness_analysis.evaluation.verdicts import (
    Verdict,
    level_of_answer,
    pairwise_verdict,
    true_false_verdict,
    without_asking,
)

R = TypeVar("R", bound=BaseModel)


class Judge(Protocol):
    """Whoever can be asked for an object."""

    def ask(
        self, prompt: str, schema: type[R], *, form: str = "", presented: str = ""
    ) -> Answered[R] | Undecided:
        """Return the object, or why there is none."""
        ...


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """A verdict and what it took."""

    verdict: Verdict
    new_asks: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class AnswerToJudge:
    """One answer, with what is known of its query."""

    task_id: str
    attempt: int
    query_id: str
    model_id: str
    query: str
    messages_json: str | None
    reference: str | None
    response: str
    repetition: int = field(default=0)


def prompts_of(answer: AnswerToJudge, form: Form) -> dict[str, str]:
    """Return the prompts that judge an answer, by the order of presentation (empty where there is one)."""
    question = question_text(answer.query, answer.messages_json)
    reference = answer.reference or ""
    if form == "true_false":
        return {"": true_false_prompt(question, answer.response, reference)}
    return {
        presented: pairwise_prompt(question, answer.response, reference, presented)
        for presented in (ANSWER_FIRST, REFERENCE_FIRST)
    }


def judge_answer(judge: Judge, answer: AnswerToJudge, form: Form) -> JudgedAnswer:
    """Judge an answer; whatever the judge does, there is one verdict or a reason."""
    known = without_asking(answer.response, answer.reference, form)
    if known is not None:
        return JudgedAnswer(known)
    replies: dict[str, Answered[Any] | Undecided] = {}
    for presented, prompt in prompts_of(answer, form).items():
        replies[presented] = judge.ask(prompt, SCHEMAS[form], form=form, presented=presented)
    verdict = verdict_of_replies(replies, form)
    return JudgedAnswer(
        verdict, sum(r.new for r in replies.values()), sum(r.cost_usd for r in replies.values())
    )


def verdict_of_replies(replies: dict[str, Answered[Any] | Undecided], form: Form) -> Verdict:
    """Return the verdict of the replies to an answer's prompts."""
    undecided = {presented: r.reason for presented, r in replies.items() if isinstance(r, Undecided)}
    values = {presented: r.value for presented, r in replies.items() if isinstance(r, Answered)}
    if form == "pairwise":
        levels = {p: level_of_answer(cast("PairwiseReply", v), p) for p, v in values.items()}
        return pairwise_verdict(levels, undecided)
    if undecided:
        return Verdict(None, None, "; ".join(undecided.values()), {"form": form})
    return true_false_verdict(cast("TrueFalseReply", values[""]))
