"""Seeded, stratified splits that keep duplicates together: what is tested on was not learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from harness_analysis.datasets.duplicates import IntArray
from harness_analysis.errors import DatasetError

STRATA = ("domain", "origin")


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows are in which part, and what was counted."""

    rows: dict[str, IntArray]
    """By part, ordinals in the order of the dataset."""
    report: dict[str, Any]


def split(
    table: pa.Table,
    parts: Mapping[str, float],
    groups: IntArray,
    *,
    by: Sequence[str] = STRATA,
    seed: int = 0,
) -> Split:
    """Divide a dataset into parts whose strata have the same shares, never cutting a group.

    Args:
        table: columns of `harness_store.dataset_tables.ROWS_SCHEMA`.
        parts: rows of each part: shares when all are below 1 (together at most 1), counts otherwise.
        groups: group of each row, shape (n,); rows of one group are on one side.
        by: columns whose combinations are the strata.
        seed: of the order of chance.

    Raises:
        DatasetError: no parts, more rows than there are, or a part without rows.
    """
    targets = _targets(parts, table.num_rows)
    strata, names = _strata(table, by)
    quotas = _quotas(np.bincount(strata[groups], minlength=len(names)), targets)
    part_of = _deal(strata[groups], groups, quotas, list(targets.values()), np.random.default_rng(seed))
    rows = {name: np.flatnonzero(part_of == at) for at, name in enumerate(targets)}
    for name, chosen in rows.items():
        if not len(chosen):
            raise DatasetError(f"the part `{name}` gets no row of {table.num_rows}; ask for more")
    sizes = np.bincount(groups, minlength=len(groups))
    report = {
        "kind": "split",
        "seed": seed,
        "by": list(by),
        "rows_before": table.num_rows,
        "asked": {name: int(count) for name, count in targets.items()},
        "rows": {name: len(chosen) for name, chosen in rows.items()},
        "left_out": int((part_of < 0).sum()),
        "groups_kept_together": int((sizes > 1).sum()),
        "largest_group": int(sizes.max()),
        "strata": [
            {
                "stratum": names[at],
                "rows": int((strata == at).sum()),
                **{name: int((strata[chosen] == at).sum()) for name, chosen in rows.items()},
            }
            for at in range(len(names))
        ],
    }
    return Split(rows, report)


