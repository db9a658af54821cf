"""`harness dataset label`: domains for queries, by a judge or by a classifier that learned from labelled rows."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness_cli.connection import coordinator_option, database_option
from harness_cli.dataset_access import DatasetAccess, open_datasets
from harness_cli.dataset_deriving import (
    Derived,
    cache_option,
    embedding,
    free_name,
    model_option,
    store_derived,
)
from harness_cli.failure import bad_input, work_failed
from harness_cli.finite_range import FiniteRange
from harness_cli.judge_options import budget_option, judges_option
from harness_cli.outcome_options import plain_failures
from harness_cli.output import format_option, print_rows
from harness_cli.row_progress import row_progress

if TYPE_CHECKING:
    import pyarrow as pa
    from harness_analysis.evaluation.judge_settings import JudgeSettings
    from harness_analysis.evaluation.query_asks import Asked
    from harness_analysis.evaluation.replies import OccupationReply

MAX_REASONS = 20
"""Reasons of undecided rows that a report shows, the most frequent first."""


@click.command()
@click.argument("name")
@click.option(
    "-o", "--to", "target", metavar="NEW", help="Name of the labelled dataset; default: NAME-labelled."
)
@click.option(
    "--judge", "judge_name", metavar="JUDGE", help="A judge of the judges file sorts by occupation."
)
@judges_option
@budget_option
@click.option("--classifier", is_flag=True, help="Train a classifier on rows that have a domain instead.")
@click.option(
    "--train", "train_name", metavar="OTHER", help="Dataset the classifier learns from; default: NAME."
)
@click.option(
    "--min-confidence",
    type=FiniteRange(0, 1),
    default=0.5,
    show_default=True,
    help="Rows below it keep no domain.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the folds.")
@model_option
@cache_option
@format_option
@coordinator_option
@database_option
def label(
    name: str,
    target: str | None,
    judge_name: str | None,
    judges_file: Path,
    budget_usd: float | None,
    classifier: bool,
    train_name: str | None,
    min_confidence: float,
    seed: int,
    embedding_model: str | None,
    cache: str | None,
    output_format: str,
    coordinator: str,
    database_url: str | None,
) -> None:
    """Make NAME-labelled of NAME, with a domain for each row.

    With --judge all rows are sorted anew into 22 occupations and None. With --classifier rows that have no domain get
    one like those of NAME that have; with --train OTHER all rows get one of OTHER's domains.
    """
    if classifier == (judge_name is not None):
        raise bad_input("label by --judge JUDGE or by --classifier: one of them")
    if not classifier and train_name is not None:
        raise bad_input("--train belongs to --classifier")
    if classifier and budget_usd is not None:
        raise bad_input("--budget belongs to --judge")
    target = target or f"{name}-labelled"
    with plain_failures(), open_datasets(database_url, coordinator) as access:
        from harness_analysis.datasets.deriving import with_domains
        from harness_analysis.datasets.spool import Spool
        from harness_store.dataset_tables import BATCH_ROWS

        with Spool() as spool:
            parent = access.shown(name).dataset
            free_name(access, target, name)
            spool.write(access.batches(name))
            table = spool.table()
            if judge_name is not None:
                domains, report = _by_judge(
                    name, table, judge_name, judges_file, budget_usd, coordinator, database_url
                )
            else:
                with embedding(True, embedding_model, cache or database_url) as cached:
                    assert cached is not None  # noqa: S101 - it is needed
                    domains, report = _by_classifier(
                        access, table, name, train_name, cached.vectors, min_confidence, seed
                    )
            counts = Counter(domain for domain in domains if domain is not None)
            if not counts:
                raise work_failed(
                    f"no row of {name} got a domain; nothing was stored ({_first_reason(report)})"
                )
            report |= {
                "kind": "label",
                "rows": table.num_rows,
                "undecided": domains.count(None),
                "domains": dict(counts.most_common()),
            }
            labelled = with_domains(table, domains)
            store_derived(access, parent, [Derived(target, iter(labelled.to_batches(BATCH_ROWS)), report)])
    if output_format == "json":
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    rows = [{"domain": d, "rows": n, "share": n / table.num_rows} for d, n in counts.most_common()]
    print_rows(rows, output_format)
    if output_format == "table":
        said = f"{target}: {table.num_rows - report['undecided']:,} of {table.num_rows:,} rows have a domain"
        click.echo(f"{said}; {report['undecided']:,} have none")
        for reason, count in list(report.get("reasons", {}).items())[:3]:
            click.echo(f"{count:,} undecided: {reason}")
        if "cross_validated" in report:
            click.echo(_agreement_sentence(report))


def _by_judge(
    name: str,
    table: pa.Table,
    judge_name: str,
    judges_file: Path,
    budget_usd: float | None,
    coordinator: str,
    database_url: str | None,
) -> tuple[list[str | None], dict[str, Any]]:
    from harness_analysis.evaluation.judge_client import Answered
    from harness_analysis.evaluation.prompts import occupation_prompt, question_text
    from harness_analysis.evaluation.replies import OccupationReply

    from harness_cli.fleet_asking import FleetAsker, FleetReplies
    from harness_cli.query_judges import judge_facts, query_judge

    settings = query_judge(judges_file, judge_name, budget_usd)
    columns = (table.column(c).to_pylist() for c in ("text", "messages_json"))
    queries = [question_text(text, messages) for text, messages in zip(*columns, strict=True)]
    made: list[FleetReplies[OccupationReply]] = []
    asked: Asked[OccupationReply]
    if settings.fleet is not None:
        asker = FleetAsker(settings, f"dataset {name}", coordinator)
        asked, replies = asker.ask_each([occupation_prompt(query) for query in queries], OccupationReply)
        made.append(replies)
        for note in replies.notes:
            click.echo(note, err=True)
    else:
        asked = _by_endpoint(settings, queries, budget_usd, coordinator, database_url)
    domains = [r.value.category if isinstance(r, Answered) else None for r in asked.replies]
    report: dict[str, Any] = {
        **judge_facts(settings, made),
        "reasons": dict(list(asked.reasons.items())[:MAX_REASONS]),
    }
    return domains, report


def _by_endpoint(
    settings: JudgeSettings,
    queries: Sequence[str],
    budget_usd: float | None,
    coordinator: str,
    database_url: str | None,
) -> Asked[OccupationReply]:
    from harness_analysis.evaluation.budget import Budget
    from harness_analysis.evaluation.query_asks import ask_occupations

    from harness_cli.query_judges import query_client, spending

    budget = Budget(budget_usd)
    with (
        query_client(settings, budget, coordinator, database_url) as client,
        row_progress(len(queries)) as progress,
    ):
        asked = ask_occupations(
            client,
            queries,
            concurrency=settings.concurrency,
            progress=lambda rows: progress("labelled", rows),
        )
    for note in spending(settings, budget, asked.new_asks):
        click.echo(note, err=True)
    if asked.left:
        # A dataset under a name never changes, so half of it must not take the name.
        raise work_failed(
            f"the budget of {budget_usd:g} USD is spent: {asked.left:,} rows are left and nothing was stored; the"
            " replies are kept, so the same command with a larger --budget goes on"
        )
    return asked


def _by_classifier(
    access: DatasetAccess,
    table: pa.Table,
    name: str,
    train_name: str | None,
    vectors: Callable[[Sequence[str], Sequence[str]], Any],
    min_confidence: float,
    seed: int,
) -> tuple[list[str | None], dict[str, Any]]:
    import pyarrow.compute as pc
    from harness_analysis.datasets.cleaning import prompt_vectors
    from harness_analysis.datasets.domain_classifier import FOLDS, train_domain_classifier
    from harness_analysis.datasets.duplicates import same_prompt_groups
    from harness_analysis.datasets.spool import Spool

    learned_from = train_name or name
    own = learned_from == name
    with Spool() as spool, row_progress() as progress:
        if not own:
            spool.write(access.batches(learned_from))
        source = table if own else spool.table()
        labelled = source.filter(pc.call_function("is_valid", [source.column("domain")]))
        waiting = pc.call_function("is_null", [table.column("domain")]) if own else None
        rows = table.filter(waiting) if waiting is not None else table
        if not rows.num_rows:
            raise bad_input(f"every row of {name} has a domain already; nothing is left to label")
        trained = train_domain_classifier(
            prompt_vectors(labelled, vectors, lambda n: progress("embedding", n)),
            labelled.column("domain").to_pylist(),
            same_prompt_groups(labelled),
            min_confidence=min_confidence,
            seed=seed,
            name=learned_from,
        )
        found = iter(
            trained.domains(prompt_vectors(rows, vectors, lambda n: progress("embedding", n)), min_confidence)
        )
    there = table.column("domain").to_pylist() if own else [None] * table.num_rows
    domains = [domain if domain is not None else next(found) for domain in there]
    agreement = {k: None if math.isnan(v) else v for k, v in asdict(trained.agreement).items()}
    report: dict[str, Any] = {
        "by": "classifier",
        "trained_on": learned_from,
        "trained_rows": trained.rows,
        "classes": len(trained.classes),
        "predicted_rows": rows.num_rows,
        "min_confidence": min_confidence,
        "folds": FOLDS,
        "seed": seed,
        "cross_validated": agreement,
    }
    return domains, report


def _first_reason(report: dict[str, Any]) -> str:
    if report.get("reasons"):
        return f"the first reason: {next(iter(report['reasons']))}"
    return f"none reached --min-confidence {report['min_confidence']:g}"


def _agreement_sentence(report: dict[str, Any]) -> str:
    found = {k: "-" if v is None else f"{v:.3f}" for k, v in report["cross_validated"].items()}
    return (
        f"Held-back rows of {report['trained_on']} ({report['trained_rows']:,} rows, {report['folds']} folds): accuracy"
        f" {found['accuracy']}, Cohen's kappa {found['cohen_kappa']}; {found['decided']} of them reach the confidence,"
        f" of which {found['accuracy_of_decided']} are right"
    )
