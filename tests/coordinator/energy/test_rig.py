"""The whole rig: loads, sensors, stamps and concurrencies; the truth lies inside the bounds in 99 % of queries."""

from __future__ import annotations

import numpy as np
import pytest
from harness_coordinator.energy.records import SourceTraits

from tests.coordinator.energy.rig import (
    batched_queries,
    counter_samples,
    curve_of,
    dithered_polls,
    measure_run,
    ns,
    power_samples,
    ramps,
    single_queries,
    steps,
    true_shares,
)


@pytest.mark.parametrize("period_s", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("concurrency", [1, 8, 64])
@pytest.mark.parametrize("late_s", [0.0, 0.005])
def test_bounds_hold_the_truth_for_counters(period_s: float, concurrency: int, late_s: float) -> None:
    rng = np.random.default_rng(int(1000 * period_s) + concurrency)
    count = 120 if concurrency == 1 else 60 * concurrency
    run = batched_queries(rng, min(count, 900), concurrency)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.4 * period_s), period_s)
    result = measure_run(run, samples, run.queries(late_s))
    true = true_shares(run, result.alpha)
    inside = (result.queries.joules_low <= true) & (true <= result.queries.joules_high)
    assert inside.mean() >= 0.99
    error = np.abs(result.queries.joules / true - 1)
    assert np.median(error) < (0.02 if period_s == 1.0 else 0.005)
    device = run.truth.window(np.array(11.0), np.array(run.length_s - 11.0))
    assert result.device_joules_low <= device <= result.device_joules_high


@pytest.mark.parametrize("averaging_s", [0.0, 0.025, 0.1, 1.0])
@pytest.mark.parametrize("concurrency", [1, 32])
def test_bounds_hold_the_truth_for_power_sensors(averaging_s: float, concurrency: int) -> None:
    rng = np.random.default_rng(int(1000 * averaging_s) + concurrency)
    run = batched_queries(rng, 100 if concurrency == 1 else 800, concurrency)
    samples = power_samples(
        rng,
        run.truth,
        dithered_polls(rng, run.length_s, 0.04),
        averaging_s=averaging_s,
        gain=1.02,
        noise_w=1.0,
    )
    result = measure_run(run, samples, run.queries(0.005), SourceTraits("rig", averaging_s=averaging_s))
    true = true_shares(run, result.alpha)
    assert ((result.queries.joules_low <= true) & (true <= result.queries.joules_high)).mean() >= 0.99


@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize("idle_w", [30.0, 120.0])
def test_bounds_hold_the_truth_for_single_queries(jitter: float, idle_w: float) -> None:
    rng = np.random.default_rng(int(idle_w) + int(10 * jitter))
    run = single_queries(rng, 300, idle_w=idle_w, longest_s=2.0, wander=0.05)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04), jitter=jitter)
    result = measure_run(run, samples, run.queries(0.002, 0.001, rng))
    true = run.truth.window(run.start_s, run.end_s)
    assert ((result.queries.joules_low <= true) & (true <= result.queries.joules_high)).mean() >= 0.99


@pytest.mark.parametrize("window_s", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("load", ["steps", "ramps"])
def test_bounds_hold_the_truth_for_any_window(window_s: float, load: str) -> None:
    rng = np.random.default_rng(int(10 * window_s))
    truth = steps(rng, 120.0) if load == "steps" else ramps(120.0)
    polls = dithered_polls(rng, 120.0, 0.04)
    start = rng.uniform(2.0, 118.0 - window_s, 400)
    true = truth.window(start, start + window_s)
    for samples in (
        counter_samples(rng, truth, polls),
        counter_samples(rng, truth, polls, jitter=0.2),
        counter_samples(rng, truth, polls, resolution_j=1.0),
        power_samples(rng, truth, polls, gain=0.96),
        power_samples(rng, truth, polls, averaging_s=0.1),
    ):
        _, low, high = curve_of(samples).window_j(ns(start), ns(start + window_s))
        assert ((low <= true) & (true <= high)).mean() >= 0.99


def test_a_load_step_in_the_middle_of_a_query_is_followed() -> None:
    # The stamps know nothing of it: the tick's own energy must show it.
    rng = np.random.default_rng(5)
    run = single_queries(rng, 100, shortest_s=1.0, longest_s=3.0, wander=0.3)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    result = measure_run(run, samples)
    true = run.truth.window(run.start_s, run.end_s)
    assert np.median(np.abs(result.queries.joules / true - 1)) < 0.003
    assert ((result.queries.joules_low <= true) & (true <= result.queries.joules_high)).mean() >= 0.99
