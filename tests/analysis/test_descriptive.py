"""What outcomes say, against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from harness_analysis import descriptive
from harness_analysis.descriptive.intervals import wilson
from harness_analysis.errors import OutcomesError, RoutingError
from harness_analysis.metrics.model_pool import jaccard_similarity
from harness_analysis.outcomes import Outcomes, open_outcomes

from tests.analysis.routing_worlds import topic_world
from tests.analysis.table_worlds import world_rows

# query: who solves it of models of 4, 14 and 235 billion parameters
SOLVED = {"a": (1, 1, 1), "b": (0, 1, 1), "c": (0, 0, 1), "d": (0, 0, 0)}
SIZES = {"small": 4.0, "middle": 14.0, "cloud": 235.0}
JOULES = {"small": 100.0, "middle": 200.0, "cloud": 1_000.0}


def outcomes(**changes: object) -> Outcomes:
    rows = [
        {
            "query_id": query,
            "domain": "law" if query in "ab" else "maths",
            "model_id": model,
            "params_b": SIZES[model],
            "correct": float(verdict),
            "joules": JOULES[model],
            "joules_low": 0.9 * JOULES[model],
            "joules_high": 1.1 * JOULES[model],
            "total_s": 2.0,
            "energy_kind": "measured",
            "hardware": "H200",
            **changes,
        }
        for query, verdicts in SOLVED.items()
        for model, verdict in zip(SIZES, verdicts, strict=True)
    ]
    return Outcomes.from_arrow(pa.Table.from_pylist(rows))


def test_solvability_and_joint_coverage_by_hand() -> None:
    table = descriptive.solvability(outcomes()).to_pylist()
    assert [(r["model_id"], r["solved"], r["queries"]) for r in table] == [
        ("small", 0.25, 4),
        ("middle", 0.5, 4),
        ("cloud", 0.75, 4),
    ]
    assert all(r["low"] < r["solved"] < r["high"] for r in table)
    covered = descriptive.joint_coverage(outcomes()).to_pylist()
    assert [(r["up_to_params_b"], r["covered"]) for r in covered] == [(4, 0.25), (14, 0.5), (235, 0.75)]
    by = {
        (r["domain"], r["up_to_params_b"]): r["covered"]
        for r in descriptive.joint_coverage(outcomes(), "domain").to_pylist()
    }
    assert by["law", 4] == 0.5
    assert by["law", 14] == 1.0
    assert by["maths", 14] == 0.0
    assert by["maths", 235] == 0.5


def test_wilson_by_hand() -> None:
    # 8 of 10: Newcombe (1998) gives 0.4902 to 0.9433.
    assert wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)
    assert wilson(0.0, 20)[0] == 0.0
    assert math.isnan(wilson(0.0, 0)[0])


def test_intelligence_per_joule_and_watt_by_hand() -> None:
    table = {r["model_id"]: r for r in descriptive.efficiency(outcomes()).to_pylist()}
    small = table["small"]
    assert (small["accuracy"], small["mean_joules"], small["mean_watts"]) == (0.25, 100.0, 50.0)
    assert small["per_joule"] == pytest.approx(0.0025)
    assert small["per_watt"] == pytest.approx(0.005)
    # Joules do not vary: the interval is the accuracy's, 1.96 sqrt(0.25 x 0.75 / 4) / 100 to each side.
    assert small["per_joule_high"] - small["per_joule"] == pytest.approx(
        1.96 * math.sqrt(0.1875 / 4) / 100, rel=1e-4
    )
    assert small["per_joule_instrument_low"] == pytest.approx(0.25 / 110)
    assert small["per_joule_instrument_high"] == pytest.approx(0.25 / 90)


def test_the_ratio_interval_agrees_with_the_bootstrap() -> None:
    from harness_analysis.metrics.bootstrap import statistic_interval

    random = np.random.default_rng(0)
    correct = (random.random(2_000) < 0.6).astype(float)
    joules = random.gamma(2, 50, 2_000) * (1.3 - 0.5 * correct)
    rows = {
        "query_id": [str(i) for i in range(2_000)],
        "model_id": ["m"] * 2_000,
        "correct": correct,
        "joules": joules,
    }
    (row,) = descriptive.efficiency(Outcomes.from_arrow(pa.table(rows))).to_pylist()
    resampled = statistic_interval(np.column_stack([correct, joules]), lambda mean: mean[0] / mean[1], 4_000)
    assert row["per_joule"] == pytest.approx(resampled.estimate)
    assert row["per_joule_low"] == pytest.approx(resampled.low, rel=0.01)
    assert row["per_joule_high"] == pytest.approx(resampled.high, rel=0.01)


def test_the_gains_of_table_4() -> None:
    per_watt = {2023: 3.87e-4, 2024: 1.22e-3, 2025: 3.67e-3}
    assert round(descriptive.efficiency_gap(per_watt[2024], per_watt[2023]), 2) == 3.15
    assert round(descriptive.efficiency_gap(per_watt[2025], per_watt[2024]), 2) == 3.01
    assert round(descriptive.efficiency_gap(per_watt[2025], per_watt[2023]), 1) == 9.5
    assert math.isnan(descriptive.efficiency_gap(1.0, 0.0))


def test_savings_by_hand() -> None:
    table = {
        (r["up_to_params_b"], r["resource"]): r for r in descriptive.savings_by_size(outcomes()).to_pylist()
    }
    # Up to 4 B: 100 + 3 x 1000 of 4000; up to 14 B: 100 + 200 + 2 x 1000.
    assert table[4.0, "joules"]["saved"] == pytest.approx(0.225)
    assert table[14.0, "joules"]["saved"] == pytest.approx(0.425)
    assert table[14.0, "joules"]["local_share"] == 0.5
    assert table[14.0, "joules"]["accuracy"] == 0.75
    assert table[14.0, "joules"]["low"] < 0.425 < table[14.0, "joules"]["high"]
    assert {r for _, r in table} == {"joules"}


def test_precisions_are_compared_on_the_same_queries() -> None:
    rows = [
        {"query_id": str(i), "model_id": "m", "precision": p, "correct": float(i < right), "joules": j}
        for p, right, j in (("FP16", 6, 323.0), ("FP4", 5, 100.0))
        for i in range(10)
    ]
    rows.append({"query_id": "only16", "model_id": "m", "precision": "FP16", "correct": 0.0, "joules": 1.0})
    (row,) = descriptive.precision_comparison(Outcomes.from_arrow(pa.Table.from_pylist(rows))).to_pylist()
    assert (row["queries"], row["reference_accuracy"], row["accuracy"]) == (10, 0.6, 0.5)
    assert row["change_points"] == pytest.approx(-10)
    assert row["low"] < -10 < row["high"]
    assert row["energy_reduction"] == pytest.approx(3.23)


def test_failure_modes_by_hand() -> None:
    matrix = outcomes().matrix("joules")
    # Needed: small, middle, cloud, cloud (nobody).
    table = descriptive.failure_modes(matrix, np.array([2, 1, 0, 2])).to_pylist()
    groups = {(r["by"], r["group"]): r for r in table}
    whole = groups["all", "all"]
    assert (whole["oversized_percent"], whole["correct_percent"], whole["undersized_percent"]) == (25, 50, 25)
    assert groups["domain", "law"]["oversized_percent"] == 50
    assert groups["models that solve it", "0"]["correct_percent"] == 100
    assert groups["models that solve it", "3"]["oversized_percent"] == 100
    assert groups["about tokens", "< 50"]["queries"] == 4
    with pytest.raises(RoutingError, match="1 choices for 4"):
        descriptive.failure_modes(matrix, np.array([0]))


def test_length_classes_are_the_papers() -> None:
    world = topic_world(3)
    from dataclasses import replace

    world = replace(world, texts=("x" * 100, "x" * 400, "x" * 5_000))
    groups = {
        r["group"]
        for r in descriptive.failure_modes(world, np.zeros(3, int)).to_pylist()
        if r["by"] == "about tokens"
    }
    assert groups == {"< 50", "100 - 200", ">= 1000"}


def test_what_the_rows_do_not_tell_is_said() -> None:
    bare = [{"query_id": "a", "model_id": "m", "correct": 1.0}]
    told = Outcomes.from_arrow(pa.Table.from_pylist(bare))
    for call, message in [
        (descriptive.joint_coverage, "no model has a size"),
        (descriptive.efficiency, "both a verdict and joules"),
        (descriptive.savings_by_size, "no model has a size"),
        (descriptive.precision_comparison, "another precision"),
    ]:
        with pytest.raises(OutcomesError, match=message):
            call(told)
    with pytest.raises(OutcomesError, match="there is no model gpt"):
        descriptive.savings_by_size(outcomes(), cloud="gpt")
    with pytest.raises(OutcomesError, match="nothing could be saved"):
        descriptive.savings_by_size(outcomes(joules=float("nan")))


def test_joint_coverage_equals_an_independent_count(shared_data: Path) -> None:
    folder = shared_data / "outcomes" / "mmlu_pro"
    seven_b = ["mathstral-7B", "Llama-2-7b-hf", "gemma-7b"]
    counted = pl.read_parquet(folder / "correct.parquet").select(seven_b)
    ours = descriptive.joint_coverage(open_outcomes(folder).select(models=seven_b)).to_pylist()
    assert [r["up_to_params_b"] for r in ours] == [7.0]
    assert ours[0]["covered"] == pytest.approx(
        counted.select(pl.max_horizontal(seven_b) == 1).to_series().mean()
    )


def test_coverage_goes_by_families_of_models(tmp_path: Path) -> None:
    """Of four queries the small model solves one, the middle one two, the cloud model three."""
    named = tmp_path / "families.csv"
    named.write_text("model,family\nsmall,a\nmiddle,b\nelsewhere,c\n")
    there = ["small", "middle", "cloud"]
    assert descriptive.families_of(str(named), there) == {"a": ["small"], "b": ["middle"]}
    (tmp_path / "f.json").write_text('{"cloud": "c"}')
    assert descriptive.families_of(str(tmp_path / "f.json"), there) == {"c": ["cloud"]}
    assert descriptive.families_of("qwen3,qwen3-moe,gpt", ["Qwen3-4b", "qwen3-moe-30b", "gpt-oss"]) == {
        "qwen3": ["Qwen3-4b"],
        "qwen3-moe": ["qwen3-moe-30b"],
        "gpt": ["gpt-oss"],
    }
    found = descriptive.families_of(str(named), there)
    rows = [
        (row["family"], row["up_to_params_b"], row["covered"])
        for row in descriptive.coverage_by_family(outcomes(), found).to_pylist()
    ]
    assert rows == [
        ("a", 4.0, 0.25),
        ("b", 14.0, 0.5),
        ("all together", 4.0, 0.25),
        ("all together", 14.0, 0.5),
    ]
    for spec, message in (
        ("llama", "no model begins with llama"),
        (str(tmp_path / "none.csv"), "no families in it"),
    ):
        with pytest.raises(OutcomesError, match=message):
            descriptive.families_of(spec, there)
    named.write_text("model,family\nelsewhere,c\n")
    with pytest.raises(OutcomesError, match="names no model that is there"):
        descriptive.families_of(str(named), there)


def test_coverage_without_verdicts_and_savings_on_nothing_are_refused() -> None:
    """Both once ended in the engine's own failure, or in a table of nothing."""
    with pytest.raises(OutcomesError, match="no answer has a verdict"):
        descriptive.joint_coverage(outcomes(correct=math.nan))
    with pytest.raises(OutcomesError, match="no answer of cloud has a verdict"):
        descriptive.savings_by_size(outcomes(correct=math.nan))


