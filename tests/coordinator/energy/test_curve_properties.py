"""What must hold of E(t) whatever the load, the sensor and the window: monotony, additivity, bounds, coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.coordinator.energy.rig import (
    counter_samples,
    curve_of,
    dithered_polls,
    drop,
    ns,
    power_samples,
    ramps,
    steps,
)

LENGTH_S = 20.0
SLOW = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
PERIODS = st.sampled_from([0.02, 0.1, 1.0])


@SLOW
@given(
    seed=st.integers(0, 2**31),
    period_s=PERIODS,
    jitter=st.sampled_from([0.0, 0.2]),
    kind=st.sampled_from(["counter", "power"]),
    hole=st.booleans(),
)
def test_energy_never_falls_and_windows_add_up(
    seed: int, period_s: float, jitter: float, kind: str, hole: bool
) -> None:
    rng = np.random.default_rng(seed)
    truth = steps(rng, LENGTH_S)
    polls = dithered_polls(rng, LENGTH_S, 0.4 * period_s)
    if kind == "counter":
        samples = counter_samples(rng, truth, polls, period_s, jitter=jitter)
    else:
        samples = power_samples(rng, truth, polls, period_s)
    if hole:
        samples = drop(samples, 8.0, 8.0 + 10 * period_s)
    curve = curve_of(samples)
    t_ns = np.sort(rng.integers(ns(np.array(-1.0)), ns(np.array(LENGTH_S + 1)), 400))
    energy = curve.energy_j(t_ns)
    assert (np.diff(energy) >= 0).all()
    low, high = curve.low_j(t_ns), curve.high_j(t_ns)
    assert (low <= energy).all()
    assert (energy <= high).all()
    a, b, c = t_ns[:130], t_ns[130:260], t_ns[260:390]
    parts = curve.window_j(a, b)[0] + curve.window_j(b, c)[0]
    assert parts == pytest.approx(curve.window_j(a, c)[0], rel=1e-12, abs=1e-9)
    coverage = curve.coverage(a, c)
    assert ((coverage >= 0) & (coverage <= 1)).all()


@SLOW
@given(
    seed=st.integers(0, 2**31),
    period_s=PERIODS,
    jitter=st.sampled_from([0.0, 0.05, 0.2]),
    window_s=st.floats(0.1, 10.0),
    ramp=st.booleans(),
)
def test_the_truth_lies_inside_the_bounds_of_a_counter(
    seed: int, period_s: float, jitter: float, window_s: float, ramp: bool
) -> None:
    rng = np.random.default_rng(seed)
    length_s = max(LENGTH_S, 100 * period_s)
    truth = ramps(length_s) if ramp else steps(rng, length_s)
    curve = curve_of(
        counter_samples(rng, truth, dithered_polls(rng, length_s, 0.4 * period_s), period_s, jitter=jitter)
    )
    start = rng.uniform(2 * period_s, length_s - window_s - 3 * period_s, 200)
    joules, low, high = curve.window_j(ns(start), ns(start + window_s))
    true = truth.window(start, start + window_s)
    assert ((low <= true) & (true <= high)).mean() >= 0.99
    assert ((low <= joules) & (joules <= high)).all()


def test_a_gap_costs_coverage_not_energy_where_a_counter_counts_on(rng: np.random.Generator) -> None:
    truth = steps(rng, 60.0)
    samples = drop(counter_samples(rng, truth, dithered_polls(rng, 60.0, 0.04)), 20.0, 25.0)
    curve = curve_of(samples)
    whole = curve.window_j(ns(np.array([15.0])), ns(np.array([30.0])))
    assert whole[0] == pytest.approx(truth.window(np.array([15.0]), np.array([30.0])), rel=2e-3)
    coverage = curve.coverage(ns(np.array([15.0, 20.5, 30.0])), ns(np.array([30.0, 24.5, 40.0])))
    assert coverage[0] == pytest.approx(10 / 15, abs=0.02)
    assert coverage[1] == 0.0
    assert coverage[2] == 1.0
    _, low, high = curve.window_j(ns(np.array([21.0])), ns(np.array([23.0])))
    true = truth.window(np.array([21.0]), np.array([23.0]))
    assert low <= true <= high


def test_a_gap_of_a_power_sensor_widens_the_bounds(rng: np.random.Generator) -> None:
    truth = steps(rng, 60.0)
    samples = power_samples(rng, truth, dithered_polls(rng, 60.0, 0.04))
    whole, holed = (
        curve_of(samples, max_power_w=420.0),
        curve_of(drop(samples, 20.0, 24.0), max_power_w=420.0),
    )
    window = ns(np.array([15.0])), ns(np.array([30.0]))
    assert holed.coverage(*window)[0] == pytest.approx(11 / 15, abs=0.03)
    _, low, high = whole.window_j(*window)
    _, holed_low, holed_high = holed.window_j(*window)
    assert holed_high - holed_low > high - low


def test_an_idle_stretch_of_a_power_sensor_is_not_sloped_over() -> None:
    # 50 W for 9 s, then 250 W: updates every 0.1 s that repeat a value are updates all the same.
    t_s = np.arange(0, 12.0, 0.05)
    power_w = np.where(np.floor(t_s / 0.1) * 0.1 < 9.0, 50.0, 250.0)
    power_w[t_s < 1.0] = 50.0 + np.floor(t_s[t_s < 1.0] / 0.1) % 2
    from harness_coordinator.energy.records import SampleColumns

    curve = curve_of(SampleColumns(ns(t_s), np.zeros(0), power_w))
    joules = curve.window_j(ns(np.array([2.0])), ns(np.array([8.5])))[0]
    assert joules == pytest.approx(50.0 * 6.5, rel=0.01)
