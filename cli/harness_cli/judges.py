"""`harness judges`: how far judges agree, a majority of them, references compared, blind samples out and labels in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from harness_analysis.errors import AnalysisError
from harness_analysis.evaluation.agreement import Labels, agreements, krippendorff_alpha, majority
from harness_analysis.evaluation.judge_settings import JUDGE_NAME
from harness_analysis.evaluation.sample import blind_rows, read_labels, write_sample
from harness_store.judging import NewVerdict

from harness_cli.connection import coordinator_option, database_option
from harness_cli.failure import bad_input, work_failed
from harness_cli.output import format_option, print_rows, significant
from harness_cli.output_file import OutputFile
from harness_cli.verdict_desk import verdict_desk

MAJORITY = "majority"
SHOWN_PROBLEMS = 20
Item = tuple[str, int]
of_option = click.option(
    "--of",
    "chosen",
    multiple=True,
    metavar="METHOD",
    help="For example judge:a, human:anna. [default: all of these]",
)
LABELS = {"cohen_kappa": "kappa", "krippendorff_alpha": "alpha", "share_right": "says right"}


@click.group()
def judges() -> None:
    """Agreement of judges, their majority, other references, and people as judges."""


@judges.command(name="agreement")
@click.argument("job", metavar="JOB")
@of_option
@format_option
@coordinator_option
@database_option
def agreement_command(
    job: str, chosen: tuple[str, ...], output_format: str, coordinator: str, database_url: str | None
) -> None:
    """Hold each judge of JOB against the majority of all: Pearson, Cohen's kappa, Krippendorff's alpha, agreement."""
    with verdict_desk(coordinator, database_url) as desk:
        _, labels = _labels(desk.verdicts(job), chosen, job)
    rows = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(a).items()}
        for a in agreements(labels)
    ]
    print_rows(rows, output_format, labels=LABELS)
    if output_format == "table":
        alpha = krippendorff_alpha(list(labels.values()))
        shown = "not defined: nothing varies" if math.isnan(alpha) else significant(alpha)
        click.echo(f"Krippendorff's alpha of all {len(labels)} together: {shown}")
        if len(labels) == 2:
            click.echo("Two judges have no majority; they are held against each other.")


@judges.command(name="majority")
@click.argument("job", metavar="JOB")
@of_option
@click.option("--use", "use_now", is_flag=True, help="Make it the `correct` of the job's results.")
@coordinator_option
@database_option
def majority_command(
    job: str, chosen: tuple[str, ...], use_now: bool, coordinator: str, database_url: str | None
) -> None:
    """Store the majority of the judges of JOB as the verdicts of a method `majority`; a tie is undecided."""
    with verdict_desk(coordinator, database_url) as desk:
        items, labels = _labels(desk.verdicts(job), chosen, job)
        if len(labels) < 3:
            raise bad_input(f"a majority needs three judges; job {job} has {', '.join(labels)}")
        voted = majority(list(labels.values()))
        reason = f"a tie, or nobody decided, among {', '.join(labels)}"
        verdicts = [
            NewVerdict(task, attempt, None, None, reason)
            if math.isnan(label)
            else NewVerdict(task, attempt, bool(label), float(label))
            for (task, attempt), label in zip(items, voted, strict=True)
        ]
        desk.record(job, MAJORITY, verdicts)
        if use_now:
            desk.use(job, MAJORITY)
    undecided = sum(v.correct is None for v in verdicts)
    click.echo(f"{len(verdicts)} verdicts by the majority of {', '.join(labels)}; {undecided} undecided.")


@judges.command(name="references")
@click.argument("job", metavar="JOB")
@click.option(
    "--judge", "name", required=True, metavar="NAME", help="The judge whose references are compared."
)
@format_option
@coordinator_option
@database_option
def references_command(
    job: str, name: str, output_format: str, coordinator: str, database_url: str | None
) -> None:
    """Compare the references that a judge held JOB's answers against: share right by model, coverage by any."""
    with verdict_desk(coordinator, database_url) as desk:
        verdicts = desk.verdicts(job)
    rows = reference_rows(verdicts, name)
    if not rows:
        raise bad_input(f"job {job} has no verdicts by judge {name!r}")
    print_rows(rows, output_format, labels={"difference_pp": "coverage - first, pp"})


