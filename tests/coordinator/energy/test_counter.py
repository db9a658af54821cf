"""Wraps, resets and the moments of change of an energy counter."""

from __future__ import annotations

import numpy as np
import pytest
from harness_coordinator.energy.counter import find_changes
from harness_coordinator.energy.intake import clean_samples
from harness_coordinator.energy.records import SampleColumns

from tests.coordinator.energy.rig import counter_samples, curve_of, dithered_polls, ns, steps


def _polls(energy: list[float], step_s: float = 0.05) -> SampleColumns:
    t_s = np.arange(len(energy)) * step_s
    return SampleColumns(ns(t_s), np.array(energy), np.zeros(0))


def test_repeats_of_a_value_are_not_changes() -> None:
    changes = find_changes(clean_samples(_polls([5.0, 5.0, 6.0, 6.0, 9.0])))
    assert changes.energy_j.tolist() == [0.0, 1.0, 4.0]
    assert np.allclose(changes.before_s[1:], [0.05, 0.15])
    assert np.allclose(changes.seen_s[1:], [0.10, 0.20])


def test_a_wrap_is_undone_and_a_reset_is_marked() -> None:
    wrapped = find_changes(clean_samples(_polls([98.0, 99.0, 1.0, 2.0])), wrap_j=100.0)
    assert wrapped.energy_j.tolist() == [0.0, 1.0, 3.0, 4.0]
    assert not wrapped.reset.any()
    reset = find_changes(clean_samples(_polls([98.0, 99.0, 1.0, 2.0])))
    assert reset.reset.tolist() == [False, False, True, False]
    # From the middle of its range a counter that wraps cannot come back to zero within a poll: a reset.
    half = find_changes(clean_samples(_polls([48.0, 49.0, 1.0, 2.0])), wrap_j=100.0)
    assert half.reset.tolist() == [False, False, True, False]


def test_absent_readings_are_skipped() -> None:
    changes = find_changes(clean_samples(_polls([5.0, float("nan"), 6.0, float("nan"), 9.0])))
    assert changes.energy_j.tolist() == [0.0, 1.0, 4.0]


def test_a_wrapping_counter_measures_like_one_that_does_not(rng: np.random.Generator) -> None:
    truth = steps(rng, 60.0)
    polls = dithered_polls(rng, 60.0, 0.04)
    samples = counter_samples(rng, truth, polls, wrap_j=262.0, start_j=200.0)
    start, end = np.array([5.0]), np.array([55.0])
    joules, low, high = curve_of(samples, counter_wrap_j=262.0).window_j(ns(start), ns(end))
    assert joules == pytest.approx(truth.window(start, end), rel=1e-3)
    assert low <= truth.window(start, end) <= high


def test_windows_across_a_reset_hold_the_truth_and_lose_coverage(rng: np.random.Generator) -> None:
    truth = steps(rng, 60.0)
    samples = counter_samples(rng, truth, dithered_polls(rng, 60.0, 0.04), reset_s=30.0)
    curve = curve_of(samples)
    start, end = np.array([10.0, 29.5, 40.0]), np.array([20.0, 30.5, 50.0])
    _, low, high = curve.window_j(ns(start), ns(end))
    inside = truth.window(start, end)
    assert ((low <= inside) & (inside <= high)).all()
    coverage = curve.coverage(ns(start), ns(end))
    assert coverage[0] == 1.0
    assert coverage[2] == 1.0
    assert coverage[1] < 1.0
    assert "counter_reset" in curve.edges.flags
