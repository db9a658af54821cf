"""Energy inside a tick follows the load: short queries lose their bias, whatever the stamps' lag."""

from __future__ import annotations

import numpy as np
import pytest
from harness_coordinator.energy.activity import Activity
from harness_coordinator.energy.load_model import Observations, explained_held_out
from harness_coordinator.energy.records import SourceEnergy

from tests.coordinator.energy.rig import (
    Run,
    batched_queries,
    counter_samples,
    curve_of,
    dithered_polls,
    measure_run,
    ns,
    single_queries,
    steps,
    windows_as_queries,
)


def _errors(run: Run, result: SourceEnergy) -> np.ndarray:
    return result.queries.joules / run.truth.window(run.start_s, run.end_s) - 1


@pytest.mark.parametrize(
    ("late_s", "median", "p95", "bias"), [(0.0, 0.005, 0.02, 0.002), (0.005, 0.012, 0.04, 0.005)]
)
def test_short_queries_are_measured_without_bias(
    rng: np.random.Generator, late_s: float, median: float, p95: float, bias: float
) -> None:
    run = single_queries(rng, 400)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    result = measure_run(run, samples, run.queries(late_s))
    assert result.method == "counter-shape"
    assert result.lag_s == pytest.approx(late_s, abs=0.001)
    error = _errors(run, result)
    assert np.median(np.abs(error)) <= median
    assert np.percentile(np.abs(error), 95) <= p95
    assert abs(error.mean()) <= bias
    true = run.truth.window(run.start_s, run.end_s)
    inside = (result.queries.joules_low <= true) & (true <= result.queries.joules_high)
    assert inside.mean() >= 0.99
    longer = run.end_s - run.start_s >= 0.3
    width = (result.queries.joules_high - result.queries.joules_low) / true
    assert np.median(width[longer]) <= 0.08


def test_straight_lines_are_biased_on_the_same_queries(rng: np.random.Generator) -> None:
    run = single_queries(rng, 400)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    linear, shaped = measure_run(run, samples, inside="linear"), measure_run(run, samples)
    assert _errors(run, linear).mean() < -0.02
    assert np.abs(_errors(run, linear)).mean() > 10 * np.abs(_errors(run, shaped)).mean()


@pytest.mark.parametrize("wander", [0.0, 0.15])
def test_scattered_stamps_and_wandering_power_stay_inside_the_bounds(
    rng: np.random.Generator, wander: float
) -> None:
    run = single_queries(rng, 300, wander=wander)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    result = measure_run(run, samples, run.queries(0.003, 0.003, rng))
    true = run.truth.window(run.start_s, run.end_s)
    assert ((result.queries.joules_low <= true) & (true <= result.queries.joules_high)).mean() >= 0.99
    assert np.median(np.abs(_errors(run, result))) < 0.005


def test_every_interval_keeps_its_measured_energy(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 100, 4)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    shaped, linear = measure_run(run, samples), measure_run(run, samples, inside="linear")
    assert shaped.device_joules == pytest.approx(linear.device_joules, rel=1e-4)
    assert shaped.explained > 0.9
    levels = dict(shaped.load_levels)
    assert levels["idle"] == pytest.approx(90.0, rel=0.01)


def test_windows_that_explain_nothing_stay_linear(rng: np.random.Generator) -> None:
    truth = steps(rng, 120.0)
    samples = counter_samples(rng, truth, dithered_polls(rng, 120.0, 0.04))
    from harness_coordinator.energy.measure import measure_source
    from harness_coordinator.energy.records import SourceTraits

    start = np.arange(5.0, 110.0, 2.0)
    result = measure_source(
        SourceTraits("rig"), samples, windows_as_queries(start, start + 1.0), (int(ns(5.0)), int(ns(112.0)))
    )
    assert result.method == "counter-linear"
    assert result.explained < 0.25
    error = np.abs(result.queries.joules / truth.window(start, start + 1.0) - 1)
    assert np.median(error) <= 0.001
    assert np.percentile(error, 95) <= 0.025


@pytest.mark.parametrize(
    ("window_s", "median", "p95"), [(0.25, 0.005, 0.12), (1.0, 0.001, 0.025), (5.0, 0.0002, 0.005)]
)
def test_straight_lines_between_locked_ticks_meet_the_figures(
    rng: np.random.Generator, window_s: float, median: float, p95: float
) -> None:
    truth = steps(rng, 300.0)
    curve = curve_of(counter_samples(rng, truth, dithered_polls(rng, 300.0, 0.04)))
    start = rng.uniform(2, 290, 1500)
    true = truth.window(start, start + window_s)
    joules, low, high = curve.window_j(ns(start), ns(start + window_s))
    error = np.abs(joules / true - 1)
    assert np.median(error) <= median
    assert np.percentile(error, 95) <= p95
    assert ((low <= true) & (true <= high)).mean() >= 0.99


def test_a_power_that_never_changes_leaves_nothing_to_explain() -> None:
    edge_s = np.arange(201) * 0.1
    steady = Observations(edge_s[:-1], edge_s[1:], np.diff(80.0 * edge_s))
    start_s = np.arange(10) * 2.0
    total = np.append(0.0, np.cumsum(np.tile([0.5, 0.0], 10)))[:20, None]
    times = np.sort(np.concatenate([start_s, start_s + 0.5]))
    assert explained_held_out(Activity(times, total, ("busy",)), steady, 0.0) == 0.0
