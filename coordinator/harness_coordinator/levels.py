"""Result rows summed up over repetitions: per (query, model, hardware), per (model, hardware), and compared."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from harness_coordinator.energy.repetition import Repetition, compare, summarise, summarise_groups

Row = Mapping[str, Any]

LEVELS = ("row", "query", "model")
COMPARABLE = {"model": "model_id", "hardware": "hardware"}


def level_rows(rows: Sequence[Row], level: str) -> list[dict[str, Any]]:
    """Sum result rows up.

    At level `query` the repetitions of one query are the measurements. At level `model` each repetition of the
    whole job is one: its mean joules per query. So the deviation and its t interval say how well the whole
    measurement repeats, beside the 99 % bounds of the instrument, which repeating does not narrow.

    Args:
        rows: rows of `harness results`; failed ones and those without joules are left out, and counted.
        level: `query` or `model`.
    """
    keys = ("query_id", "model_id", "hardware") if level == "query" else ("model_id", "hardware")
    kept = [r for r in rows if r["joules"] is not None]
    all_rows: dict[tuple[Hashable, ...], list[Row]] = {}
    for row in rows:
        all_rows.setdefault(tuple(row[k] for k in keys), []).append(row)
    summed: list[dict[str, Any]] = []
    for kind in sorted({r["energy_source"] for r in kept}):
        own = [r for r in kept if r["energy_source"] == kind]
        found = _by_repetition(own, keys) if level == "model" else _by_row(own, keys)
        for key, repetition in found.items():
            members = all_rows[key]
            summed.append(
                {
                    **dict(zip(keys, key, strict=True)),
                    "energy_source": kind,
                    "queries": len({r["query_id"] for r in members}),
                    **_described(repetition),
                    "failed": sum(bool(r["error"]) for r in members),
                    "correct": _share(members),
                }
            )
    return summed


def compare_rows(rows: Sequence[Row], by: str) -> list[dict[str, Any]]:
    """Compare mean joules per query between models or hardware, pair by pair.

    Only queries that every compared group answered enter, so that a model is not cheap because its hard queries
    failed. Estimated joules are never compared with measured ones.

    Args:
        rows: rows of `harness results`.
        by: `model` or `hardware`.
    """
    column = COMPARABLE[by]
    kept = [r for r in rows if r["joules"] is not None]
    compared: list[dict[str, Any]] = []
    for estimated in (False, True):
        own = [r for r in kept if (r["energy_source"] == "estimated") == estimated]
        names = sorted({r[column] for r in own})
        shared = (
            set.intersection(*({r["query_id"] for r in own if r[column] == n} for n in names))
            if names
            else set()
        )
        groups = {
            name: _repetitions([r for r in own if r[column] == name and r["query_id"] in shared])
            for name in names
        }
        for pair in compare(groups):
            compared.append(
                {
                    "first": pair.first,
                    "second": pair.second,
                    "energy": "estimated" if estimated else "measured",
                    "shared_queries": len(shared),
                    "first_joules": groups[str(pair.first)].mean,
                    "second_joules": groups[str(pair.second)].mean,
                    "difference_joules": pair.difference,
                    "difference_percent": 100 * pair.relative,
                    "uncertainty_joules": None if math.isinf(pair.uncertainty) else pair.uncertainty,
                    "larger_than_uncertainty": pair.significant,
                }
            )
    return compared


def _by_row(rows: Sequence[Row], keys: Sequence[str]) -> dict[tuple[Hashable, ...], Repetition]:
    return summarise_groups(
        [tuple(r[k] for k in keys) for r in rows],
        *(_column(rows, c) for c in ("joules", "joules_low", "joules_high")),
    )


def _by_repetition(rows: Sequence[Row], keys: Sequence[str]) -> dict[tuple[Hashable, ...], Repetition]:
    found: dict[tuple[Hashable, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[k] for k in keys), []).append(row)
    return {key: _repetitions(own) for key, own in found.items()}


def _repetitions(rows: Sequence[Row]) -> Repetition:
    """Describe mean joules per query, each repetition of the job being one measurement."""
    numbers = sorted({r["repetition"] for r in rows})
    means = {
        column: [float(np.mean(_column([r for r in rows if r["repetition"] == n], column))) for n in numbers]
        for column in ("joules", "joules_low", "joules_high")
    }
    return summarise(means["joules"], means["joules_low"], means["joules_high"])


def _described(repetition: Repetition) -> dict[str, Any]:
    return {
        "repetitions": repetition.count,
        "joules_mean": repetition.mean,
        "joules_deviation": _known(repetition.deviation),
        "interval_low": _known(repetition.interval_low),
        "interval_high": _known(repetition.interval_high),
        "instrument_low": _known(repetition.instrument_low),
        "instrument_high": _known(repetition.instrument_high),
    }


def _share(rows: Sequence[Row]) -> float | None:
    judged = [r["correct"] for r in rows if r["correct"] is not None]
    return sum(judged) / len(judged) if judged else None


def _column(rows: Sequence[Row], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([math.nan if r[name] is None else r[name] for r in rows], np.float64)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
