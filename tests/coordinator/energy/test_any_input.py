"""Whatever a source sends and a run asks: ordered finite joules that add up, or one sentence."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import EnergyError, Float64, QueryColumns, SampleColumns, SourceTraits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.coordinator.energy.rig import counter_samples, dithered_polls, ns, power_samples, steps


def _holed(rng: np.random.Generator, column: Float64) -> Float64:
    return np.where(rng.random(len(column)) < 0.3, np.nan, column) if rng.random() < 0.2 else column


def _samples(rng: np.random.Generator, length_s: float) -> SampleColumns:
    truth = steps(rng, length_s + 1)
    polls = dithered_polls(rng, length_s, rng.choice([0.005, 0.02, 0.05, 0.3, 1.0]))
    polls = polls[rng.random(len(polls)) > rng.choice([0.0, 0.3])]
    period_s = rng.choice([0.001, 0.02, 0.1, 1.0])
    none = np.zeros(0)
    energy = counter_samples(
        rng,
        truth,
        polls,
        period_s,
        resolution_j=rng.choice([1e-5, 1e-3, 1.0]),
        reset_s=rng.choice([np.inf, length_s / 2]),
        jitter=rng.choice([0.0, 0.2]),
    ).energy_j
    power = power_samples(rng, truth, polls, period_s, averaging_s=rng.choice([0.0, 0.025, 0.1, 1.0])).power_w
    kind = rng.choice(["counter", "power", "both", "frame", "frozen"])
    if kind == "frozen":
        energy, power = np.full(len(polls), 5.0), np.full(len(polls), 70.0)
    return SampleColumns(
        ns(polls),
        none if kind == "power" else _holed(rng, energy),
        none if kind in {"counter", "frame"} else _holed(rng, power),
        half_width_ns=rng.integers(0, 2_000_000, len(polls)),
        interval_ns=np.diff(ns(polls), prepend=ns(0.0)) if kind == "frame" else np.zeros(0, np.int64),
        throttle_bits=rng.integers(0, 8, len(polls)),
    )


def _queries(rng: np.random.Generator, length_s: float) -> QueryColumns:
    count = int(rng.integers(0, 40))
    start = rng.uniform(-1, length_s + 1, count)
    duration = rng.choice([0.0, 1e-9, 0.05, 0.5, 3.0], count) * rng.uniform(0.5, 1.5, count)
    chunks = [
        ns(np.sort(a + b * rng.random(rng.integers(0, 10)))) for a, b in zip(start, duration, strict=True)
    ]
    return QueryColumns(
        ns(start),
        np.where(rng.random(count) < 0.3, 0, ns(start + duration * rng.uniform(0, 1.2, count))),
        ns(start + duration * rng.choice([1, 1, 1, -1], count)),
        np.where(rng.random(count) < 0.1, np.nan, rng.integers(0, 2000, count)),
        np.where(rng.random(count) < 0.1, np.nan, rng.integers(0, 300, count)),
        chunk_ns=chunks if rng.random() < 0.4 else None,
        counted=rng.random(count) > 0.2,
    )


def _how(rng: np.random.Generator, queries: QueryColumns) -> dict[str, Any]:
    return {
        "attribution": str(rng.choice(["tokens", "time", "exclusive"])),
        "method": str(rng.choice(["auto", "auto", "counter", "power"])),
        "inside": str(rng.choice(["auto", "shape", "linear"])),
        "alpha": 0.3 if rng.random() < 0.5 else None,
        "activity": queries if rng.random() < 0.2 else None,
    }


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**31))
def test_any_input_gives_ordered_finite_joules_or_a_sentence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    length_s = float(rng.choice([0.2, 1.0, 3.0, 10.0, 40.0]))
    samples, queries = _samples(rng, length_s), _queries(rng, length_s)
    traits = SourceTraits(
        "any",
        counter_period_s=rng.choice([np.nan, 0.1]),
        averaging_s=rng.choice([np.nan, 0.0, 0.1, 1.0]),
        max_power_w=rng.choice([np.nan, 400.0]),
    )
    begin = rng.uniform(-0.5, length_s * 0.3)
    run = int(ns(begin)), int(ns(begin + rng.choice([0.0, 0.1, length_s * 0.6])))
    idle = [(int(ns(0.0)), int(ns(rng.uniform(0, length_s))))] if rng.random() < 0.6 else []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result, refused = None, ""
        try:
            result = measure_source(traits, samples, queries, run, idle, **_how(rng, queries))
        except EnergyError as refusal:
            refused = str(refusal)
    if result is None:
        assert "source any" in refused or "frames" in refused
        return
    rows = result.queries
    known = np.isfinite(rows.joules)
    assert np.isfinite([result.device_joules_low, result.device_joules, result.device_joules_high]).all()
    assert result.device_joules_low <= result.device_joules + 1e-6
    assert result.device_joules <= result.device_joules_high + 1e-6
    assert (rows.joules[known] >= 0).all()
    assert (rows.joules_low[known] <= rows.joules[known] + 1e-9).all()
    assert (rows.joules[known] <= rows.joules_high[known] + 1e-9).all()
    assert np.isfinite(rows.joules_high[known]).all()
    given_out = np.nansum(rows.joules[queries.counted]) + result.unattributed_joules
    assert abs(given_out - result.device_joules) <= 1e-9 * max(result.device_joules, 1e-6)
