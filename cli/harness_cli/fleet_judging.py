"""A model of the fleet judges a job's answers: its prompts are a job like any other, with joules of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from harness_analysis.evaluation.judge_client import Answered, Undecided
from harness_analysis.evaluation.judge_settings import JudgeSettings
from harness_analysis.evaluation.judging import AnswerToJudge, prompts_of, verdict_of_replies
from harness_analysis.evaluation.prompts import SCHEMAS, Form, correction_prompt
from harness_analysis.evaluation.replies import UnusableReplyError, parse_reply
from harness_analysis.evaluation.verdicts import without_asking
from harness_coordinator.jobfile import JobFile, JobFileError, parse_job
from harness_coordinator.query_file import QueryRow
from harness_proto.v1 import jobs_pb2
from harness_store.rows import chunks

from harness_cli.connection import jobs_stub
from harness_cli.endpoint_judging import JudgingDone, new_verdict
from harness_cli.failure import Failure, bad_input
from harness_cli.output import significant
from harness_cli.submit import SUBMIT_TIMEOUT_S, submit_messages
from harness_cli.tables import fetch_table
from harness_cli.verdict_desk import VerdictDesk
from harness_cli.watching import watch_job


def judge_by_fleet(
    desk: VerdictDesk,
    settings: JudgeSettings,
    job_id: str,
    method: str,
    answers: Sequence[AnswerToJudge],
    form: Form,
    coordinator: str,
) -> JudgingDone:
    """Submit the prompts as a job, wait for it, and store the verdicts of its replies.

    The same prompts are the same submission: asked again after a kill, the job that is there is waited for.
    """
    done = JudgingDone()
    prompts: dict[str, list[dict[str, str]]] = {}
    for answer in answers:
        if without_asking(answer.response, answer.reference, form) is None:
            for presented, prompt in prompts_of(answer, form).items():
                prompts[_ask_id(answer, presented)] = [{"role": "user", "content": prompt}]
    replies = _run_job(settings, job_id, prompts, coordinator, done, "") if prompts else {}
    again: dict[str, list[dict[str, str]]] = {}
    for ask, text in replies.items():
        if text is not None and (problem := _problem(text, form)):
            again[ask] = [
                *prompts[ask],
                {"role": "assistant", "content": text},
                {"role": "user", "content": correction_prompt(problem)},
            ]
    if again:
        click.echo(f"{method}: {len(again)} replies were no JSON and are asked for once more", err=True)
        replies |= _run_job(settings, job_id, again, coordinator, done, "-again")
    verdicts = []
    for answer in answers:
        verdict = without_asking(answer.response, answer.reference, form)
        if verdict is None:
            orders = prompts_of(answer, form)
            own = {p: _read(replies.get(_ask_id(answer, p)), form) for p in orders}
            verdict = verdict_of_replies(own, form)
        verdicts.append(new_verdict(answer, verdict))
    for chunk in chunks(verdicts):
        done.refused += desk.record(job_id, method, chunk)
    done.judged = len(verdicts)
    return done


def _run_job(
    settings: JudgeSettings,
    job_id: str,
    prompts: Mapping[str, list[dict[str, str]]],
    coordinator: str,
    done: JudgingDone,
    suffix: str,
) -> dict[str, str | None]:
    """Run prompts as a job; return the replies by query id, None for a query that failed."""
    job = _job_file(settings, job_id, suffix)
    rows = [
        QueryRow(ask, messages[-1]["content"], json.dumps(messages), None, "", json.dumps({"judges": job_id}))
        for ask, messages in prompts.items()
    ]
    content = json.dumps([job.model_dump(mode="json"), [(r.query_id, r.messages_json) for r in rows]])
    submission = "judge-" + hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    messages = list(submit_messages(job, rows, wait_for_agents=False))
    messages[0].submission_id = submission
    with jobs_stub(coordinator) as stub:
        judge_job = stub.Submit(iter(messages), timeout=SUBMIT_TIMEOUT_S).job_id
    click.echo(f"{settings.name} judges in job {judge_job}", err=True)
    try:
        summary = watch_job(coordinator, judge_job).summary
    except Failure as error:
        click.echo(f"note: {error.format_message()}", err=True)
        with jobs_stub(coordinator) as stub:
            summary = stub.GetJob(jobs_pb2.JobRequest(job_id=judge_job), timeout=SUBMIT_TIMEOUT_S).summary
    table = fetch_table(
        database_url=None,
        coordinator=coordinator,
        read=lambda store: store.results(judge_job).to_arrow(),
        ask=lambda stub: stub.Results(jobs_pb2.TableRequest(job_id=judge_job), timeout=SUBMIT_TIMEOUT_S),
    )
    results: list[dict[str, Any]] = table.to_pylist()
    joules = f"{significant(summary.joules)} J" if summary.HasField("joules") else "joules not known"
    costs = [row["cost"] for row in results if row["cost"] is not None]
    cost = f", {sum(costs):.6f} in the unit of its price" if costs else ""
    done.new_asks += len(rows)
    done.notes.append(
        f"Judging took {joules}{cost} in queries of job {judge_job}; none of it is part of job {job_id}"
        f" (harness job show {judge_job})."
    )
    return {row["query_id"]: None if row["error"] else row["response"] for row in results}


def _job_file(settings: JudgeSettings, job_id: str, suffix: str) -> JobFile:
    fleet = settings.fleet
    assert fleet is not None  # noqa: S101 - the caller chose by it
    data: dict[str, Any] = {
        "name": f"judge-{settings.name}-of-{job_id}{suffix}",
        "dataset": {"path": "judge-prompts"},
        "models": [fleet.model],
        "hardware": fleet.hardware,
        "energy": fleet.energy,
        "concurrency": fleet.concurrency,
        "sampling": {"temperature": settings.temperature, "max_output_tokens": settings.max_output_tokens},
    }
    if fleet.baseline_s is not None:
        data["baseline_s"] = fleet.baseline_s
    try:
        return parse_job(data, origin=f"judge {settings.name}: `fleet`")
    except JobFileError as error:
        raise bad_input(str(error)) from None


def _ask_id(answer: AnswerToJudge, presented: str) -> str:
    return f"{answer.task_id}.{answer.attempt}.{presented or 'once'}"


def _problem(text: str, form: Form) -> str:
    try:
        parse_reply(text, SCHEMAS[form])
    except UnusableReplyError as error:
        return str(error)
    return ""


def _read(text: str | None, form: Form) -> Answered[Any] | Undecided:
    if text is None:
        return Undecided("the judge's job gave no reply to this prompt")
    try:
        return Answered(parse_reply(text, SCHEMAS[form]), 1, 0.0)
    except UnusableReplyError as error:
        return Undecided(f"no usable reply after asking twice: {error}")
