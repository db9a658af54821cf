"""Rows over repetitions, worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from harness_coordinator.levels import compare_rows, level_rows


def row(query: str, model: str, repetition: int, joules: float | None, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "query_id": query,
        "model_id": model,
        "hardware": "H200",
        "repetition": repetition,
        "joules": joules,
        "joules_low": None if joules is None else joules * 0.99,
        "joules_high": None if joules is None else joules * 1.01,
        "energy_source": "counter",
        "error": None,
        "correct": True,
    }
    return {**base, **changes}


def test_each_repetition_of_the_job_is_one_measurement_of_a_model() -> None:
    rows = [
        row(q, "m", n, j)
        for n, js in enumerate([(1, 3), (2, 4), (3, 5)])
        for q, j in zip("ab", js, strict=True)
    ]
    (model,) = level_rows(rows, "model")
    # Means per repetition: 2, 3, 4. t(0.975, 2) = 4.3027, s = 1: 3 +- 4.3027 / sqrt(3).
    assert model["queries"] == 2
    assert model["repetitions"] == 3
    assert model["joules_mean"] == pytest.approx(3.0)
    assert model["joules_deviation"] == pytest.approx(1.0)
    assert model["interval_low"] == pytest.approx(3 - 4.302653 / math.sqrt(3), abs=1e-5)
    assert model["instrument_low"] == pytest.approx(2.97)
    queries = level_rows(rows, "query")
    assert [(q["query_id"], q["joules_mean"]) for q in queries] == [
        ("a", pytest.approx(2)),
        ("b", pytest.approx(4)),
    ]


def test_one_repetition_has_no_deviation_and_a_failed_row_no_joules() -> None:
    rows = [row("a", "m", 0, 2.0), row("b", "m", 0, None, error="HTTP 500", correct=None)]
    (model,) = level_rows(rows, "model")
    assert model["joules_deviation"] is None
    assert model["interval_low"] is None
    assert model["failed"] == 1
    assert model["queries"] == 2


def test_a_difference_within_the_uncertainty_is_not_called_one() -> None:
    close = [
        row("a", m, n, j) for m, base in (("x", 10.0), ("y", 10.3)) for n, j in enumerate((base, base + 0.5))
    ]
    (pair,) = compare_rows(close, "model")
    assert not pair["larger_than_uncertainty"]
    apart = [
        row("a", m, n, j) for m, base in (("x", 10.0), ("y", 20.0)) for n, j in enumerate((base, base + 0.1))
    ]
    (pair,) = compare_rows(apart, "model")
    assert pair["larger_than_uncertainty"]
    assert pair["difference_percent"] == pytest.approx(100 * 10 / 10.05)


def test_only_queries_that_all_answered_are_compared() -> None:
    rows = [
        row("easy", "x", 0, 1.0),
        row("easy", "y", 0, 1.0),
        row("hard", "x", 0, 100.0),
        row("hard", "y", 0, None),
    ]
    (pair,) = compare_rows(rows, "model")
    assert pair["shared_queries"] == 1
    assert pair["difference_joules"] == pytest.approx(0.0)


def test_estimates_are_never_compared_with_measurements() -> None:
    rows = [row("a", "x", 0, 1.0), row("a", "y", 0, 2.0, energy_source="estimated")]
    assert compare_rows(rows, "model") == []
