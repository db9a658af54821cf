"""Intervals from sums alone, so that the engine that holds the rows can compute them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Z_95 = 1.959963984540054


def wilson(share: float, n: float) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share of n; (NaN, NaN) of none."""
    if not n > 0:
        return float("nan"), float("nan")
    centre = (share + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 / (1 + Z_95**2 / n) * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def ratio_moments(top: Any, bottom: Any, prefix: str) -> dict[str, Any]:
    """Return the aggregates that `ratio_of` needs, over rows that know both columns."""
    known = top.notnull() & bottom.notnull()
    return {
        f"{prefix}_n": known.sum(),
        f"{prefix}_top": top.mean(where=known),
        f"{prefix}_bottom": bottom.mean(where=known),
        f"{prefix}_top_top": (top * top).mean(where=known),
        f"{prefix}_bottom_bottom": (bottom * bottom).mean(where=known),
        f"{prefix}_top_bottom": (top * bottom).mean(where=known),
    }


def ratio_of(row: Mapping[str, Any], prefix: str) -> tuple[float, float, float]:
    """Return the ratio of two means with its 95 % interval by the delta method; NaN where it is not known.

    Args:
        row: aggregates that `ratio_moments` named.
        prefix: the same.
    """
    n = row[f"{prefix}_n"] or 0
    top, bottom = row[f"{prefix}_top"], row[f"{prefix}_bottom"]
    if not n or not bottom:
        return float("nan"), float("nan"), float("nan")
    ratio = top / bottom
    variance = (
        row[f"{prefix}_top_top"]
        - top**2
        - 2 * ratio * (row[f"{prefix}_top_bottom"] - top * bottom)
        + ratio**2 * (row[f"{prefix}_bottom_bottom"] - bottom**2)
    )
    half = Z_95 * math.sqrt(max(0.0, variance) / n) / abs(bottom)
    return ratio, ratio - half, ratio + half
