"""`harness dataset clean` and `split`: new datasets from one that is there."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness_cli.connection import coordinator_option, database_option
from harness_cli.dataset_access import open_datasets
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
    from harness_cli.query_judges import CleaningJudge

STEPS = ("reference", "length", "english", "exact", "near", "judge")


@click.command()
@click.argument("name")
@click.option("--to", "target", metavar="NEW", help="Name of the cleaned dataset; default: NAME-clean.")
@click.option("--skip", multiple=True, type=click.Choice(STEPS[:-1]), help="Leave out this step; repeats.")
@click.option("--max-characters", type=click.IntRange(min=1), default=32_000, show_default=True)
@click.option(
    "--cosine", type=FiniteRange(0.5, 1), default=0.999, show_default=True, help="Of near duplicates."
)
@click.option(
    "--judge",
    metavar="JUDGE",
    help="A judge of the judges file, or MODULE:CALLABLE: given prompts, it returns why each is malformed or None."
    " No such step without it.",
)
@judges_option
@budget_option
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and store nothing.")
@model_option
@cache_option
@format_option
@coordinator_option
@database_option
def clean(
    name: str,
    target: str | None,
    skip: tuple[str, ...],
    max_characters: int,
    cosine: float,
    judge: str | None,
    judges_file: Path,
    budget_usd: float | None,
    dry_run: bool,
    embedding_model: str | None,
    cache: str | None,
    output_format: str,
    coordinator: str,
    database_url: str | None,
) -> None:
    """Make NAME-clean of NAME: rows without a reference, too long, not English, doubled or malformed are left out."""
    target = target or f"{name}-clean"
    if budget_usd is not None and (judge is None or ":" in judge):
        raise bad_input("--budget belongs to --judge with a judge of the judges file")
    with plain_failures(), open_datasets(database_url, coordinator) as access:
        from harness_analysis.datasets.cleaning import Steps
        from harness_analysis.datasets.cleaning import clean as clean_rows
        from harness_analysis.datasets.deriving import chosen_rows
        from harness_analysis.datasets.spool import Spool

        asking = contextlib.ExitStack()
        found = _query_judge(asking, judge, judges_file, budget_usd, coordinator, database_url, name)
        steps = Steps(
            reference="reference" not in skip,
            max_characters=None if "length" in skip else max_characters,
            english="english" not in skip,
            exact="exact" not in skip,
            near=None if "near" in skip else cosine,
            judge=found and found.judge,
        )
        with asking, Spool() as spool:
            parent = access.shown(name).dataset
            if not dry_run:
                free_name(access, target, name)
            spool.write(access.batches(name))
            table = spool.table()
            with (
                row_progress(table.num_rows) as progress,
                embedding(steps.near is not None, embedding_model, cache or database_url) as cached,
            ):
                cleaned = clean_rows(table, steps, cached and cached.vectors, progress)
            if found is not None:
                step = cleaned.report["steps"][-1]
                step |= found.about()
                if step.get("undecided") == step["rows_before"]:
                    for note in found.notes():
                        click.echo(note, err=True)
                    # A dataset under a name never changes: one that nobody judged must not take it.
                    raise work_failed(
                        f"the judge {found.name} decided on none of the rows; nothing was stored"
                    )
            if not dry_run:
                store_derived(
                    access, parent, [Derived(target, chosen_rows(table, cleaned.kept), cleaned.report)]
                )
    counted = [
        {
            "step": step["step"],
            "before": step["rows_before"],
            "removed": step["removed"],
            "groups": step.get("groups"),
            "conflicting": step.get("groups_with_conflicting_references"),
        }
        for step in cleaned.report["steps"]
    ]
    for note in found.notes() if found else ():
        click.echo(note, err=True)
    if output_format == "json":
        click.echo(json.dumps(cleaned.report, indent=2, ensure_ascii=False))
        return
    print_rows(counted, output_format, empty="No step was asked for.")
    if output_format == "table":
        verb = "would keep" if dry_run else "keeps"
        click.echo(f"{target} {verb} {len(cleaned.kept):,} of {table.num_rows:,} rows of {name}")


@click.command()
@click.argument("name")
@click.option(
    "--part",
    "parts",
    multiple=True,
    metavar="PART=SIZE",
    help="Shares below 1 or numbers of rows: train=450000, test=50000. Default: train=0.9, test=0.1.",
)
@click.option(
    "--by",
    type=click.Choice(("domain", "origin")),
    multiple=True,
    help="Strata; repeats. Default: domain and origin.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--cosine", type=FiniteRange(0.5, 1), default=0.999, show_default=True)
@click.option(
    "--exact-only",
    is_flag=True,
    help="Keep only exact duplicates together: needs no embeddings, and near duplicates may be on both sides.",
)
@model_option
@cache_option
@format_option
@coordinator_option
@database_option
def split(
    name: str,
    parts: tuple[str, ...],
    by: tuple[str, ...],
    seed: int,
    cosine: float,
    exact_only: bool,
    embedding_model: str | None,
    cache: str | None,
    output_format: str,
    coordinator: str,
    database_url: str | None,
) -> None:
    """Make NAME/train and NAME/test (or other parts) of NAME, stratified, with duplicates on one side only."""
    sizes = _sizes(parts or ("train=0.9", "test=0.1"))
    with plain_failures(), open_datasets(database_url, coordinator) as access:
        from harness_analysis.datasets.cleaning import prompt_vectors
        from harness_analysis.datasets.deriving import chosen_rows
        from harness_analysis.datasets.duplicates import same_prompt_groups
        from harness_analysis.datasets.near_duplicates import near_duplicate_groups
        from harness_analysis.datasets.splitting import STRATA, joined_groups
        from harness_analysis.datasets.splitting import split as split_rows
        from harness_analysis.datasets.spool import Spool

        with Spool() as spool:
            parent = access.shown(name).dataset
            for part in sizes:
                free_name(access, f"{name}/{part}", name)
            spool.write(access.batches(name))
            table = spool.table()
            groups = same_prompt_groups(table)
            with (
                row_progress(table.num_rows) as progress,
                embedding(not exact_only, embedding_model, cache or database_url) as cached,
            ):
                if cached is not None:
                    vectors = prompt_vectors(table, cached.vectors, lambda rows: progress("embedding", rows))
                    near = near_duplicate_groups(vectors, cosine, lambda rows: progress("comparing", rows))
                    groups = joined_groups(groups, near)
            done = split_rows(table, sizes, groups, by=by or STRATA, seed=seed)
            report = {**done.report, "cosine": None if exact_only else cosine}
            made = [
                Derived(f"{name}/{part}", chosen_rows(table, rows), {**report, "part": part})
                for part, rows in done.rows.items()
            ]
            store_derived(access, parent, made)
    if output_format == "json":
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    print_rows(
        [
            {"dataset": f"{name}/{part}", "rows": len(rows), "asked": report["asked"][part]}
            for part, rows in done.rows.items()
        ],
        output_format,
    )
    if output_format == "table":
        click.echo(
            f"{len(report['strata'])} strata by {' and '.join(report['by'])}; {report['groups_kept_together']:,}"
            f" groups of duplicates kept together; {report['left_out']:,} rows left out"
        )


def _query_judge(
    stack: contextlib.ExitStack,
    name: str | None,
    judges_file: Path,
    budget_usd: float | None,
    coordinator: str,
    database_url: str | None,
    dataset: str,
) -> CleaningJudge | None:
    """Open the judge that `--judge` names, to be closed with the stack; None where none is named."""
    if name is None:
        return None
    from harness_cli.query_judges import CleaningJudge, cleaning_judge

    if ":" in name:
        from harness_analysis.datasets.judge import load_judge

        return CleaningJudge(name, load_judge(name))
    return stack.enter_context(
        cleaning_judge(name, judges_file, budget_usd, coordinator, database_url, dataset)
    )


def _sizes(parts: tuple[str, ...]) -> dict[str, float]:
    sizes: dict[str, float] = {}
    for text in parts:
        part, _, size = text.partition("=")
        try:
            value = float(size.replace(",", "").replace("_", ""))
        except ValueError:
            raise bad_input(f"--part takes PART=SIZE such as test=0.1 or test=50000, not {text!r}") from None
        if not part or part in sizes:
            raise bad_input(f"--part {text}: each part needs a name of its own")
        sizes[part] = value
    return sizes
