"""Period and phase of a sensor, found from dithered polls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import Float64, SourceTraits
from harness_coordinator.energy.tick_lock import lock_ticks
from numpy.typing import NDArray

from tests.coordinator.energy.rig import (
    Truth,
    counter_samples,
    curve_of,
    dithered_polls,
    no_queries,
    ns,
    steps,
)


def _seen(ticks_s: NDArray[np.floating[Any]], polls_s: Float64) -> tuple[Float64, Float64]:
    """Last poll before and first poll after each tick."""
    k = np.searchsorted(polls_s, ticks_s, side="left")
    inside = (k > 0) & (k < len(polls_s))
    k = k[inside]
    return polls_s[k - 1], polls_s[k]


@pytest.mark.parametrize("period_s", [0.02, 0.1, 0.10115, 1.0])
def test_dithered_polls_reveal_period_and_phase(rng: np.random.Generator, period_s: float) -> None:
    ticks_s = 0.0371 + np.arange(600) * period_s
    polls_s = dithered_polls(rng, 600 * period_s, 0.4 * period_s)
    before, seen = _seen(ticks_s, polls_s)
    lock = lock_ticks(before, seen)
    assert lock.locked.all()
    assert lock.period_s == pytest.approx(period_s, rel=5e-5)
    k = np.rint((lock.t_s - ticks_s[0]) / period_s)
    error_s = np.abs(lock.t_s - (ticks_s[0] + k * period_s))
    assert np.median(error_s) < 0.006 * period_s
    assert (error_s <= lock.slack_s).all()


def test_ticks_that_went_unseen_do_not_break_the_count(rng: np.random.Generator) -> None:
    ticks_s = np.arange(500) * 0.1
    before, seen = _seen(ticks_s, dithered_polls(rng, 50.0, 0.04))
    keep = rng.random(len(seen)) > 0.1
    lock = lock_ticks(before[keep], seen[keep])
    assert lock.locked.all()
    assert lock.period_s == pytest.approx(0.1, rel=1e-4)


def test_polls_too_slow_to_tell_ticks_apart_do_not_spoil_the_others(rng: np.random.Generator) -> None:
    """An idle agent polls five times a second; of a run's samples the first three seconds are such."""
    ticks_s = 0.0371 + np.arange(300) * 0.1
    polls_s = dithered_polls(rng, 30.0, 0.04)
    polls_s = np.concatenate([dithered_polls(rng, 3.0, 0.2), polls_s[polls_s > 3.0]])
    changed = np.flatnonzero(np.diff(np.searchsorted(ticks_s, polls_s)))
    before, seen = polls_s[changed], polls_s[changed + 1]
    lock = lock_ticks(before, seen)
    assert lock.locked[seen > 3.1].all()
    assert lock.period_s == pytest.approx(0.1, rel=1e-4)
    placed = lock.t_s[lock.locked]
    nearest = ticks_s[0] + np.rint((placed - ticks_s[0]) / 0.1) * 0.1
    assert (np.abs(placed - nearest) <= lock.slack_s[lock.locked]).all()
    assert np.abs(placed - nearest).max() < 0.004


def test_a_drifting_sensor_is_followed(rng: np.random.Generator) -> None:
    step = 0.1 * (1 + 2e-4 * np.sin(np.arange(5000) / 400))
    ticks_s = np.cumsum(step)
    before, seen = _seen(ticks_s, dithered_polls(rng, ticks_s[-1], 0.04))
    lock = lock_ticks(before, seen)
    assert lock.locked.mean() > 0.9
    placed = lock.t_s[lock.locked]
    nearest = ticks_s[np.clip(np.searchsorted(ticks_s, placed - 0.05), 0, len(ticks_s) - 1)]
    assert np.percentile(np.abs(placed - nearest), 95) < 0.004


def test_a_jittering_sensor_is_not_locked_and_the_curve_falls_back_to_polls(rng: np.random.Generator) -> None:
    truth = steps(rng, 120.0)
    samples = counter_samples(rng, truth, dithered_polls(rng, 120.0, 0.04), jitter=0.2)
    curve = curve_of(samples)
    assert not curve.edges.locked
    start = rng.uniform(2, 110, 200)
    joules, low, high = curve.window_j(ns(start), ns(start + 1.0))
    true = truth.window(start, start + 1.0)
    assert ((low <= true) & (true <= high)).mean() >= 0.99
    assert np.median(np.abs(joules - true) / true) < 0.02


def test_polls_without_dither_leave_the_phase_open_and_say_so(rng: np.random.Generator) -> None:
    truth = steps(rng, 60.0)
    steady = np.arange(0.013, 60.0, 0.04)
    dithered = dithered_polls(rng, 60.0, 0.04)
    open_phase = curve_of(counter_samples(rng, truth, steady)).edges.slack_s
    known_phase = curve_of(counter_samples(rng, truth, dithered)).edges.slack_s
    assert np.median(open_phase) > 5 * np.median(known_phase)


def test_too_few_changes_do_not_lock(rng: np.random.Generator) -> None:
    before, seen = _seen(np.arange(15) * 0.1, dithered_polls(rng, 1.5, 0.04))
    assert not lock_ticks(before, seen).locked.any()


def test_the_first_edge_of_a_short_run_is_sharp_after_idle_time(rng: np.random.Generator) -> None:
    """An idle agent polls five times a second, and 25 times from half a second before a run of 47 ticks."""
    truth = Truth(np.array([0.0, 20.0]), np.array([300.0]))
    for _ in range(20):
        start_s, end_s = 5.0 + rng.random(), 9.7 + rng.random()
        slow_s = np.arange(start_s - 3, start_s - 0.5, 0.2)
        slow_s = slow_s + 0.04 * rng.random(len(slow_s))
        quick_s = dithered_polls(rng, 8.0, 0.04) + start_s - 0.5
        polls_s = np.concatenate([slow_s, quick_s[(quick_s > slow_s[-1]) & (quick_s < end_s + 2.3)]])
        samples = counter_samples(rng, truth, polls_s)
        window = (int(ns(start_s)), int(ns(end_s)))
        energy = measure_source(SourceTraits("rig"), samples, no_queries(), window, [])
        true_j = 300.0 * (end_s - start_s)
        assert energy.device_joules == pytest.approx(true_j, rel=2e-3)
        assert energy.device_joules_low <= true_j <= energy.device_joules_high
