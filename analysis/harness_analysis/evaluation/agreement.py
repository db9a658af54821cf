"""How far judges agree: majority vote, Pearson's r, Cohen's kappa, Krippendorff's alpha."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.float64]
"""One label an item: 1 right, 0 wrong, NaN undecided."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One judge held against another, or against the majority (profiling paper, table 13)."""

    judge: str
    against: str
    items: int
    """Items that both decided."""
    pearson: float
    cohen_kappa: float
    krippendorff_alpha: float
    agreement: float
    """Share of the items with the same label."""
    share_right: float
    """Share of its decided items that the judge calls right."""


def majority(labels: Sequence[Labels]) -> Labels:
    """Return the label that more judges gave, item by item; NaN for a tie and where nobody decided."""
    votes = np.vstack(labels)
    right, wrong = (votes == 1).sum(axis=0), (votes == 0).sum(axis=0)
    return np.where(right == wrong, np.nan, (right > wrong).astype(np.float64))


def pearson(a: Labels, b: Labels) -> float:
    """Return Pearson's r of two labellings over the items both decided; NaN where one of them does not vary."""
    a, b = _both(a, b)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    da, db = a - a.mean(), b - b.mean()
    return float((da * db).sum() / math.sqrt((da**2).sum() * (db**2).sum()))


def cohen_kappa(a: Labels, b: Labels) -> float:
    """Return Cohen's kappa, (p_o - p_e) / (1 - p_e) (Cohen 1960); NaN where chance alone explains everything."""
    a, b = _both(a, b)
    if len(a) == 0:
        return math.nan
    observed = float((a == b).mean())
    expected = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return math.nan if expected == 1 else (observed - expected) / (1 - expected)


def krippendorff_alpha(labels: Sequence[Labels]) -> float:
    """Return Krippendorff's alpha for nominal labels and any number of judges, who need not decide every item.

    1 - D_o / D_e from the coincidence matrix: each item with m >= 2 labels adds every ordered pair of them with weight
    1 / (m - 1) (Krippendorff 2011, Computing Krippendorff's alpha-reliability, section C). NaN where labels do
    not vary.
    """
    votes = np.vstack(labels)
    right, wrong = (votes == 1).sum(axis=0).astype(np.float64), (votes == 0).sum(axis=0).astype(np.float64)
    count = right + wrong
    paired = count >= 2
    right, wrong, count = right[paired], wrong[paired], count[paired]
    total = float(count.sum())
    if total == 0:
        return math.nan
    disagreeing = float((2 * right * wrong / (count - 1)).sum())
    n_right, n_wrong = float(right.sum()), float(wrong.sum())
    expected = 2 * n_right * n_wrong / (total - 1)
    return math.nan if expected == 0 else 1 - disagreeing / expected


def agreement(judge: str, a: Labels, against: str, b: Labels) -> Agreement:
    """Hold one labelling against another."""
    both_a, both_b = _both(a, b)
    decided = a[~np.isnan(a)]
    return Agreement(
        judge=judge,
        against=against,
        items=len(both_a),
        pearson=pearson(a, b),
        cohen_kappa=cohen_kappa(a, b),
        krippendorff_alpha=krippendorff_alpha([a, b]),
        agreement=float((both_a == both_b).mean()) if len(both_a) else math.nan,
        share_right=float(decided.mean()) if len(decided) else math.nan,
    )


def agreements(labels: Mapping[str, Labels]) -> list[Agreement]:
    """Hold each judge against the majority of all; two judges have none, and are held against each other."""
    names = list(labels)
    if len(names) < 3:
        return [
            agreement(one, labels[one], other, labels[other])
            for i, one in enumerate(names)
            for other in names[i + 1 :]
        ]
    voted = majority(list(labels.values()))
    return [agreement(name, labels[name], "majority", voted) for name in names]


def _both(a: Labels, b: Labels) -> tuple[Labels, Labels]:
    decided = ~np.isnan(a) & ~np.isnan(b)
    return a[decided], b[decided]
