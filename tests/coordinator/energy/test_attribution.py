"""Sharing: against a piece-by-piece reference, conserved to 1e-9, with idle, warm-ups and phases in their places."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from harness_coordinator.energy.conserve import check_conservation
from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import (
    ConservationError,
    QueryColumns,
    SampleColumns,
    SourceEnergy,
    SourceTraits,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.coordinator.energy.rig import (
    Run,
    batched_queries,
    counter_samples,
    curve_of,
    dithered_polls,
    measure_run,
    ns,
    power_samples,
    true_shares,
)

SLOW = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


def _random_queries(rng: np.random.Generator, count: int, length_s: float) -> QueryColumns:
    start = rng.uniform(-1, length_s - 0.5, count)
    duration = rng.choice([0.0, 1e-9, 0.3, 2.0], count) * rng.uniform(0.1, 1.9, count)
    first = start + duration * rng.uniform(0, 1, count)
    first_ns = np.where(rng.random(count) < 0.2, 0, ns(first))
    prompt = np.where(rng.random(count) < 0.1, np.nan, rng.integers(0, 2000, count))
    output = np.where(rng.random(count) < 0.1, np.nan, rng.integers(0, 300, count))
    return QueryColumns(
        ns(start), first_ns, ns(start + duration), prompt, output, counted=rng.random(count) > 0.2
    )


def _adds_up(result: SourceEnergy, queries: QueryColumns) -> None:
    counted = np.ones(len(queries.start_ns), bool) if queries.counted is None else queries.counted
    total = np.nansum(result.queries.joules[counted]) + result.unattributed_joules
    assert total == pytest.approx(result.device_joules, rel=1e-9, abs=1e-12)
    assert total == pytest.approx(result.attributed_joules + result.unattributed_joules, rel=1e-12)


@SLOW
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 60),
    method=st.sampled_from(["tokens", "time", "exclusive"]),
    inside=st.sampled_from(["linear", "shape", "auto"]),
    kind=st.sampled_from(["counter", "power"]),
    baseline=st.booleans(),
)
def test_joules_are_conserved_whatever_the_queries(
    seed: int, count: int, method: str, inside: str, kind: str, baseline: bool
) -> None:
    rng = np.random.default_rng(seed)
    length_s = 15.0
    from tests.coordinator.energy.rig import steps

    truth = steps(rng, length_s)
    polls = dithered_polls(rng, length_s, 0.04)
    samples = (counter_samples if kind == "counter" else power_samples)(rng, truth, polls)
    queries = _random_queries(rng, count, length_s)
    idle = [(int(ns(0.0)), int(ns(3.0)))] if baseline else []
    result = measure_source(
        SourceTraits("rig"),
        samples,
        queries,
        (int(ns(1.0)), int(ns(14.0))),
        idle,
        attribution=method,
        inside=inside,
    )
    _adds_up(result, queries)
    joules = result.queries.joules
    known = np.isfinite(joules)
    assert (joules[known] >= 0).all()
    assert (result.queries.joules_low[known] <= joules[known] + 1e-9).all()
    assert (result.queries.joules_high[known] >= joules[known] - 1e-9).all()
    if baseline and count:
        gross = result.queries.net_joules + result.queries.idle_joules
        assert gross[known] == pytest.approx(joules[known], rel=1e-9, abs=1e-9)
    phases = result.queries.prefill_joules + result.queries.decode_joules
    both = np.isfinite(phases)
    assert phases[both] == pytest.approx(joules[both], rel=1e-9, abs=1e-9)


def test_thirty_two_overlapping_queries_conserve_to_one_in_a_billion(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 400, 32, open_loop=True)
    result = measure_run(run, counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04)))
    total = result.queries.joules.sum() + result.unattributed_joules
    assert abs(total / result.device_joules - 1) <= 1e-9


def _by_hand(run: Run, result: SourceEnergy, samples: SampleColumns, alpha: float) -> list[float]:
    """Section 3 of the method, spelled out piece by piece in plain Python."""
    curve = curve_of(samples)
    middle = [(b.start_ns + b.end_ns) / 2 for b in result.baselines]
    idle_w = [b.power_w for b in result.baselines]
    queries = run.queries()
    events = {result.start_ns, result.end_ns}
    for column in (queries.start_ns, queries.first_token_ns, queries.end_ns):
        events |= {int(t) for t in column if result.start_ns < t < result.end_ns}
    joules = [0.0] * len(queries.start_ns)
    for begin, end in pairwise(sorted(events)):
        energy = float(curve.window_j(np.array(begin), np.array(end))[0])
        length_s = (end - begin) * 1e-9
        idle = min(float(np.interp((begin + end) / 2, middle, idle_w)) * length_s, energy)
        weights: dict[int, float] = {}
        for k in range(len(joules)):
            start, first, stop = (
                int(queries.start_ns[k]),
                int(queries.first_token_ns[k]),
                int(queries.end_ns[k]),
            )
            if start <= begin and end <= first:
                weights[k] = alpha * run.prompt[k] / ((first - start) * 1e-9)
            elif first <= begin and end <= stop:
                weights[k] = run.output[k] / ((stop - first) * 1e-9)
        for k, weight in weights.items():
            joules[k] += (energy - idle) * weight / sum(weights.values()) + idle / len(weights)
    return joules


def test_shares_equal_the_piece_by_piece_sum(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 40, 6, open_loop=True)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    result = measure_run(run, samples, alpha=0.3, inside="linear")
    assert result.queries.joules == pytest.approx(_by_hand(run, result, samples, 0.3), rel=1e-5)


@pytest.mark.parametrize("concurrency", [1, 4, 32])
def test_known_token_costs_are_found_again(rng: np.random.Generator, concurrency: int) -> None:
    run = batched_queries(rng, 300, concurrency, prompt_j=0.012, output_j=0.05)
    result = measure_run(run, counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04)))
    assert result.method == "counter-shape"
    assert result.alpha == pytest.approx(0.24, abs=max(4 * result.alpha_standard_error, 0.005))
    assert result.alpha_standard_error < 0.02
    error = np.abs(result.queries.joules / true_shares(run, 0.24) - 1)
    assert np.median(error) < 0.002
    assert np.percentile(error, 95) < 0.01


def test_too_few_queries_use_the_documented_alpha(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 3, 1)
    result = measure_run(run, counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04)))
    assert "alpha_default" in result.flags
    assert result.alpha == 0.25
    assert math.isnan(result.alpha_standard_error)


@pytest.mark.parametrize("true_alpha", [0.05, 0.24, 0.8])
def test_bounds_hold_the_truth_where_alpha_had_to_be_assumed(
    rng: np.random.Generator, true_alpha: float
) -> None:
    # Prompts of very different lengths in one batch: what a prompt token costs decides who pays.
    run = batched_queries(rng, 7, 3, prompt_j=true_alpha * 0.05, output_j=0.05)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    result = measure_run(run, samples)
    assert "alpha_default" in result.flags
    true = true_shares(run, true_alpha)
    rows = result.queries
    assert ((rows.joules_low <= true) & (true <= rows.joules_high)).all()
    sure_of_it = measure_run(run, samples, alpha=0.25).queries
    narrow = (sure_of_it.joules_low <= true) & (true <= sure_of_it.joules_high)
    assert narrow.all() == (true_alpha == 0.24)


def test_bounds_of_batched_queries_hold_the_truth_at_the_true_alpha(rng: np.random.Generator) -> None:
    inside: list[np.ndarray] = []
    for _ in range(12):
        run = batched_queries(rng, 60, 6, prompt_j=0.012, output_j=0.05)
        rows = measure_run(
            run, counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
        ).queries
        true = true_shares(run, 0.24)
        inside.append((rows.joules_low <= true) & (true <= rows.joules_high))
    assert np.concatenate(inside).mean() >= 0.99


def test_a_query_alone_has_the_bounds_of_its_window_whatever_alpha(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 3, 1)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    assumed, given = measure_run(run, samples), measure_run(run, samples, alpha=0.25)
    assert "alpha_default" in assumed.flags
    assert assumed.queries.joules_high == pytest.approx(given.queries.joules_high)
    assert assumed.queries.joules_low == pytest.approx(given.queries.joules_low)


def test_method_time_gives_two_equal_queries_half_each(rng: np.random.Generator) -> None:
    t_s = np.arange(0, 40, 0.05)
    samples = SampleColumns(ns(t_s), 100.0 * np.floor(t_s / 0.1) * 0.1, np.zeros(0))
    queries = QueryColumns(
        ns(np.array([10.0, 10.0])),
        np.zeros(2, np.int64),
        ns(np.array([20.0, 20.0])),
        np.array([1.0, 1000.0]),
        np.array([500.0, 5.0]),
    )
    result = measure_source(
        SourceTraits("rig"),
        samples,
        queries,
        (int(ns(5.0)), int(ns(25.0))),
        attribution="time",
        inside="linear",
    )
    assert result.queries.joules == pytest.approx([500.0, 500.0], rel=1e-3)
    assert result.unattributed_joules == pytest.approx(1000.0, rel=1e-3)
    assert "no_baseline" in result.flags
    assert np.isnan(result.queries.net_joules).all()


def test_exclusive_marks_queries_that_overlap(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 20, 2)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    result = measure_run(run, samples, attribution="exclusive")
    assert any("overlap" in flags for flags in result.queries.flags)
    _adds_up(result, run.queries())
    alone = batched_queries(rng, 20, 1)
    samples = counter_samples(rng, alone.truth, dithered_polls(rng, alone.length_s, 0.04))
    result = measure_run(alone, samples, attribution="exclusive")
    assert not any("overlap" in flags for flags in result.queries.flags)
    assert result.queries.joules == pytest.approx(alone.truth.window(alone.start_s, alone.end_s), rel=0.01)


def test_warm_ups_take_their_share_and_it_is_nobodys(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 60, 4)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    asked = run.queries()
    counted = np.arange(60) >= 5
    warm = QueryColumns(
        asked.start_ns,
        asked.first_token_ns,
        asked.end_ns,
        asked.prompt_tokens,
        asked.output_tokens,
        counted=counted,
    )
    without, with_warm_ups = measure_run(run, samples), measure_run(run, samples, warm)
    assert with_warm_ups.queries.joules == pytest.approx(without.queries.joules)
    moved = float(without.queries.joules[:5].sum())
    assert with_warm_ups.unattributed_joules == pytest.approx(without.unattributed_joules + moved)
    assert with_warm_ups.queries.flags[0] == ("warmup",)


def test_the_baseline_follows_the_line_between_before_and_after(rng: np.random.Generator) -> None:
    # Idle rises from 80 to 100 W over 100 s: a query half-way has 90 W of it.
    t_s = np.arange(0, 100, 0.02)
    power_w = np.where((t_s > 45) & (t_s < 55), 300.0, 80 + 0.2 * t_s)
    samples = SampleColumns(ns(t_s), np.zeros(0), power_w)
    one = QueryColumns(
        ns(np.array([45.0])),
        np.zeros(1, np.int64),
        ns(np.array([55.0])),
        np.array([np.nan]),
        np.array([np.nan]),
    )
    result = measure_source(
        SourceTraits("rig"),
        samples,
        one,
        (int(ns(45.0)), int(ns(55.0))),
        [(int(ns(0.0)), int(ns(20.0))), (int(ns(80.0)), int(ns(99.9)))],
        inside="linear",
    )
    assert result.queries.idle_joules[0] == pytest.approx(900.0, rel=0.002)
    assert [b.power_w for b in result.baselines] == pytest.approx([82.0, 98.0], rel=0.001)


def test_power_below_the_baseline_gives_no_negative_joules(rng: np.random.Generator) -> None:
    t_s = np.arange(0, 60, 0.02)
    power_w = np.where((t_s > 30) & (t_s < 32), 40.0, 100.0)
    samples = SampleColumns(ns(t_s), np.zeros(0), power_w)
    query = QueryColumns(
        ns(np.array([29.0])), np.zeros(1, np.int64), ns(np.array([33.0])), np.array([10.0]), np.array([10.0])
    )
    result = measure_source(
        SourceTraits("rig"),
        samples,
        query,
        (int(ns(25.0)), int(ns(35.0))),
        [(int(ns(1.0)), int(ns(20.0)))],
        inside="linear",
    )
    _adds_up(result, query)
    assert result.queries.net_joules[0] >= 0
    assert result.queries.joules[0] == pytest.approx(280.0, rel=0.01)
    assert "below_baseline" in result.queries.flags[0]


def test_chunk_times_move_joules_to_when_tokens_were_made(rng: np.random.Generator) -> None:
    # Two queries of equal tokens; one made all of its output in the last second, when the power was high.
    t_s = np.arange(0, 40, 0.02)
    power_w = np.where((t_s > 19) & (t_s < 20), 500.0, 100.0)
    samples = SampleColumns(ns(t_s), np.zeros(0), power_w)
    late = ns(np.linspace(19.05, 20.0, 20))
    steady = ns(np.linspace(10.5, 20.0, 20))
    base = (ns(np.array([10.0, 10.0])), ns(np.array([10.1, 10.1])), ns(np.array([20.0, 20.0])))
    tokens = np.array([10.0, 10.0]), np.array([100.0, 100.0])
    window = int(ns(5.0)), int(ns(25.0))
    plain = measure_source(SourceTraits("rig"), samples, QueryColumns(*base, *tokens), window, alpha=0.2)
    chunked = measure_source(
        SourceTraits("rig"), samples, QueryColumns(*base, *tokens, chunk_ns=[steady, late]), window, alpha=0.2
    )
    assert plain.queries.joules[0] == pytest.approx(plain.queries.joules[1])
    assert chunked.queries.joules.sum() == pytest.approx(plain.queries.joules.sum(), rel=1e-6)
    assert chunked.queries.joules[0] > chunked.queries.joules[1]
    _adds_up(chunked, QueryColumns(*base, *tokens))


def test_energy_that_does_not_add_up_is_refused() -> None:
    check_conservation(100.0, 60.0, 40.0 + 5e-8, "a run")
    with pytest.raises(ConservationError, match="nothing of it is stored"):
        check_conservation(100.0, 60.0, 40.001, "a run")
    with pytest.raises(ConservationError):
        check_conservation(100.0, math.nan, 40.0, "a run")