def test_a_pool_of_models_by_hand() -> None:
    table, left_out = descriptive.pool_table(outcomes())
    rows = {row["model_id"]: row for row in table.to_pylist()}
    assert list(rows) == ["cloud", "middle", "small"]
    assert left_out == ()
    # law (a, b): 0.5, 1, 1, so ranks 3, 1.5, 1.5; maths (c, d): 0, 0, 0.5, so ranks 2.5, 2.5, 1.
    assert [rows[m]["average_rank"] for m in SIZES] == [2.75, 2.0, 1.25]
    assert [rows[m]["accuracy"] for m in SIZES] == [0.25, 0.5, 0.75]
    # {a}, {a, b} and {a, b, c}: of small and middle 1 of 2, of small and cloud 1 of 3, of middle and cloud 2 of 3
    assert [rows[m]["mean_overlap"] for m in SIZES] == pytest.approx([5 / 12, 7 / 12, 1 / 2])


def test_a_pool_counts_queries_that_every_model_answered_and_says_what_it_left_out() -> None:
    world = Outcomes.from_arrow(world_rows(60))
    table, left_out = descriptive.pool_table(world, "dollars")
    matrix = world.matrix("dollars")
    assert left_out == matrix.left_out == ("1 queries that not every model has an outcome for",)
    rows = {row["model_id"]: row for row in table.to_pylist()}
    assert set(rows) == set(matrix.models)
    assert [rows[m]["accuracy"] for m in matrix.models] == pytest.approx(matrix.correct.mean(axis=0))
    overlap = (jaccard_similarity(matrix.correct).sum(axis=1) - 1) / (len(matrix.models) - 1)
    assert [rows[m]["mean_overlap"] for m in matrix.models] == pytest.approx(overlap)
    with pytest.raises(OutcomesError, match="needs two models with a cost in floating point operations"):
        descriptive.pool_table(world, "flops")
    with pytest.raises(OutcomesError, match="cost `euros` is not known"):
        descriptive.pool_table(world, "euros")
