"""Does any model answer a query twice: asked once, so that tables need not average what is there once."""

from __future__ import annotations

from typing import Any

MAX_PLACES = 48
"""Models times machines that one exact 64-bit sum can tell apart, with room for 2^15 answers of each query."""
MAX_PATTERNS = 10_000
"""Different sets of (model, hardware) that are looked at; rows with more are taken as repeating."""


def may_repeat(table: Any) -> bool:
    """Return False where every (dataset, query, model, hardware) has one answer at most, for sure.

    Each (model, hardware) is a power of two. A query's sum of them has as many bits set as it has answers exactly where
    no answer's power comes twice. Grouping by query alone is several times cheaper than grouping by all four columns.

    Args:
        table: an Ibis table with the columns of `OUTCOMES_SCHEMA`.
    """
    models, hardware = (_values(table, name) for name in ("model_id", "hardware"))
    if not models or len(models) * len(hardware) > MAX_PLACES:
        return True
    of_model = [(name, 1 << at * len(hardware)) for at, name in enumerate(models)]
    of_hardware = [(name, 1 << at) for at, name in enumerate(hardware)]
    weight = _weights(table.model_id, of_model) * _weights(table.hardware, of_hardware)
    queries = table.mutate(place=weight).group_by(["dataset_id", "query_id"])
    sums = queries.agg(places=lambda t: t.place.sum(), answers=lambda t: t.count())
    patterns = sums.select("places", "answers").distinct().limit(MAX_PATTERNS).to_pyarrow().to_pylist()
    return len(patterns) == MAX_PATTERNS or any(
        int(row["places"]).bit_count() != row["answers"] for row in patterns
    )


def _values(table: Any, name: str) -> list[str]:
    found = table.select(table[name].fill_null("").name("value")).distinct()
    return sorted(found.to_pyarrow().column(0).to_pylist())


def _weights(column: Any, weights: list[tuple[str, int]]) -> Any:
    import ibis

    of = [(name, ibis.literal(weight, "int64")) for name, weight in weights]
    return column.fill_null("").cases(*of, else_=ibis.literal(0, "int64"))
