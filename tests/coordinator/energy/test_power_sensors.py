"""Power sensors that look at an instant, average, or see part of the time."""

from __future__ import annotations

import numpy as np
import pytest
from harness_coordinator.energy.records import SampleColumns, SourceTraits

from tests.coordinator.energy.rig import (
    Truth,
    batched_queries,
    counter_samples,
    curve_of,
    dithered_polls,
    measure_run,
    ns,
    power_samples,
    single_queries,
    true_shares,
)


@pytest.mark.parametrize("averaging_s", [0.0, 0.025, 0.1, 1.0])
@pytest.mark.parametrize("stated", [True, False])
def test_batched_queries_are_found_through_any_sensor(
    rng: np.random.Generator, averaging_s: float, stated: bool
) -> None:
    run = batched_queries(rng, 250, 4)
    samples = power_samples(
        rng,
        run.truth,
        dithered_polls(rng, run.length_s, 0.04),
        averaging_s=averaging_s,
        noise_w=0.5,
        delay_s=0.01,
    )
    traits = SourceTraits("rig", averaging_s=averaging_s if stated else float("nan"))
    result = measure_run(run, samples, traits=traits)
    assert result.method == "power-shape"
    true = true_shares(run, 0.24)
    assert np.median(np.abs(result.queries.joules / true - 1)) < 0.005
    inside = (result.queries.joules_low <= true) & (true <= result.queries.joules_high)
    assert inside.mean() >= 0.99
    if not stated:
        window_s = dict(result.load_levels)["sensor_window_s"]
        assert window_s == pytest.approx(max(averaging_s, 0.001), abs=0.006)


@pytest.mark.parametrize("averaging_s", [0.0, 0.025, 0.1, 1.0])
def test_short_queries_stay_inside_the_bounds_of_any_sensor(
    rng: np.random.Generator, averaging_s: float
) -> None:
    run = single_queries(rng, 300)
    samples = power_samples(
        rng,
        run.truth,
        dithered_polls(rng, run.length_s, 0.04),
        averaging_s=averaging_s,
        noise_w=0.5,
        gain=0.97,
    )
    result = measure_run(run, samples, traits=SourceTraits("rig", averaging_s=averaging_s))
    true = run.truth.window(run.start_s, run.end_s)
    error = result.queries.joules / true - 1
    assert error.mean() == pytest.approx(-0.03, abs=0.01)
    assert ((result.queries.joules_low <= true) & (true <= result.queries.joules_high)).mean() >= 0.99


def test_a_partial_sensor_aliases_when_integrated_and_not_when_fitted(rng: np.random.Generator) -> None:
    run = single_queries(rng, 400, shortest_s=0.05, longest_s=0.06, ripple=0.0)
    samples = power_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.012), averaging_s=0.025)
    traits = SourceTraits("rig", averaging_s=0.025)
    fitted = measure_run(run, samples, traits=traits)
    integrated = measure_run(run, samples, traits=traits, inside="linear")
    true = run.truth.window(run.start_s, run.end_s)
    assert np.median(np.abs(fitted.queries.joules / true - 1)) < 0.01
    assert np.median(np.abs(integrated.queries.joules / true - 1)) > 0.2


def test_an_averaging_sensor_is_a_counter_of_its_own(rng: np.random.Generator) -> None:
    run = single_queries(rng, 200)
    samples = power_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04), averaging_s=0.1)
    result = measure_run(run, samples, traits=SourceTraits("rig", averaging_s=0.1, power_period_s=0.1))
    error = result.queries.joules / run.truth.window(run.start_s, run.end_s) - 1
    assert np.median(np.abs(error)) < 0.003


def test_counter_and_power_that_agree_are_both_kept(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 100, 4)
    polls = dithered_polls(rng, run.length_s, 0.04)
    energy = counter_samples(rng, run.truth, polls).energy_j
    power = power_samples(rng, run.truth, polls, averaging_s=0.1).power_w
    result = measure_run(run, SampleColumns(ns(polls), energy, power))
    assert result.energy_source == "counter"
    assert "counter_disagrees" not in result.flags
    assert result.cross_check_joules == pytest.approx(result.device_joules, rel=0.01)
    assert result.cross_check_method == "power-linear"
    assert not any("counter_disagrees" in flags for flags in result.queries.flags)