def joined_groups(first: IntArray, second: IntArray) -> IntArray:
    """Return the groups in which rows are together that are together in either, each the ordinal of its first row."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = len(first)
    rows = np.tile(np.arange(count), 2)
    links = np.concatenate([first, second])
    graph = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, links)), (count, count))
    found, labels = connected_components(graph, directed=False)
    least = np.full(found, count, dtype=np.int64)
    np.minimum.at(least, labels, np.arange(count))
    return least[labels]


def _targets(parts: Mapping[str, float], count: int) -> dict[str, int]:
    if not parts:
        raise DatasetError("a split needs parts, for example --part train=0.9 --part test=0.1")
    for name, size in parts.items():
        if not np.isfinite(size) or size <= 0:
            raise DatasetError(f"the part `{name}` needs a share or a number of rows above 0, not {size:g}")
        if size >= 1 and size != int(size):
            raise DatasetError(
                f"the part `{name}`: {size:g} is neither a share below 1 nor a whole number of rows"
            )
    kinds = {size < 1 for size in parts.values()}
    if len(kinds) > 1 and len(parts) > 1:
        raise DatasetError("give all parts as shares below 1, or all as numbers of rows")
    total = sum(parts.values())
    if kinds == {True}:
        if total > 1 + 1e-9:
            raise DatasetError(f"the shares of the parts make {total:g}, more than 1")
        # Largest remainders, so that shares that make 1 leave no row out.
        exact = np.array([size * count for size in parts.values()])
        whole = np.floor(exact + 1e-9).astype(int)
        for at in np.argsort(-(exact - whole), kind="stable")[: round(total * count) - int(whole.sum())]:
            whole[at] += 1
        return dict(zip(parts, whole.tolist(), strict=True))
    if total > count:
        raise DatasetError(f"the parts have {int(total):,} rows together and the dataset has {count:,}")
    return {name: int(size) for name, size in parts.items()}


def _strata(table: pa.Table, by: Sequence[str]) -> tuple[IntArray, list[str]]:
    """Return each row's stratum, shape (n,), and the strata's names."""
    codes = np.zeros(table.num_rows, dtype=np.int64)
    names = [""]
    for column in by:
        encoded = table.column(column).combine_chunks().fill_null("").dictionary_encode()
        values = encoded.dictionary.to_pylist()
        codes = codes * len(values) + encoded.indices.to_numpy(zero_copy_only=False)
        names = [f"{name}, {column} {value or '-'}".lstrip(", ") for name in names for value in values]
    used, compact = np.unique(codes, return_inverse=True)
    return compact.astype(np.int64), [names[at] or "all" for at in used]


def _quotas(available: IntArray, targets: Mapping[str, int]) -> IntArray:
    """Return how many rows of each stratum each part gets, shape (strata, parts): largest remainders, part by part."""
    left = available.astype(np.int64).copy()
    quotas = np.zeros((len(available), len(targets)), dtype=np.int64)
    for at, target in enumerate(targets.values()):
        exact = left * (target / max(1, left.sum()))
        whole = np.minimum(np.floor(exact + 1e-9).astype(np.int64), left)
        short = target - int(whole.sum())
        order = np.argsort(-(exact - whole), kind="stable")
        for stratum in order[left[order] > whole[order]][:short]:
            whole[stratum] += 1
        quotas[:, at] = whole
        left -= whole
    return quotas


def _deal(
    strata: IntArray, groups: IntArray, quotas: IntArray, targets: Sequence[int], chance: np.random.Generator
) -> IntArray:
    """Return the part of each row, -1 for none, shape (n,).

    In each stratum whole groups go first, to the part that lacks the largest share of its quota; single rows fill up.
    """
    count = len(groups)
    sizes = np.bincount(groups, minlength=count)
    shuffled = chance.permutation(count)
    single = shuffled[sizes[groups[shuffled]] == 1]
    heads = np.array([row for row in shuffled if groups[row] == row and sizes[row] > 1], dtype=np.int64)
    heads = heads[np.argsort(-sizes[heads], kind="stable")]
    part_of_group = np.full(count, -1)
    left = quotas.copy()
    everything = sum(targets) == count
    for head in heads:
        mine, size = left[strata[head]], int(sizes[head])
        fits = np.flatnonzero(mine >= size)
        if len(fits):
            at = int(fits[np.argmax(mine[fits] / quotas[strata[head]][fits])])
        elif everything:
            at = int(np.argmax(mine))
        else:
            continue
        part_of_group[head] = at
        mine[at] -= size
    part_of = part_of_group[groups]
    by_stratum = single[np.argsort(strata[single], kind="stable")]
    bounds = np.searchsorted(strata[by_stratum], np.arange(len(quotas) + 1))
    for stratum, quota in enumerate(left):
        at = int(bounds[stratum])
        for part, wanted in enumerate(quota):
            stop = min(at + max(0, int(wanted)), int(bounds[stratum + 1]))
            part_of[by_stratum[at:stop]] = part
            at = stop
    _fill_up(part_of, single, targets)
    return part_of


def _fill_up(part_of: IntArray, single: IntArray, targets: Sequence[int]) -> None:
    """Give parts that groups left short the rows they lack, from whatever stratum has some."""
    spare = single[part_of[single] < 0]
    at = 0
    for part, target in enumerate(targets):
        lacking = max(0, target - int((part_of == part).sum()))
        part_of[spare[at : at + lacking]] = part
        at += lacking
