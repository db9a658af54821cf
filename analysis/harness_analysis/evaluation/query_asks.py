"""Asking a judge about queries, several at a time: their occupations, and which of them are malformed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel

from harness_analysis.datasets.judge import JUDGED_TOGETHER
from harness_analysis.evaluation.budget import BudgetSpentError
from harness_analysis.evaluation.judge_client import Answered, Undecided
from harness_analysis.evaluation.judging import Judge
from harness_analysis.evaluation.prompts import malformed_prompt, occupation_prompt
from harness_analysis.evaluation.replies import MalformedReply, OccupationReply

R = TypeVar("R", bound=BaseModel)

ASKED_TOGETHER = 256
"""Prompts handed to the threads at once: enough to keep them busy, and few to forget when asking must stop."""


@dataclass
class Asked(Generic[R]):
    """Replies in the order of the queries; None where the budget was spent before."""

    replies: list[Answered[R] | Undecided | None]
    new_asks: int = 0

    @property
    def left(self) -> int:
        """Queries that nobody was asked about."""
        return sum(reply is None for reply in self.replies)

    @property
    def reasons(self) -> dict[str, int]:
        """Why there is no usable reply, with how many queries that holds for, the most frequent first."""
        counts: dict[str, int] = {}
        for reply in self.replies:
            if isinstance(reply, Undecided):
                counts[reply.reason] = counts.get(reply.reason, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))


def ask_all(
    judge: Judge,
    prompts: Sequence[str],
    schema: type[R],
    *,
    form: str,
    concurrency: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Asked[R]:
    """Ask each prompt once, however often it is there; stop when the budget is spent.

    Args:
        judge: whom to ask, from several threads.
        prompts: n of them.
        schema: what a reply must fit.
        form: what kind of question it is, for the record.
        concurrency: asks in flight.
        progress: called with the number of prompts done since it was last called.

    Raises:
        JudgeRefusedError: the endpoint does not admit the caller or does not know the model.
    """
    found: dict[str, Answered[R] | Undecided | None] = {}
    waiting = list(dict.fromkeys(prompts))
    counts: dict[str, int] = {}
    for prompt in prompts:
        counts[prompt] = counts.get(prompt, 0) + 1

    def ask(prompt: str) -> Answered[R] | Undecided | None:
        try:
            return judge.ask(prompt, schema, form=form)
        except BudgetSpentError:
            return None

    with ThreadPoolExecutor(concurrency) as pool:
        for at in range(0, len(waiting), ASKED_TOGETHER):
            chunk = waiting[at : at + ASKED_TOGETHER]
            try:
                for prompt, reply in zip(chunk, pool.map(ask, chunk), strict=True):
                    found[prompt] = reply
                    progress(counts[prompt])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            if any(found[prompt] is None for prompt in chunk):
                break
    new_asks = sum(reply.new for reply in found.values() if reply is not None)
    return Asked([found.get(prompt) for prompt in prompts], new_asks)


def ask_occupations(
    judge: Judge,
    queries: Sequence[str],
    *,
    concurrency: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Asked[OccupationReply]:
    """Ask for the occupation of each query; see `ask_all`."""
    prompts = [occupation_prompt(query) for query in queries]
    return ask_all(
        judge, prompts, OccupationReply, form="occupation", concurrency=concurrency, progress=progress
    )


@dataclass
class AskingQueryJudge:
    """A `harness_analysis.datasets.judge.QueryJudge` that asks a judge; a query without a usable reply stays.

    It raises BudgetSpentError once an ask could exceed the budget: half a cleaning is none.
    """

    ask: Callable[[Sequence[str]], Asked[MalformedReply]]
    """Given prompts, returns the replies to them."""
    together: int = JUDGED_TOGETHER
    """Texts to hand over in one call."""
    undecided: dict[str, int] = field(default_factory=dict[str, int])
    """Why queries stay that nobody decided on, with their numbers."""
    new_asks: int = 0

    def __call__(self, prompts: Sequence[str], /) -> Sequence[str | None]:
        """Return for each prompt what is wrong with it, None where nothing is or no usable reply came."""
        asked = self.ask([malformed_prompt(prompt) for prompt in prompts])
        self.new_asks += asked.new_asks
        if asked.left:
            raise BudgetSpentError
        for reason, count in asked.reasons.items():
            self.undecided[reason] = self.undecided.get(reason, 0) + count
        faults = [r.value.fault if isinstance(r, Answered) else "none" for r in asked.replies]
        return [None if fault == "none" else fault for fault in faults]


def endpoint_query_judge(judge: Judge, concurrency: int = 1) -> AskingQueryJudge:
    """Return a judge of queries that asks several at a time; see `ask_all`."""
    return AskingQueryJudge(
        lambda prompts: ask_all(judge, prompts, MalformedReply, form="malformed", concurrency=concurrency)
    )
