"""A model of the fleet judges a job's answers: its prompts are a job like any other, with joules of its own."""

from __future__ import annotations

from collections.abc import Sequence

from harness_analysis.evaluation.judge_settings import JudgeSettings
from harness_analysis.evaluation.judging import AnswerToJudge, prompts_of, verdict_of_replies
from harness_analysis.evaluation.prompts import SCHEMAS, Form
from harness_analysis.evaluation.verdicts import without_asking
from harness_store.rows import chunks

from harness_cli.endpoint_judging import JudgingDone, new_verdict
from harness_cli.fleet_asking import FleetAsker
from harness_cli.verdict_desk import VerdictDesk


def judge_by_fleet(
    desk: VerdictDesk,
    settings: JudgeSettings,
    job_id: str,
    method: str,
    answers: Sequence[AnswerToJudge],
    form: Form,
    coordinator: str,
) -> JudgingDone:
    """Ask the fleet about all answers at once, and store the verdicts of its replies."""
    prompts: dict[str, str] = {}
    for answer in answers:
        if without_asking(answer.response, answer.reference, form) is None:
            for presented, prompt in prompts_of(answer, form).items():
                prompts[_ask_id(answer, presented)] = prompt
    made = FleetAsker(settings, f"job {job_id}", coordinator).ask(prompts, SCHEMAS[form])
    verdicts = []
    for answer in answers:
        verdict = without_asking(answer.response, answer.reference, form)
        if verdict is None:
            own = {p: made.replies[_ask_id(answer, p)] for p in prompts_of(answer, form)}
            verdict = verdict_of_replies(own, form)
        verdicts.append(new_verdict(answer, verdict))
    done = JudgingDone(judged=len(verdicts), new_asks=len(prompts), notes=made.notes)
    for chunk in chunks(verdicts):
        done.refused += desk.record(job_id, method, chunk)
    return done


def _ask_id(answer: AnswerToJudge, presented: str) -> str:
    return f"{answer.task_id}.{answer.attempt}.{presented or 'once'}"
