"""Agreement of judges, by hand and beside other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from harness_analysis.evaluation.agreement import (
    agreements,
    cohen_kappa,
    krippendorff_alpha,
    majority,
    pearson,
)
from harness_analysis.evaluation.verdicts import position_bias
from scipy import stats
from sklearn.metrics import cohen_kappa_score

X = math.nan


def labels(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def test_kappa_by_hand() -> None:
    # 10 items: both right 4, both wrong 3, only a 2, only b 1. p_o = 0.7; p_e = 0.6 * 0.5 + 0.4 * 0.5 = 0.5.
    a = labels(1, 1, 1, 1, 0, 0, 0, 1, 1, 0)
    b = labels(1, 1, 1, 1, 0, 0, 0, 0, 0, 1)
    assert cohen_kappa(a, b) == pytest.approx((0.7 - 0.5) / 0.5)
    # The covariance over the deviations: (0.4 - 0.6 * 0.5) / sqrt(0.24 * 0.25).
    assert pearson(a, b) == pytest.approx(0.1 / math.sqrt(0.24 * 0.25))
    # 20 labels, 11 right and 9 wrong; D_o = 2 * 3 / 20, D_e = 2 * 11 * 9 / (20 * 19).
    assert krippendorff_alpha([a, b]) == pytest.approx(1 - (6 / 20) / (198 / 380))


def test_krippendorffs_own_example_with_missing_labels() -> None:
    # Krippendorff 2011, section A: two observers, ten items, binary: alpha = 0.095.
    a = labels(0, 1, 0, 0, 0, 0, 0, 0, 1, 0)
    b = labels(1, 1, 1, 0, 0, 1, 0, 0, 0, 0)
    assert krippendorff_alpha([a, b]) == pytest.approx(0.095, abs=5e-4)
    with_gaps = [np.append(a, [1, X]), np.append(b, [X, X])]
    assert krippendorff_alpha(with_gaps) == pytest.approx(krippendorff_alpha([a, b]))


def test_formulas_agree_with_other_libraries() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        a = rng.integers(0, 2, 60).astype(float)
        b = np.where(rng.random(60) < 0.7, a, rng.integers(0, 2, 60)).astype(float)
        assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic)
        assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))


def test_the_majority_and_its_ties() -> None:
    voted = majority([labels(1, 1, 0, X, X), labels(1, 0, 0, 1, X), labels(0, X, 1, X, X)])
    np.testing.assert_array_equal(voted, labels(1, X, 0, 1, X))


def test_table_13_has_a_row_for_each_judge() -> None:
    a, b, c = labels(1, 1, 0, 0), labels(1, 1, 0, 1), labels(1, 0, 0, 0)
    rows = {row.judge: row for row in agreements({"a": a, "b": b, "c": c})}
    assert {row.against for row in rows.values()} == {"majority"}
    assert (rows["a"].agreement, rows["a"].cohen_kappa, rows["b"].agreement) == (1.0, 1.0, 0.75)
    assert rows["b"].share_right == 0.75
    (two,) = agreements({"a": a, "b": b})
    assert (two.judge, two.against, two.items) == ("a", "b", 4)


def test_what_cannot_be_told_is_nan() -> None:
    same = labels(1, 1, 1)
    assert math.isnan(pearson(same, same))
    assert math.isnan(cohen_kappa(same, same))
    assert math.isnan(krippendorff_alpha([same, same]))
    assert math.isnan(cohen_kappa(labels(X), labels(1)))


def test_position_bias_counts_who_gains() -> None:
    one, two = "answer-first", "reference-first"
    bias = position_bias(
        [
            {one: 1, two: -1},
            {one: 0, two: -2},
            {one: -1, two: 1},
            {one: 2, two: 1},
            {one: 0, two: 0},
            {one: 1},
        ]
    )
    assert (bias.both_orders, bias.disagree, bias.first_gains, bias.second_gains) == (5, 3, 2, 1)
