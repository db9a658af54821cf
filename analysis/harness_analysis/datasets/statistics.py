"""What a dataset holds: rows by domain, origin, split and turns, with lengths, references and duplicates."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from harness_analysis.datasets.cleaning import has_reference, prompt_lengths
from harness_analysis.datasets.duplicates import IntArray, same_prompt_groups

GROUPINGS = ("all", "origin", "domain", "split", "turns")


def dataset_statistics(table: pa.Table) -> list[dict[str, Any]]:
    """Return one row for all queries, and one for each origin, domain, split and number of turns.

    Lengths are characters of the whole prompt, turns those of the user; a duplicate is a row whose normalised prompt
    an earlier row of the dataset has.

    Args:
        table: columns of `harness_store.dataset_tables.ROWS_SCHEMA`, at least one row.
    """
    lengths = prompt_lengths(table)
    with_reference = has_reference(table)
    duplicate = same_prompt_groups(table) != np.arange(table.num_rows)
    rows: list[dict[str, Any]] = []
    for grouping in GROUPINGS:
        codes, names = _codes(table, grouping)
        order = np.argsort(codes, kind="stable")
        for code, chosen in enumerate(np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)):
            rows.append(
                {
                    "of": grouping,
                    "value": names[code],
                    "rows": len(chosen),
                    "share": len(chosen) / table.num_rows,
                    "with_reference": float(with_reference[chosen].mean()),
                    "duplicates": int(duplicate[chosen].sum()),
                    "characters_median": float(np.median(lengths[chosen])),
                    "characters_p95": float(np.percentile(lengths[chosen], 95)),
                    "characters_max": int(lengths[chosen].max()),
                }
            )
    ranks = {grouping: at for at, grouping in enumerate(GROUPINGS)}
    return sorted(rows, key=lambda row: (ranks[row["of"]], -row["rows"], str(row["value"])))


def user_turns(table: pa.Table) -> IntArray:
    """Return how often the user speaks in each row, shape (n,)."""
    turns = np.ones(table.num_rows, dtype=np.int64)
    messages = table.column("messages_json")
    rows = np.flatnonzero(messages.is_valid().to_numpy())
    for row in rows:
        spoken = json.loads(messages[int(row)].as_py())
        turns[row] = sum(message["role"] == "user" for message in spoken)
    return turns


def _codes(table: pa.Table, grouping: str) -> tuple[IntArray, list[str]]:
    if grouping == "all":
        return np.zeros(table.num_rows, dtype=np.int64), ["all"]
    if grouping == "turns":
        values, codes = np.unique(user_turns(table), return_inverse=True)
        return codes, [str(value) for value in values]
    texts = _splits(table) if grouping == "split" else table.column(grouping).fill_null("-").to_numpy()
    values, codes = np.unique(texts.astype(object), return_inverse=True)
    return codes, [str(value) for value in values]


def _splits(table: pa.Table) -> Any:
    """Return what each row's own file called its split, a dash where it said nothing."""
    extra = table.column("extra_json")
    if extra.null_count == table.num_rows:
        return np.full(table.num_rows, "-", dtype=object)
    found = [
        json.loads(text).get("split") if text else None
        for chunk in extra.chunks
        for text in chunk.to_pylist()
    ]
    return np.array([str(value) if value is not None else "-" for value in found], dtype=object)
