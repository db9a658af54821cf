"""A model of the fleet is asked for objects: its prompts are a job like any other, with joules of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import click
from harness_analysis.evaluation.judge_client import Answered, Undecided
from harness_analysis.evaluation.judge_settings import JudgeSettings
from harness_analysis.evaluation.prompts import correction_prompt
from harness_analysis.evaluation.query_asks import Asked
from harness_analysis.evaluation.replies import UnusableReplyError, parse_reply
from harness_coordinator.jobfile import JobFile, JobFileError, parse_job
from harness_coordinator.query_file import QueryRow
from harness_proto.v1 import jobs_pb2
from pydantic import BaseModel

from harness_cli.connection import jobs_stub
from harness_cli.failure import Failure, bad_input
from harness_cli.output import significant
from harness_cli.submit import SUBMIT_TIMEOUT_S, submit_messages
from harness_cli.tables import fetch_table
from harness_cli.watching import watch_job

R = TypeVar("R", bound=BaseModel)
Messages = list[dict[str, str]]


@dataclass
class FleetReplies(Generic[R]):
    """What a model of the fleet replied, by the id of each ask, and which jobs that took."""

    replies: dict[str, Answered[R] | Undecided]
    jobs: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    """What it took, in sentences."""


class FleetAsker:
    """Asks a judge of the judges file that is a model of the fleet.

    The same prompts are the same submission: asked again after a kill, the job that is there is waited for.
    """

    def __init__(
        self, settings: JudgeSettings, judged: str, coordinator: str, *, lines: bool = False
    ) -> None:
        """Prepare to ask.

        Args:
            settings: the judge's.
            judged: what it judges, in the job's name and in sentences: `job 7k2m9q4x1ab`, `dataset wild`.
            coordinator: its address.
            lines: show progress as plain lines, for callers that show a bar themselves.
        """
        self._settings = settings
        self._judged = judged
        self._coordinator = coordinator
        self._lines = lines

    def ask(self, prompts: Mapping[str, str], schema: type[R]) -> FleetReplies[R]:
        """Ask each prompt; a reply that is no such object is answered once with what was wrong.

        Args:
            prompts: by an id of the caller's.
            schema: a pydantic model that the replies must fit.

        Raises:
            Failure: the coordinator cannot be reached, or does not take the job.
        """
        made: FleetReplies[R] = FleetReplies({})
        if not prompts:
            return made
        first: dict[str, Messages] = {
            ask: [{"role": "user", "content": prompt}] for ask, prompt in prompts.items()
        }
        texts = self._run_job(first, "", made)
        again: dict[str, Messages] = {}
        for ask, text in texts.items():
            if text is not None and (problem := _problem(text, schema)):
                again[ask] = [
                    *first[ask],
                    {"role": "assistant", "content": text},
                    {"role": "user", "content": correction_prompt(problem)},
                ]
        if again:
            said = f"{len(again)} replies were no JSON and are asked for once more"
            click.echo(f"judge:{self._settings.name}: {said}", err=True)
            texts |= self._run_job(again, "-again", made)
        made.replies = {ask: _read(texts.get(ask), schema) for ask in prompts}
        return made

    def ask_each(self, prompts: Sequence[str], schema: type[R]) -> tuple[Asked[R], FleetReplies[R]]:
        """Ask each prompt once, however often it is there; return the replies in the order of the prompts."""
        ids = {prompt: f"q{number}" for number, prompt in enumerate(dict.fromkeys(prompts), start=1)}
        made = self.ask({ask: prompt for prompt, ask in ids.items()}, schema)
        return Asked([made.replies[ids[prompt]] for prompt in prompts], len(ids)), made

    def _run_job(
        self, prompts: Mapping[str, Messages], suffix: str, made: FleetReplies[Any]
    ) -> dict[str, str | None]:
        """Run prompts as a job; return the replies by query id, None for a query that failed."""
        job = self._job_file(suffix)
        judges = json.dumps({"judges": self._judged.removeprefix("job ")})
        rows = [
            QueryRow(ask, messages[-1]["content"], json.dumps(messages), None, "", judges)
            for ask, messages in prompts.items()
        ]
        content = json.dumps([job.model_dump(mode="json"), [(r.query_id, r.messages_json) for r in rows]])
        submission = "judge-" + hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        messages = list(submit_messages(job, rows, wait_for_agents=False))
        messages[0].submission_id = submission
        with jobs_stub(self._coordinator) as stub:
            judge_job = stub.Submit(iter(messages), timeout=SUBMIT_TIMEOUT_S).job_id
        made.jobs.append(judge_job)
        click.echo(f"{self._settings.name} judges in job {judge_job}", err=True)
        try:
            summary = watch_job(self._coordinator, judge_job, lines=self._lines).summary
        except Failure as error:
            again = f"`harness job retry {judge_job}` asks those again; then repeat this command"
            click.echo(f"note: {error.format_message()}; {again}", err=True)
            with jobs_stub(self._coordinator) as stub:
                request = jobs_pb2.JobRequest(job_id=judge_job)
                summary = stub.GetJob(request, timeout=SUBMIT_TIMEOUT_S).summary
        table = fetch_table(
            database_url=None,
            coordinator=self._coordinator,
            read=lambda store: store.results(judge_job).to_arrow(),
            ask=lambda stub: stub.Results(jobs_pb2.TableRequest(job_id=judge_job), timeout=SUBMIT_TIMEOUT_S),
        )
        results: list[dict[str, Any]] = table.to_pylist()
        joules = (
            f"{significant(summary.joules)} J {summary.joules_kind}"
            if summary.HasField("joules")
            else "joules not known"
        )
        costs = [row["cost"] for row in results if row["cost"] is not None]
        cost = f", {sum(costs):.6f} in the unit of its price" if costs else ""
        made.notes.append(
            f"Judging took {joules}{cost} in queries of job {judge_job}; none of it is part of {self._judged}"
            f" (harness job show {judge_job})."
        )
        return {row["query_id"]: None if row["error"] else row["response"] for row in results}

    def _job_file(self, suffix: str) -> JobFile:
        settings, fleet = self._settings, self._settings.fleet
        assert fleet is not None  # noqa: S101 - the caller chose by it
        judged = self._judged.removeprefix("job ").replace(" ", "-")
        data: dict[str, Any] = {
            "name": f"judge-{settings.name}-of-{judged}{suffix}",
            "dataset": {"path": "judge-prompts"},
            "models": [fleet.model],
            "hardware": fleet.hardware,
            "energy": fleet.energy,
            "concurrency": fleet.concurrency,
            "sampling": {
                "temperature": settings.temperature,
                "max_output_tokens": settings.max_output_tokens,
            },
        }
        if fleet.baseline_s is not None:
            data["baseline_s"] = fleet.baseline_s
        try:
            return parse_job(data, origin=f"judge {settings.name}: `fleet`")
        except JobFileError as error:
            raise bad_input(str(error)) from None


def _problem(text: str, schema: type[BaseModel]) -> str:
    try:
        parse_reply(text, schema)
    except UnusableReplyError as error:
        return str(error)
    return ""


def _read(text: str | None, schema: type[R]) -> Answered[R] | Undecided:
    if text is None:
        return Undecided("the judge's job gave no reply to this prompt")
    try:
        return Answered(parse_reply(text, schema), 1, 0.0)
    except UnusableReplyError as error:
        return Undecided(f"no usable reply after asking twice: {error}")
