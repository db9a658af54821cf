"""Cleaning as TrafficBench does it (section 3.1, appendix B.1): each step can be left out, and each is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from harness_store.verdicts.exact_match import normalised as normalised_answer
from numpy.typing import NDArray

from harness_analysis.datasets.duplicates import IntArray, prompts, same_prompt_groups
from harness_analysis.datasets.judge import JUDGED_TOGETHER, QueryJudge
from harness_analysis.datasets.language import foreign_language
from harness_analysis.datasets.near_duplicates import DELTA, near_duplicate_groups
from harness_analysis.errors import DatasetError

MAX_CHARACTERS = 32_000
"""The paper's limit on a query."""

STEPS = ("reference", "length", "english", "exact", "near", "judge")
"""In the order they run: what is cheap goes first, so that embeddings and a judge see only what is left."""

MAX_LISTED = 50
"""Rows and conflicts that a report shows of each step; it counts all of them."""

Mask = NDArray[np.bool_]
Progress = Callable[[str, int], None]


class PromptVectors(Protocol):
    """Embeds prompts: `harness_analysis.embedding.CachedEmbedder.vectors`."""

    def __call__(self, texts: Sequence[str], hashes: Sequence[str], /) -> NDArray[np.float32]:
        """Return vectors of unit length, shape (n, d)."""
        ...


@dataclass(frozen=True, slots=True)
class Steps:
    """What `clean` leaves out; a step that is False or None does not run."""

    reference: bool = True
    """Rows without a reference answer."""
    max_characters: int | None = MAX_CHARACTERS
    """Rows whose prompt is longer."""
    english: bool = True
    """Rows in another language."""
    exact: bool = True
    """All but the first of each group with one normalised prompt."""
    near: float | None = DELTA
    """All but the first of each group connected by this cosine or more."""
    judge: QueryJudge | None = None
    """Rows that a judge calls malformed."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The rows that stay, and what was counted."""

    kept: IntArray
    """Their ordinals, rising."""
    report: dict[str, Any]


def clean(
    table: pa.Table,
    steps: Steps,
    vectors: PromptVectors | None = None,
    progress: Progress = lambda _step, _rows: None,
) -> Cleaned:
    """Say which rows of a dataset stay.

    Args:
        table: columns of `harness_store.dataset_tables.ROWS_SCHEMA`.
        steps: which rows go.
        vectors: embeds prompts; needed for near duplicates.
        progress: called with a step's name and the number of rows it has looked at since.

    Raises:
        DatasetError: nothing is left, near duplicates are asked for without embeddings, or the judge failed.
    """
    if steps.near is not None and vectors is None:
        raise DatasetError("near duplicates need an embedding; leave the step out with --skip near")
    kept = np.arange(table.num_rows)
    report: dict[str, Any] = {"kind": "clean", "rows_before": table.num_rows, "steps": []}
    for name, run in _runs(steps, vectors):
        part = table.take(pa.array(kept)) if len(kept) < table.num_rows else table
        found = run(part, lambda rows, step=name: progress(step, rows))
        stays = found.pop("stays")
        ids = part.column("query_id").filter(pa.array(~stays)).slice(0, MAX_LISTED).to_pylist()
        entry = {"step": name, "rows_before": len(kept), "removed": int((~stays).sum()), **found}
        report["steps"].append({**entry, "first_removed": ids})
        kept = kept[stays]
        if not len(kept):
            raise DatasetError(
                f"the step `{name}` leaves no row of {table.num_rows}; leave it out with --skip {name}"
            )
    report["rows_after"] = len(kept)
    return Cleaned(kept, report)


def _runs(steps: Steps, vectors: PromptVectors | None) -> list[tuple[str, Callable[..., dict[str, Any]]]]:
    limit, delta, judge = steps.max_characters, steps.near, steps.judge
    runs: list[tuple[str, Callable[..., dict[str, Any]] | None]] = [
        ("reference", _with_reference if steps.reference else None),
        ("length", None if limit is None else lambda part, on: _not_longer(part, on, limit)),
        ("english", _in_english if steps.english else None),
        ("exact", _first_of_exact if steps.exact else None),
        (
            "near",
            None if delta is None or vectors is None else lambda p, on: _first_of_near(p, on, vectors, delta),
        ),
        ("judge", None if judge is None else lambda part, on: _well_formed(part, on, judge)),
    ]
    return [(name, run) for name, run in runs if run is not None]


def _with_reference(table: pa.Table, progress: Callable[[int], None]) -> dict[str, Any]:
    progress(table.num_rows)
    return {"stays": has_reference(table)}


def _not_longer(table: pa.Table, progress: Callable[[int], None], limit: int) -> dict[str, Any]:
    lengths = prompt_lengths(table)
    progress(table.num_rows)
    return {"stays": lengths <= limit, "max_characters": limit, "longest_characters": int(lengths.max())}


