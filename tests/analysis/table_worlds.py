"""Rows that reach every corner of the descriptive tables, and the tables, for engines to be compared on."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from harness_analysis import descriptive
from harness_analysis.outcomes import Outcomes

MODELS = {"qwen3-4b": 4.0, "qwen3-8b": 8.0, "gpt-oss-8b": 8.0, "qwen3-235b": 235.0}


def world_rows(queries: int = 120, repetitions: int = 1) -> pa.Table:
    """Return answers of four models, two of one size, on two machines, at two precisions, some of them incomplete."""
    random = np.random.default_rng(0)
    rows = []
    for q in range(queries):
        for model, size_b in MODELS.items():
            for machine in ("H200", "M4"):
                for _ in range(repetitions):
                    joules = size_b * random.uniform(5, 15)
                    rows.append(
                        {
                            "dataset_id": f"set-{q % 2}",
                            "query_id": f"q{q}",
                            "query": f"question {q}",
                            "domain": ("law", "maths", "cooking")[q % 3],
                            "model_id": model,
                            "params_b": size_b,
                            "precision": "FP16" if machine == "H200" else "fp8",
                            "hardware": machine,
                            "energy_kind": "measured" if machine == "H200" else "estimated",
                            "correct": None
                            if (q, model) == (3, "qwen3-4b")
                            else float(random.random() < 0.3 + size_b / 500),
                            "joules": math.nan if q == 5 else joules,
                            "joules_low": 0.9 * joules,
                            "joules_high": 1.1 * joules,
                            "total_s": 0.0 if q == 7 else random.uniform(0.5, 4),
                            "cost": size_b * 1e-6,
                        }
                    )
    return pa.Table.from_pylist(rows)


def all_tables() -> dict[str, Callable[[Outcomes], pa.Table]]:
    """Return every descriptive table that an engine computes, by name."""
    return {
        "solvability": descriptive.solvability,
        "solvability by domain": lambda o: descriptive.solvability(o, "domain"),
        "coverage": descriptive.joint_coverage,
        "coverage by dataset": lambda o: descriptive.joint_coverage(o, "dataset_id"),
        "efficiency": descriptive.efficiency,
        "savings": lambda o: descriptive.savings_by_size(o.select(hardware=["H200"])),
        "precision": descriptive.precision_comparison,
        "pool": lambda o: descriptive.pool_table(o)[0],
    }


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    """Compare two tables row by row: texts and counts exactly, other numbers to 1e-9."""
    assert found.column_names == expected.column_names
    assert found.num_rows == expected.num_rows > 0
    for ours, theirs in zip(found.to_pylist(), expected.to_pylist(), strict=True):
        for name, value in theirs.items():
            if isinstance(value, float) and ours[name] is not None:
                assert math.isclose(ours[name], value, rel_tol=1e-9, abs_tol=1e-12) or (
                    math.isnan(value) and math.isnan(ours[name])
                ), (name, ours, theirs)
            else:
                assert ours[name] == value, (name, ours, theirs)
