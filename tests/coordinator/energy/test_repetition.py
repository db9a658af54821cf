"""t intervals against tables, and differences that are larger than the uncertainty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from harness_coordinator.energy.repetition import compare, summarise, summarise_groups, t_quantile


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [
        # Abramowitz and Stegun, table 26.10.
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 4, 2.776),
        (0.975, 10, 2.228),
        (0.975, 30, 2.042),
        (0.995, 4, 4.604),
        (0.95, 7, 1.895),
        (0.025, 4, -2.776),
        (0.975, math.inf, 1.95996),
    ],
)
def test_quantiles_equal_the_table(probability: float, freedom: float, expected: float) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(expected, abs=6e-4)


def test_quantiles_refuse_what_has_none() -> None:
    with pytest.raises(ValueError, match="no t quantile"):
        t_quantile(1.0, 3)
    with pytest.raises(ValueError, match="no t quantile"):
        t_quantile(0.9, 0)


def test_three_repetitions_have_mean_deviation_and_interval() -> None:
    summary = summarise(
        [10.0, 11.0, 12.0, math.nan], [9.0, 10.0, 11.0, math.nan], [11.0, 12.0, 13.0, math.nan]
    )
    assert summary.count == 3
    assert summary.mean == 11.0
    assert summary.deviation == 1.0
    assert summary.interval_low == pytest.approx(11 - 4.3027 / math.sqrt(3), abs=1e-3)
    assert (summary.instrument_low, summary.instrument_high) == (10.0, 12.0)


def test_one_measurement_has_no_deviation_but_its_bounds() -> None:
    summary = summarise([10.0], [9.0], [11.0])
    assert math.isnan(summary.deviation)
    assert math.isnan(summary.interval_low)
    assert summary.instrument_error == pytest.approx(1 / 2.576)
    assert summarise([]).count == 0


def test_groups_keep_their_order_and_rows() -> None:
    groups = summarise_groups(["b", "a", "b"], np.array([1.0, 5.0, 3.0]))
    assert list(groups) == ["b", "a"]
    assert groups["b"].mean == 2.0


def test_the_interval_holds_the_mean_as_often_as_it_says(rng: np.random.Generator) -> None:
    held = [
        summary.interval_low <= 100.0 <= summary.interval_high
        for summary in (summarise(rng.normal(100.0, 3.0, 4)) for _ in range(2000))
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_equal_groups_differ_no_more_often_than_stated(rng: np.random.Generator) -> None:
    wrong = [
        compare({"a": summarise(rng.normal(100, 3, 5)), "b": summarise(rng.normal(100, 5, 5))})[0].significant
        for _ in range(1000)
    ]
    assert np.mean(wrong) < 0.07


def test_three_percent_is_a_difference_only_beyond_the_uncertainty() -> None:
    steady = {"a": summarise([100.0, 100.2, 99.8]), "b": summarise([103.0, 103.2, 102.8])}
    loose = {"a": summarise([100.0, 104.0, 96.0]), "b": summarise([103.0, 107.0, 99.0])}
    assert compare(steady)[0].significant
    assert compare(steady)[0].relative == pytest.approx(0.03)
    assert not compare(loose)[0].significant


def test_the_instrument_limits_what_repetitions_can_show() -> None:
    # Steady readings of two devices whose sensors may each be off by 5 %.
    values = np.array([100.0, 100.1, 99.9])
    blurred = {
        "a": summarise(values, values * 0.95, values * 1.05),
        "b": summarise(values + 1.0, (values + 1) * 0.95, (values + 1) * 1.05),
    }
    assert not compare(blurred)[0].significant
    sharp = {"a": summarise(values), "b": summarise(values + 1.0)}
    assert compare(sharp)[0].significant


def test_single_measurements_without_bounds_prove_nothing() -> None:
    difference = compare({"a": summarise([100.0]), "b": summarise([500.0])})[0]
    assert math.isinf(difference.uncertainty)
    assert not difference.significant


def test_many_pairs_need_more_to_be_called_different() -> None:
    def group(mean: float) -> list[float]:
        return [mean - 1.0, mean, mean + 1.0]

    two = compare({"a": summarise(group(100)), "b": summarise(group(104))})[0]
    many = compare({name: summarise(group(100 + 4 * k)) for k, name in enumerate("abcdef")})[0]
    assert two.difference == many.difference
    assert many.uncertainty > two.uncertainty
