"""A judge behind an endpoint judges a job's answers, several at a time, until done or the budget is spent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from harness_analysis.evaluation.budget import Budget, BudgetSpentError
from harness_analysis.evaluation.judge_client import JudgeClient
from harness_analysis.evaluation.judge_settings import JudgeSettings
from harness_analysis.evaluation.judging import AnswerToJudge, JudgedAnswer, judge_answer
from harness_analysis.evaluation.prompts import Form
from harness_analysis.evaluation.verdicts import Verdict
from harness_store.judging import NewVerdict

from harness_cli.judging_progress import JudgingProgress
from harness_cli.verdict_desk import VerdictDesk

RECORD_EVERY = 50
"""Verdicts stored together; the replies behind them are kept one by one, before they count as paid."""


@dataclass
class JudgingDone:
    """What a judge did."""

    judged: int = 0
    left: int = 0
    new_asks: int = 0
    refused: int = 0
    notes: list[str] = field(default_factory=list[str])


def judge_by_endpoint(
    desk: VerdictDesk,
    settings: JudgeSettings,
    job_id: str,
    method: str,
    answers: Sequence[AnswerToJudge],
    form: Form,
    budget: Budget,
) -> JudgingDone:
    """Judge answers; whatever was judged is stored when this returns or raises.

    Raises:
        JudgeRefusedError: the endpoint does not admit the caller.
        MissingKeyError: the judge's key is not set.
    """
    done = JudgingDone(left=len(answers))
    found: list[NewVerdict] = []

    def store() -> None:
        done.refused += desk.record(job_id, method, found) if found else 0
        found.clear()

    waiting = iter(answers)
    running: dict[Future[JudgedAnswer], AnswerToJudge] = {}
    spent = False
    with (
        JudgeClient(settings, desk, budget) as client,
        JudgingProgress(method, len(answers)) as progress,
        ThreadPoolExecutor(settings.concurrency) as pool,
    ):
        try:
            while True:
                while not spent and len(running) < settings.concurrency:
                    answer = next(waiting, None)
                    if answer is None:
                        break
                    running[pool.submit(judge_answer, client, answer, form)] = answer
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    answer = running.pop(future)
                    try:
                        judged = future.result()
                    except BudgetSpentError:
                        spent = True
                        continue
                    found.append(new_verdict(answer, judged.verdict))
                    done.judged, done.left = done.judged + 1, done.left - 1
                    done.new_asks += judged.new_asks
                    progress.advance(1, f"{budget.spent_usd:.4f} USD" if settings.price else "")
                if len(found) >= RECORD_EVERY:
                    store()
        finally:
            for future in running:
                future.cancel()
            store()
    return done


def new_verdict(answer: AnswerToJudge, verdict: Verdict) -> NewVerdict:
    """Return a verdict as the store takes it."""
    detail = json.dumps(verdict.detail) if verdict.detail else None
    return NewVerdict(answer.task_id, answer.attempt, verdict.correct, verdict.score, verdict.reason, detail)