def test_a_counter_that_lies_is_flagged_with_both_values(rng: np.random.Generator) -> None:
    # 187 J against 327 J over the same time were seen on one card.
    run = batched_queries(rng, 100, 4)
    polls = dithered_polls(rng, run.length_s, 0.04)
    energy = counter_samples(rng, run.truth, polls).energy_j * 0.57
    power = power_samples(rng, run.truth, polls, averaging_s=0.1).power_w
    result = measure_run(run, SampleColumns(ns(polls), energy, power))
    assert "counter_disagrees" in result.flags
    assert result.cross_check_joules == pytest.approx(result.device_joules / 0.57, rel=0.01)
    flagged = sum("counter_disagrees" in flags for flags in result.queries.flags)
    # The bounds of a short query from power alone are wide enough to hold many a lie.
    assert flagged > 20
    assert np.isfinite(result.queries.cross_check_joules).all()


@pytest.mark.parametrize(
    ("factor", "flag"), [(0.0, "counter_frozen"), (0.05, "counter_rejected"), (50.0, "counter_rejected")]
)
def test_a_counter_off_by_more_than_ten_is_not_used(
    rng: np.random.Generator, factor: float, flag: str
) -> None:
    run = batched_queries(rng, 60, 4)
    polls = dithered_polls(rng, run.length_s, 0.04)
    energy = counter_samples(rng, run.truth, polls).energy_j * factor
    power = power_samples(rng, run.truth, polls, averaging_s=0.1).power_w
    result = measure_run(run, SampleColumns(ns(polls), energy, power))
    assert flag in result.flags
    assert result.energy_source == "power"
    true = run.truth.window(np.array(11.0), np.array(run.length_s - 11.0))
    assert result.device_joules == pytest.approx(true, rel=0.01)


def test_an_estimate_is_never_called_measured(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 30, 2)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    result = measure_run(run, samples, traits=SourceTraits("rig", energy_source="estimated"))
    assert result.energy_source == "estimated"
    assert result.method.startswith("estimated-")
    assert "estimated" in result.flags


@pytest.mark.parametrize("load_period_s", [0.0519, 0.0994, 0.1021, 0.131, 0.37])
@pytest.mark.parametrize("averaging_s", [0.0, 0.025])
def test_a_load_that_beats_with_the_sensor_stays_inside_the_bounds(
    rng: np.random.Generator, load_period_s: float, averaging_s: float
) -> None:
    edge_s = np.arange(0, 60, load_period_s / 2)
    truth = Truth(edge_s, np.where(np.arange(len(edge_s) - 1) % 2, 300.0, 70.0))
    polls = dithered_polls(rng, float(edge_s[-1]), 0.02)
    samples = power_samples(rng, truth, polls, averaging_s=averaging_s)
    curve = curve_of(samples, averaging_s=averaging_s, power_period_s=0.1)
    for length_s in (0.3, 1.0, 5.0, 30.0):
        start = rng.uniform(1, 28, 100)
        true = truth.window(start, start + length_s)
        _, low, high = curve.window_j(ns(start), ns(start + length_s))
        assert ((low <= true) & (true <= high)).mean() >= 0.99
    _, low, high = curve.window_j(ns(np.array([1.0])), ns(np.array([59.0])))
    assert (high - low)[0] < 1.2 * truth.window(np.array([1.0]), np.array([59.0]))[0]


def test_an_averaging_sensor_that_sees_everything_has_no_unseen_time(rng: np.random.Generator) -> None:
    run = single_queries(rng, 30)
    polls = dithered_polls(rng, run.length_s, 0.04)
    samples = power_samples(rng, run.truth, polls, averaging_s=1.0)
    seen = measure_run(run, samples, traits=SourceTraits("rig", averaging_s=1.0), inside="linear")
    partly = measure_run(run, samples, traits=SourceTraits("rig", averaging_s=0.025), inside="linear")
    assert "unseen_time" not in seen.flags
    assert "unseen_time" in partly.flags
    fitted = measure_run(run, samples, traits=SourceTraits("rig", averaging_s=1.0), inside="shape")
    assert "unseen_time" not in fitted.flags