def _in_english(table: pa.Table, progress: Callable[[int], None]) -> dict[str, Any]:
    stays = np.ones(table.num_rows, dtype=bool)
    languages: dict[str, int] = {}
    at = 0
    for batch in table.select(["text", "messages_json"]).to_batches(max_chunksize=1_000):
        for prompt in prompts(batch):
            language = foreign_language(prompt)
            if language is not None:
                stays[at] = False
                languages[language] = languages.get(language, 0) + 1
            at += 1
        progress(batch.num_rows)
    return {"stays": stays, "languages": dict(sorted(languages.items(), key=lambda item: -item[1]))}


def _first_of_exact(table: pa.Table, progress: Callable[[int], None]) -> dict[str, Any]:
    groups = same_prompt_groups(table)
    progress(table.num_rows)
    return {"stays": groups == np.arange(len(groups)), **_groups_report(table, groups)}


def _first_of_near(
    table: pa.Table, progress: Callable[[int], None], vectors: PromptVectors, delta: float
) -> dict[str, Any]:
    groups = near_duplicate_groups(prompt_vectors(table, vectors, progress), delta)
    return {"stays": groups == np.arange(len(groups)), "cosine": delta, **_groups_report(table, groups)}


def _well_formed(table: pa.Table, progress: Callable[[int], None], judge: QueryJudge) -> dict[str, Any]:
    stays = np.ones(table.num_rows, dtype=bool)
    reasons: dict[str, int] = {}
    at = 0
    together = max(1, int(getattr(judge, "together", JUDGED_TOGETHER)))
    texts = table.select(["text", "messages_json"])
    if together > JUDGED_TOGETHER:
        texts = texts.combine_chunks()
    for batch in texts.to_batches(max_chunksize=together):
        verdicts = list(judge(prompts(batch)))
        if len(verdicts) != batch.num_rows:
            raise DatasetError(f"the judge gave {len(verdicts)} verdicts on {batch.num_rows} queries")
        for reason in verdicts:
            if reason is not None:
                stays[at] = False
                reasons[reason] = reasons.get(reason, 0) + 1
            at += 1
        progress(batch.num_rows)
    most = sorted(reasons.items(), key=lambda item: -item[1])[:MAX_LISTED]
    return {"stays": stays, "reasons": dict(most)}


def prompt_vectors(
    table: pa.Table, vectors: PromptVectors, progress: Callable[[int], None] = lambda _: None
) -> NDArray[np.float32]:
    """Return the vectors of all rows' prompts, shape (n, d); texts are in memory some thousand at a time."""
    made: NDArray[np.float32] | None = None
    at = 0
    columns = table.select(["text", "messages_json", "content_hash"])
    for batch in columns.to_batches(max_chunksize=2_000):
        part = vectors(prompts(batch), batch.column("content_hash").to_pylist())
        if made is None:
            made = np.empty((table.num_rows, part.shape[1]), dtype=np.float32)
        made[at : at + batch.num_rows] = part
        at += batch.num_rows
        progress(batch.num_rows)
    return made if made is not None else np.empty((0, 0), dtype=np.float32)


def has_reference(table: pa.Table) -> Mask:
    """Return whether each row has a reference answer that is more than white space, shape (n,)."""
    trimmed = pc.call_function("utf8_trim_whitespace", [table.column("reference").fill_null("")])
    return _characters(trimmed) > 0


def prompt_lengths(table: pa.Table) -> IntArray:
    """Return the characters of each row's prompt, all turns of a conversation included, shape (n,)."""
    lengths = _characters(table.column("text"))
    conversations = np.flatnonzero(table.column("messages_json").is_valid().to_numpy())
    if len(conversations):
        rows = table.select(["text", "messages_json"]).take(pa.array(conversations))
        at = 0
        for batch in rows.to_batches(max_chunksize=2_000):
            lengths[conversations[at : at + batch.num_rows]] = [len(prompt) for prompt in prompts(batch)]
            at += batch.num_rows
    return lengths


def _characters(column: pa.ChunkedArray) -> IntArray:
    return pc.call_function("utf8_length", [column]).to_numpy().astype(np.int64)


def _groups_report(table: pa.Table, groups: IntArray) -> dict[str, Any]:
    """Count groups of duplicates, and list those whose references disagree ("Who routes the router", 4.2)."""
    sizes = np.bincount(groups, minlength=len(groups))
    firsts = np.flatnonzero(sizes > 1)
    members = np.flatnonzero(sizes[groups] > 1)
    rows = table.select(["query_id", "reference"]).take(pa.array(members)).to_pylist()
    by_group: dict[int, list[dict[str, Any]]] = {}
    for ordinal, row in zip(members.tolist(), rows, strict=True):
        by_group.setdefault(int(groups[ordinal]), []).append(row)
    conflicts = []
    for group in by_group.values():
        answers = {normalised_answer(row["reference"]) for row in group if row["reference"]}
        if len(answers) > 1:
            conflicts.append([{"id": row["query_id"], "reference": row["reference"]} for row in group[:10]])
    return {
        "groups": len(firsts),
        "largest_group": int(sizes.max()) if len(firsts) else 0,
        "groups_with_conflicting_references": len(conflicts),
        "conflicts": conflicts[:MAX_LISTED],
    }
