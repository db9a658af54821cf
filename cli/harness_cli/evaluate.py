"""`harness evaluate`: judge a job's answers after they came, and say what came out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import click
from harness_analysis.errors import AnalysisError
from harness_analysis.evaluation.budget import Budget
from harness_analysis.evaluation.judge_settings import JudgeSettings, load_judges
from harness_analysis.evaluation.judging import AnswerToJudge
from harness_analysis.evaluation.prompts import FORMS, Form
from harness_analysis.evaluation.sandbox import NoSandboxError, run_code, sandbox_report
from harness_store.judging import JudgedJob, NewVerdict
from harness_store.rows import chunks
from harness_store.verdicts.rules import RULE_OPTIONS, RULES, judge_by_rule, rule_options

from harness_cli.connection import coordinator_option, database_option
from harness_cli.endpoint_judging import judge_by_endpoint
from harness_cli.failure import bad_input, unreachable, work_failed
from harness_cli.finite_range import FiniteRange
from harness_cli.fleet_judging import judge_by_fleet
from harness_cli.judge_options import budget_option, judges_option
from harness_cli.judging_progress import JudgingProgress
from harness_cli.output import format_option, print_rows
from harness_cli.verdict_desk import VerdictDesk, verdict_desk
from harness_cli.verdict_summary import SUMMARY_COLUMNS, SUMMARY_LABELS, counted_rows, summary_rows

CODE, JUDGE = "code", "judge"
RECORD_EVERY = 5_000


@click.command()
@click.argument("job", metavar="JOB")
@click.option(
    "--method",
    type=click.Choice((*RULES, CODE, JUDGE)),
    help="Default: the job file's method, or `judge` where --judge is given. `code` runs what models wrote, here.",
)
@click.option(
    "--judge", "names", multiple=True, metavar="NAME", help="A judge of the judges file; repeatable."
)
@judges_option
@click.option(
    "--form", type=click.Choice(FORMS), help="What judges are asked. [default: the job's, else pairwise]"
)
@click.option(
    "--reference-model", metavar="MODEL", help="Judge against this model's answers in the same job."
)
@budget_option
@click.option(
    "--limit", type=click.IntRange(min=1), help="Judge at most so many answers that have no verdict yet."
)
@click.option("--use", "use_now", is_flag=True, help="Make the verdicts the `correct` of the job's results.")
@click.option("--relative-tolerance", type=FiniteRange(0, 1), help="Of `numeric`, as a share.")
@click.option("--absolute-tolerance", type=FiniteRange(min=0), help="Of `numeric`.")
@format_option
@coordinator_option
@database_option
def evaluate(
    job: str,
    method: str | None,
    names: tuple[str, ...],
    judges_file: Path,
    form: Form | None,
    reference_model: str | None,
    budget_usd: float | None,
    limit: int | None,
    use_now: bool,
    relative_tolerance: float | None,
    absolute_tolerance: float | None,
    output_format: str,
    coordinator: str,
    database_url: str | None,
) -> None:
    """Judge the answers of JOB; interrupted or repeated, it goes on where it was and pays for nothing twice."""
    with verdict_desk(coordinator, database_url) as desk:
        known = desk.job(job)
        method = method or (JUDGE if names else _method_of_job(known))
        judges = chosen_judges(judges_file, names, budget_usd) if method == JUDGE else []
        if method != JUDGE and (names or reference_model or budget_usd is not None):
            raise bad_input(f"--judge, --reference-model and --budget belong to --method judge, not {method}")
        answers = desk.answers(job)
        if known.state not in {"done", "failed", "cancelled"}:
            click.echo(
                f"note: job {job} is {known.state}: {known.answered} of {known.tasks} answers can be judged now",
                err=True,
            )
        options = rule_options(known.options_json)
        if method != JUDGE:
            given = {"relative_tolerance": relative_tolerance, "absolute_tolerance": absolute_tolerance}
            options |= {k: v for k, v in given.items() if v is not None}
            if not RULE_OPTIONS.get(method) and any(v is not None for v in given.values()):
                raise bad_input(f"a tolerance belongs to --method numeric, not {method}")
            chosen = _chosen(desk, job, method, answers, limit)
            _by_code(desk, job, chosen) if method == CODE else _by_rule(desk, job, method, chosen, options)
            methods, left, notes = [method], 0, []
        else:
            asked = form or cast("Form", options.get("form") or "pairwise")
            if reference_model:
                answers = against_model(answers, reference_model)
            methods, left, notes = _by_judges(
                desk, job, judges, answers, asked, reference_model, budget_usd, limit, coordinator
            )
        if use_now or (method == JUDGE and known.official == JUDGE and not left and len(methods) == 1):
            if len(methods) != 1:
                raise bad_input("--use takes one judge; make a majority first: harness judges majority JOB")
            count = desk.use(job, methods[0])
            click.echo(f"{count} verdicts by {methods[0]} are now the `correct` of job {job}.", err=True)
        rows = (
            summary_rows(desk.verdicts(job), methods)
            if method == JUDGE
            else counted_rows(desk.counts(job, method))
        )
    print_rows(
        rows,
        output_format,
        columns=SUMMARY_COLUMNS,
        labels=SUMMARY_LABELS,
        empty="Nothing was judged.",
        fold=True,
    )
    for note in notes:
        click.echo(note, err=True)
    if left:
        raise work_failed(
            f"the budget of {budget_usd:g} USD is spent: {left} answers are left;"
            " run the same command with a larger --budget to go on"
        )


def against_model(answers: Sequence[AnswerToJudge], model_id: str) -> list[AnswerToJudge]:
    """Return the other models' answers with one model's answers as their references (paper, appendix D.4).

    Raises:
        Failure: the job has no answers of that model.
    """
    theirs: dict[str, str] = {}
    for answer in answers:
        if answer.model_id == model_id:
            theirs.setdefault(answer.query_id, answer.response)
    if not theirs:
        models = ", ".join(sorted({a.model_id for a in answers})) or "none"
        raise bad_input(f"--reference-model: the job has no answers of {model_id!r} (there are: {models})")
    return [
        dataclasses.replace(a, reference=theirs.get(a.query_id)) for a in answers if a.model_id != model_id
    ]


def _method_of_job(job: JudgedJob) -> str:
    base = job.official.partition(":")[0]
    if base == "none":
        raise bad_input(
            f"job {job.job_id} names no method; choose one: --method {'|'.join((*RULES, CODE, JUDGE))}"
        )
    if base not in {*RULES, JUDGE}:
        raise bad_input(f"job {job.job_id} uses {job.official}; say what to judge by: --method or --judge")
    return base


def chosen_judges(path: Path, names: Sequence[str], budget_usd: float | None) -> list[JudgeSettings]:
    """Return judges of a judges file by name, its only one where none is named.

    Raises:
        Failure: no such file or judge, none chosen of several, or a budget that cannot be kept.
    """
    try:
        known = load_judges(path)
    except AnalysisError as error:
        raise bad_input(str(error)) from None
    for name in names:
        if name not in known:
            raise bad_input(f"{path}: there is no judge {name!r}; there are {', '.join(known)}")
    if not names and len(known) > 1:
        raise bad_input(f"{path}: choose with --judge NAME from {', '.join(known)}")
    chosen = [known[name] for name in dict.fromkeys(names or known)]
    for judge in chosen:
        if budget_usd is not None and judge.fleet is None and judge.price is None:
            raise bad_input(f"{path}: judge {judge.name} has no `price`, so --budget cannot be kept")
        if budget_usd is not None and judge.fleet is not None:
            raise bad_input(
                f"{path}: judge {judge.name} is a model of the fleet; --budget caps endpoints only"
            )
    return chosen


def _chosen(
    desk: VerdictDesk, job: str, method: str, answers: Sequence[AnswerToJudge], limit: int | None
) -> list[AnswerToJudge]:
    """Return what is judged: all, or the first `limit` that no verdict was reached on."""
    if limit is None:
        return list(answers)
    decided = {
        (v["task"], v["attempt"])
        for v in desk.verdicts(job)
        if v["method"] == method and v["correct"] is not None
    }
    return [a for a in answers if (a.task_id, a.attempt) not in decided][:limit]


def _by_rule(
    desk: VerdictDesk, job: str, method: str, answers: Sequence[AnswerToJudge], options: dict[str, Any]
) -> None:
    with JudgingProgress(method, len(answers)) as progress:
        for chunk in chunks(answers, RECORD_EVERY):
            found = [(a, judge_by_rule(method, a.response, a.reference, options)) for a in chunk]
            desk.record(
                job,
                method,
                [NewVerdict(a.task_id, a.attempt, v.correct, v.score, v.reason) for a, v in found],
            )
            progress.advance(len(chunk))


def _by_code(desk: VerdictDesk, job: str, answers: Sequence[AnswerToJudge]) -> None:
    try:
        report = sandbox_report()
    except NoSandboxError as error:
        raise unreachable(str(error)) from None
    click.echo(f"sandbox: {report.sentence}", err=True)

    def judge(answer: AnswerToJudge) -> NewVerdict:
        if not (answer.reference or "").strip():
            reason = "the query has no tests in its reference"
            return NewVerdict(answer.task_id, answer.attempt, None, None, reason)
        ran = run_code(answer.response, answer.reference or "")
        detail = json.dumps({"why": ran.reason, "network": report.network}) if ran.reason else None
        return NewVerdict(answer.task_id, answer.attempt, ran.passed, float(ran.passed), None, detail)

    with JudgingProgress(CODE, len(answers)) as progress, ThreadPoolExecutor(2) as pool:
        for chunk in chunks(answers, 20):
            desk.record(job, CODE, list(pool.map(judge, chunk)))
            progress.advance(len(chunk))


def _by_judges(
    desk: VerdictDesk,
    job: str,
    judges: Sequence[JudgeSettings],
    answers: Sequence[AnswerToJudge],
    form: Form,
    reference_model: str | None,
    budget_usd: float | None,
    limit: int | None,
    coordinator: str,
) -> tuple[list[str], int, list[str]]:
    budget = Budget(budget_usd)
    methods: list[str] = []
    notes: list[str] = []
    left = 0
    for judge in judges:
        method = f"judge:{judge.name}" + (f"@{reference_model}" if reference_model else "")
        methods.append(method)
        chosen = _chosen(desk, job, method, answers, limit)
        if judge.fleet is not None:
            done = judge_by_fleet(desk, judge, job, method, chosen, form, coordinator)
        else:
            try:
                done = judge_by_endpoint(desk, judge, job, method, chosen, form, budget)
            except AnalysisError as error:
                raise unreachable(str(error)) from None
            notes.append(f"{method}: {done.new_asks} asks were sent now.")
        left += done.left
        notes += done.notes
        if done.refused:
            notes.append(f"{method}: {done.refused} verdicts were refused: their attempts no longer count.")
    if any(judge.price for judge in judges):
        notes.append(f"Spent now: {budget.spent_usd:.6f} USD.")
    if budget.uncertain_usd:
        notes.append(f"At most {budget.uncertain_usd:.6f} USD more for asks whose reply or usage never came.")
    return methods, left, notes
