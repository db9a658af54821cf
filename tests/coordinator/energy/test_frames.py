"""Frames of powermetrics: energy of each on the source's own clock, holes marked."""

from __future__ import annotations

import numpy as np
import pytest
from harness_coordinator.energy.records import Float64, SampleColumns, SourceTraits

from tests.coordinator.energy.rig import (
    Truth,
    batched_queries,
    curve_of,
    measure_run,
    ns,
    steps,
    true_shares,
)


def _frames(
    rng: np.random.Generator, truth: Truth, length_s: float, period_s: float = 0.2
) -> tuple[Float64, SampleColumns]:
    elapsed = period_s * rng.uniform(0.98, 1.05, int(length_s / period_s))
    end = np.cumsum(elapsed)
    inside = end < length_s
    elapsed, end = elapsed[inside], end[inside]
    delay = rng.exponential(0.004, len(end))
    return end, SampleColumns(
        ns(end + delay), truth.energy(end), np.zeros(0), interval_ns=np.rint(elapsed * 1e9).astype(np.int64)
    )


def test_frames_give_the_energy_of_their_own_times(rng: np.random.Generator) -> None:
    truth = steps(rng, 120.0)
    end, samples = _frames(rng, truth, 120.0)
    curve = curve_of(samples)
    assert np.abs(curve.edges.t_s[1:] + (samples.t_ns[0] - ns(np.array(0.0))) * 1e-9 - end).max() < 0.004
    start = rng.uniform(1, 110, 300)
    true = truth.window(start, start + 2.0)
    joules, low, high = curve.window_j(ns(start), ns(start + 2.0))
    assert np.median(np.abs(joules / true - 1)) < 0.01
    assert ((low <= true) & (true <= high)).mean() >= 0.99


def test_a_lost_frame_is_a_gap_and_its_energy_a_guess(rng: np.random.Generator) -> None:
    truth = steps(rng, 60.0)
    _, samples = _frames(rng, truth, 60.0)
    keep = np.ones(len(samples.t_ns), bool)
    keep[100:105] = False
    # Frames carry their own energy only: what the lost ones held is in no total.
    own = np.diff(np.append(0.0, samples.energy_j))[keep]
    holed = SampleColumns(
        samples.t_ns[keep], np.cumsum(own), np.zeros(0), interval_ns=samples.interval_ns[keep]
    )
    curve = curve_of(holed)
    start, end = np.array([18.0]), np.array([24.0])
    assert 0.75 < curve.coverage(ns(start), ns(end))[0] < 0.9
    _, low, high = curve.window_j(ns(start), ns(end))
    assert low <= truth.window(start, end) <= high


def test_queries_on_a_frame_source_follow_the_load(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 150, 2)
    _, samples = _frames(rng, run.truth, run.length_s)
    result = measure_run(run, samples, traits=SourceTraits("rig", energy_source="frame"))
    assert result.method == "frame-shape"
    error = np.abs(result.queries.joules / true_shares(run, result.alpha) - 1)
    assert np.median(error) < 0.01
    assert result.device_joules == pytest.approx(
        run.truth.window(np.array(11.0), np.array(run.length_s - 11.0)), rel=0.002
    )