@judges.command(name="export")
@click.argument("job", metavar="JOB")
@click.option("-o", "--output", type=OutputFile(), required=True, help="A .csv file.")
@click.option("--count", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@coordinator_option
@database_option
def export_command(
    job: str, output: Path, count: int, seed: int, coordinator: str, database_url: str | None
) -> None:
    """Write a blind sample of JOB's answers for people to label: no model names, in random order."""
    with verdict_desk(coordinator, database_url) as desk:
        desk.job(job)
        answers = desk.answers(job)
    rows = blind_rows(answers, count, seed)
    try:
        write_sample(rows, output)
    except AnalysisError as error:
        raise bad_input(str(error)) from None
    click.echo(f"{len(rows)} of {len(answers)} answers written to {output}; fill in `label`: right or wrong")


@judges.command(name="import")
@click.argument("job", metavar="JOB")
@click.argument("labels_file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Who labelled: the method is human:NAME.")
@coordinator_option
@database_option
def import_command(
    job: str, labels_file: Path, name: str, coordinator: str, database_url: str | None
) -> None:
    """Take a labelled sample back as one more judge of JOB; rows that cannot be used are named."""
    if not JUDGE_NAME.fullmatch(name):
        raise bad_input(f"--name {name!r}: a name is of letters, digits, `.`, `_` and `-`")
    with verdict_desk(coordinator, database_url) as desk:
        desk.job(job)
        try:
            read = read_labels(labels_file, desk.answers(job))
        except AnalysisError as error:
            raise bad_input(str(error)) from None
        verdicts = [
            NewVerdict(
                x.answer.task_id, x.answer.attempt, x.correct, float(x.correct), None, x.comment or None
            )
            for x in read.labels
        ]
        refused = desk.record(job, f"human:{name}", verdicts) if verdicts else 0
    for problem in read.problems[:SHOWN_PROBLEMS]:
        click.echo(problem, err=True)
    click.echo(
        f"{len(verdicts) - refused} labels stored as human:{name}, {read.unlabelled} rows without a label,"
        f" {len(read.problems)} rows that cannot be used."
    )
    if read.problems or refused:
        raise work_failed(f"{len(read.problems) + refused} rows of {labels_file} were not stored")


def reference_rows(verdicts: Sequence[Mapping[str, Any]], judge: str) -> list[dict[str, Any]]:
    """Return per reference the share right of each model, and of the queries that any of them got right.

    Only (query, repetition, model) that every reference decided enter, so that the references are compared on the
    same answers (profiling paper, appendix D.4).
    """
    by_reference: dict[str, dict[tuple[str, int, str], bool]] = {}
    for v in verdicts:
        method, _, reference = v["method"].partition("@")
        if method == f"judge:{judge}" and v["correct"] is not None:
            key = (v["query_id"], v["repetition"], v["model_id"])
            by_reference.setdefault(reference or "the dataset's", {})[key] = v["correct"]
    if not by_reference:
        return []
    shared = set.intersection(*(set(found) for found in by_reference.values()))
    models = sorted({key[2] for key in shared})
    rows: list[dict[str, Any]] = []
    for reference, found in by_reference.items():
        row: dict[str, Any] = {"reference": reference, "answers": len(shared)}
        for model in models:
            own = [found[key] for key in shared if key[2] == model]
            row[model] = sum(own) / len(own)
        queries = {key[0] for key in shared}
        covered = {key[0] for key in shared if found[key]}
        coverage = len(covered) / len(queries) if queries else math.nan
        first = rows[0]["coverage"] if rows else coverage
        row |= {"coverage": coverage, "difference_pp": 100 * (coverage - first)}
        rows.append(row)
    return rows


def _labels(
    verdicts: Sequence[Mapping[str, Any]], chosen: Sequence[str], job: str
) -> tuple[list[Item], dict[str, Labels]]:
    """Return the items any judge saw and each judge's labels of them."""
    there = sorted({v["method"] for v in verdicts})
    for method in chosen:
        if method not in there:
            raise bad_input(
                f"--of {method}: job {job} has no such verdicts (there are: {', '.join(there) or 'none'})"
            )
    methods = list(dict.fromkeys(chosen)) or [
        m for m in there if m.startswith(("judge:", "human:")) and "@" not in m
    ]
    if len(methods) < 2:
        raise bad_input(
            f"job {job} has {len(methods)} judges; agreement needs two or more (harness evaluate --judge)"
        )
    items = sorted({(v["task"], v["attempt"]) for v in verdicts if v["method"] in methods})
    at = {item: i for i, item in enumerate(items)}
    labels = {m: np.full(len(items), np.nan) for m in methods}
    for v in verdicts:
        if v["method"] in labels and v["correct"] is not None:
            labels[v["method"]][at[v["task"], v["attempt"]]] = float(v["correct"])
    return items, labels
