"""A real H200: recordings of its sensors, and of vLLM on it, that this project made (docs/hardware-runs.md)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import QueryColumns, SampleColumns, SourceEnergy, SourceTraits

from benchmarks.gpu_recording import Recording, caused_j, singles_measured
from benchmarks.gpu_sensor import phase_mean_w

pq = pytest.importorskip("pyarrow.parquet")
RECORDINGS = Path(__file__).resolve().parents[3] / "benchmarks" / "recordings"


@pytest.fixture(scope="module")
def h200() -> Recording:
    return Recording.read(RECORDINGS / "nvidia-h200")


def test_the_counter_misses_nothing_that_the_power_reading_does_not_see(h200: Recording) -> None:
    start, end = h200.part("beats")
    tick_ns, tick_j = h200.ticks()
    inside = (tick_ns > start[0]) & (tick_ns < end[-1])
    seconds = (tick_ns[inside][-1] - tick_ns[inside][0]) * 1e-9
    counter_w = (tick_j[inside][-1] - tick_j[inside][0]) / seconds
    assert phase_mean_w(h200) == pytest.approx(counter_w, rel=0.03)
    polls = h200.polls(int(start[0]), int(end[-1]))
    second = ((polls.t_ns - start[0]) // 1_000_000_000).astype(int)
    seen_w = np.bincount(second, polls.power_w) / np.bincount(second)
    assert seen_w.min() < 0.5 * counter_w, (
        "the reading beats with the load: its integral over 1 s means nothing"
    )
    assert seen_w.max() > 1.5 * counter_w


def test_single_bursts_have_the_joules_that_they_caused(h200: Recording) -> None:
    start, end = h200.part("singles")
    true = caused_j(h200, start, end)
    result = singles_measured(h200)
    assert result.method == "counter-shape"
    assert result.explained > 0.95
    assert -0.02 < result.lag_s < 0
    long = end - start > 80_000_000
    assert long.sum() >= 40
    found = result.queries
    assert found.joules[long].sum() == pytest.approx(true[long].sum(), rel=0.01)
    held = (found.joules_low <= true) & (true <= found.joules_high)
    assert held[long].mean() >= 0.99
    at_edges = h200.bursts["counter_end_j"] - h200.bursts["counter_start_j"]
    at_edges = at_edges[h200.bursts["part"] == "singles"]
    assert at_edges[long].sum() < 0.9 * true[long].sum(), "what the counter says at the edges is too little"


def _vllm(*, with_baselines: bool) -> SourceEnergy:
    folder = RECORDINGS / "nvidia-h200-vllm"
    facts = json.loads((folder / "facts.json").read_text())
    samples, queries = (
        pq.read_table(folder / f"{name}.parquet").to_pydict() for name in ("samples", "queries")
    )
    names = ("max_power_w", "averaging_s", "counter_period_s", "power_period_s")
    return measure_source(
        SourceTraits("gpu", "gpu", counter_resolution_j=1e-3, **{name: facts[name] for name in names}),
        SampleColumns(
            *(np.array(samples[name]) for name in ("t_ns", "energy_j", "power_w", "half_width_ns"))
        ),
        QueryColumns(
            *(
                np.array(queries[name])
                for name in ("start_ns", "first_token_ns", "end_ns", "prompt_tokens", "output_tokens")
            ),
            chunk_ns=[np.array(times, np.int64) for times in queries["chunk_ns"]],
            counted=np.array(queries["counted"]),
        ),
        tuple(facts["window_ns"]),
        [tuple(window) for window in facts["baseline_windows_ns"]] if with_baselines else (),
    )


def test_an_engine_that_loads_and_compiles_teaches_nothing_about_its_queries() -> None:
    # 92 s of loading, compiling and capturing graphs beside 3.5 s of queries: power that no query explains.
    blurred, told = _vllm(with_baselines=False), _vllm(with_baselines=True)
    assert blurred.explained < 0.25
    assert told.explained > 0.95
    assert told.method == "counter-shape"
    assert told.alpha_standard_error > 0
    assert dict(told.load_levels)["idle"] == pytest.approx(told.baselines[0].power_w, abs=0.5)


def test_queries_shorter_than_a_tick_have_useful_bounds() -> None:
    told = _vllm(with_baselines=True)
    counted = told.queries.joules > 0
    width = (told.queries.joules_high - told.queries.joules_low)[counted]
    # A tick of this load holds 14 J; half a tick's energy is known although most queries took less than a tick.
    assert counted.sum() >= 50
    assert np.median(width) < 6
    assert (told.queries.joules_low[counted] <= told.queries.joules[counted]).all()
    assert (told.queries.joules[counted] <= told.queries.joules_high[counted]).all()
