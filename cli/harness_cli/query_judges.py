"""Judges that are asked about queries: chosen from the judges file, with a cache where the datasets are."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness_analysis.datasets.judge import QueryJudge
from harness_analysis.evaluation.budget import Budget, BudgetSpentError
from harness_analysis.evaluation.chat_endpoint import JudgeRefusedError
from harness_analysis.evaluation.judge_client import JudgeClient, MissingKeyError
from harness_analysis.evaluation.judge_settings import JudgeSettings
from harness_analysis.evaluation.query_asks import Asked, AskingQueryJudge, endpoint_query_judge
from harness_analysis.evaluation.replies import MalformedReply

from harness_cli.evaluate import chosen_judges
from harness_cli.failure import unreachable, work_failed
from harness_cli.fleet_asking import FleetAsker, FleetReplies
from harness_cli.verdict_desk import verdict_desk

MAX_REASONS = 20
"""Reasons of undecided rows that a report shows."""


def query_judge(path: Path, name: str, budget_usd: float | None) -> JudgeSettings:
    """Return a judge of the judges file.

    Raises:
        Failure: there is no such judge, or the budget cannot be kept.
    """
    (settings,) = chosen_judges(path, [name], budget_usd)
    return settings


@contextlib.contextmanager
def query_client(
    settings: JudgeSettings, budget: Budget, coordinator: str, database_url: str | None
) -> Iterator[JudgeClient]:
    """Open a judge whose replies are kept in the database, or by the coordinator.

    Raises:
        Failure: the endpoint or the cache cannot be reached, or does not admit the caller.
    """
    with verdict_desk(coordinator, database_url) as desk:
        try:
            with JudgeClient(settings, desk, budget) as client:
                yield client
        except (JudgeRefusedError, MissingKeyError) as error:
            raise unreachable(str(error)) from None


@dataclass
class CleaningJudge:
    """Who calls queries malformed, and what a report and a reader should know of it."""

    name: str
    judge: QueryJudge
    settings: JudgeSettings | None = None
    """Of a judge of the judges file."""
    budget: Budget = field(default_factory=Budget)
    made: list[FleetReplies[Any]] = field(default_factory=list[FleetReplies[Any]])
    """What a model of the fleet did."""

    def about(self) -> dict[str, Any]:
        """Return what the report of the step adds."""
        if not isinstance(self.judge, AskingQueryJudge) or self.settings is None:
            return {"by": self.name}
        return {
            **judge_facts(self.settings, self.made),
            "undecided": sum(self.judge.undecided.values()),
            "undecided_reasons": dict(list(self.judge.undecided.items())[:MAX_REASONS]),
        }

    def notes(self) -> list[str]:
        """Return what asking cost, and how many queries stay because nobody decided on them."""
        if not isinstance(self.judge, AskingQueryJudge) or self.settings is None:
            return []
        notes = [note for made in self.made for note in made.notes]
        if self.settings.fleet is None:
            notes += spending(self.settings, self.budget, self.judge.new_asks)
        if self.judge.undecided:
            count, first = sum(self.judge.undecided.values()), next(iter(self.judge.undecided))
            notes.append(f"{count:,} rows stay undecided and are kept; the first reason: {first}")
        return notes


@contextlib.contextmanager
def cleaning_judge(
    name: str, path: Path, budget_usd: float | None, coordinator: str, database_url: str | None, dataset: str
) -> Iterator[CleaningJudge]:
    """Open a judge of the judges file for cleaning a dataset.

    Raises:
        Failure: as for `query_client`, and once the budget is spent.
    """
    settings = query_judge(path, name, budget_usd)
    if settings.fleet is not None:
        # A bar of the cleaning is on the terminal already.
        asker = FleetAsker(settings, f"dataset {dataset}", coordinator, lines=True)
        made: list[FleetReplies[Any]] = []

        def ask(prompts: Sequence[str]) -> Asked[MalformedReply]:
            asked, replies = asker.ask_each(prompts, MalformedReply)
            made.append(replies)
            return asked

        # One job for all of them: each would load the model anew.
        yield CleaningJudge(name, AskingQueryJudge(ask, together=sys.maxsize), settings, made=made)
        return
    budget = Budget(budget_usd)
    with query_client(settings, budget, coordinator, database_url) as client:
        try:
            yield CleaningJudge(name, endpoint_query_judge(client, settings.concurrency), settings, budget)
        except BudgetSpentError:
            raise work_failed(
                f"the budget of {budget_usd:g} USD is spent before all rows were judged; nothing was stored, the"
                " replies are kept, so the same command with a larger --budget goes on"
            ) from None


def judge_facts(settings: JudgeSettings, made: Sequence[FleetReplies[Any]]) -> dict[str, Any]:
    """Return who judged, for a report: an endpoint's model, or a model of the fleet and the jobs it judged in."""
    by = {"by": f"judge:{settings.name}"}
    if settings.fleet is None:
        return {**by, "model": settings.model}
    jobs = [job for replies in made for job in replies.jobs]
    return {**by, "model": settings.fleet.model.get("id"), "judging_jobs": jobs}


def spending(settings: JudgeSettings, budget: Budget, new_asks: int) -> list[str]:
    """Return what asking cost, in sentences."""
    notes = [f"judge:{settings.name}: {new_asks:,} asks were sent now."]
    if settings.price:
        notes.append(f"Spent now: {budget.spent_usd:.6f} USD.")
    if budget.uncertain_usd:
        notes.append(f"At most {budget.uncertain_usd:.6f} USD more for asks whose reply or usage never came.")
    return notes
