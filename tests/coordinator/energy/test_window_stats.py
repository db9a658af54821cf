"""Average, largest, median and smallest of a sampled quantity."""

from __future__ import annotations

import numpy as np
import pytest
from harness_coordinator.energy.window_stats import window_stats

from tests.coordinator.energy.rig import ns


def test_statistics_equal_those_taken_window_by_window(rng: np.random.Generator) -> None:
    t_s = np.sort(rng.uniform(0, 100, 2000))
    value = rng.uniform(50, 400, 2000)
    value[::7] = np.nan
    start = rng.uniform(1, 80, 50)
    end = start + rng.uniform(0.5, 15, 50)
    order = rng.permutation(2000)
    stats = window_stats(ns(t_s)[order], value[order], ns(start), ns(end))
    known = np.isfinite(value)
    for k in range(50):
        inside = value[known & (t_s >= start[k]) & (t_s <= end[k])]
        assert stats.largest[k] == inside.max()
        assert stats.smallest[k] == inside.min()
        assert stats.median[k] == np.median(inside)
        fine = np.linspace(start[k], end[k], 40_001)
        assert stats.average[k] == pytest.approx(np.interp(fine, t_s[known], value[known]).mean(), rel=1e-3)


def test_the_average_weighs_time_not_readings() -> None:
    t_s = np.array([0.0, 0.1, 0.2, 0.3, 10.0])
    value = np.array([100.0, 100.0, 100.0, 100.0, 100.0])
    value[:4] = 0.0
    stats = window_stats(ns(t_s), value, ns(np.array([0.3])), ns(np.array([10.0])))
    assert stats.average[0] == pytest.approx(50.0)


def test_windows_between_outside_and_reversed() -> None:
    t_s, value = np.array([0.0, 10.0]), np.array([100.0, 200.0])
    stats = window_stats(ns(t_s), value, ns(np.array([4.0, 20.0, 8.0])), ns(np.array([6.0, 30.0, 7.0])))
    assert [stats.average[0], stats.largest[0], stats.median[0], stats.smallest[0]] == pytest.approx(
        [150.0] * 4
    )
    assert np.isnan(stats.average[1:]).all()
    assert np.isnan(stats.median[1:]).all()


def test_no_readings_give_absent_values() -> None:
    stats = window_stats(ns(np.array([1.0])), np.array([np.nan]), ns(np.array([0.0])), ns(np.array([2.0])))
    assert np.isnan([stats.average[0], stats.largest[0], stats.median[0], stats.smallest[0]]).all()
