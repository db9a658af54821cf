"""Judges that are asked about queries: chosen from the judges file, with a cache where the datasets are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness_analysis.datasets.judge import QueryJudge
from harness_analysis.evaluation.budget import Budget, BudgetSpentError
from harness_analysis.evaluation.chat_endpoint import JudgeRefusedError
from harness_analysis.evaluation.judge_client import JudgeClient, MissingKeyError
from harness_analysis.evaluation.judge_settings import JudgeSettings
from harness_analysis.evaluation.query_asks import EndpointQueryJudge

from harness_cli.evaluate import chosen_judges
from harness_cli.failure import bad_input, unreachable, work_failed
from harness_cli.verdict_desk import verdict_desk

MAX_REASONS = 20
"""Reasons of undecided rows that a report shows."""


def endpoint_judge(path: Path, name: str, budget_usd: float | None) -> JudgeSettings:
    """Return a judge of the judges file that is an endpoint.

    Raises:
        Failure: there is no such judge, it is a model of the fleet, or the budget cannot be kept.
    """
    (settings,) = chosen_judges(path, [name], budget_usd)
    if settings.fleet is not None:
        raise bad_input(
            f"{path}: judge {name} is a model of the fleet; queries are judged by endpoints, so give a `base_url`"
        )
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
    """Of a judge behind an endpoint."""
    budget: Budget = field(default_factory=Budget)

    def about(self) -> dict[str, Any]:
        """Return what the report of the step adds."""
        if not isinstance(self.judge, EndpointQueryJudge) or self.settings is None:
            return {"by": self.name}
        return {
            "by": f"judge:{self.name}",
            "model": self.settings.model,
            "undecided": sum(self.judge.undecided.values()),
            "undecided_reasons": dict(list(self.judge.undecided.items())[:MAX_REASONS]),
        }

    def notes(self) -> list[str]:
        """Return what asking cost, and how many queries stay because nobody decided on them."""
        if not isinstance(self.judge, EndpointQueryJudge) or self.settings is None:
            return []
        notes = spending(self.settings, self.budget, self.judge.new_asks)
        if self.judge.undecided:
            count, first = sum(self.judge.undecided.values()), next(iter(self.judge.undecided))
            notes.append(f"{count:,} rows stay undecided and are kept; the first reason: {first}")
        return notes


@contextlib.contextmanager
def cleaning_judge(
    name: str, path: Path, budget_usd: float | None, coordinator: str, database_url: str | None
) -> Iterator[CleaningJudge]:
    """Open a judge of the judges file for cleaning.

    Raises:
        Failure: as for `query_client`, and once the budget is spent.
    """
    settings = endpoint_judge(path, name, budget_usd)
    budget = Budget(budget_usd)
    with query_client(settings, budget, coordinator, database_url) as client:
        judge = EndpointQueryJudge(client, settings.concurrency)
        try:
            yield CleaningJudge(name, judge, settings, budget)
        except BudgetSpentError:
            raise work_failed(
                f"the budget of {budget_usd:g} USD is spent before all rows were judged; nothing was stored, the"
                " replies are kept, so the same command with a larger --budget goes on"
            ) from None


def spending(settings: JudgeSettings, budget: Budget, new_asks: int) -> list[str]:
    """Return what asking cost, in sentences."""
    notes = [f"judge:{settings.name}: {new_asks:,} asks were sent now."]
    if settings.price:
        notes.append(f"Spent now: {budget.spent_usd:.6f} USD.")
    if budget.uncertain_usd:
        notes.append(f"At most {budget.uncertain_usd:.6f} USD more for asks whose reply or usage never came.")
    return notes
