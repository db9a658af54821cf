"""What is wrong with samples or windows is flagged or refused in words, never turned into a silent number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import (
    BadSamplesError,
    QueryColumns,
    SampleColumns,
    SourceEnergy,
    SourceTraits,
)

from tests.coordinator.energy.rig import (
    batched_queries,
    counter_samples,
    dithered_polls,
    drop,
    measure_run,
    no_queries,
    ns,
    windows_as_queries,
)

SAMPLES_S = np.arange(0, 30, 0.05)
STEADY = SampleColumns(ns(SAMPLES_S), 1000 + 100 * np.floor(SAMPLES_S / 0.1) * 0.1, np.zeros(0))
WINDOW = int(ns(np.array(1.0))), int(ns(np.array(29.0)))


def _measure(samples: SampleColumns, start: list[float], end: list[float]) -> SourceEnergy:
    return measure_source(
        SourceTraits("rig"),
        samples,
        windows_as_queries(np.array(start), np.array(end)),
        WINDOW,
        inside="linear",
    )


def test_samples_out_of_order_are_sorted_and_flagged(rng: np.random.Generator) -> None:
    order = rng.permutation(len(SAMPLES_S))
    shuffled = SampleColumns(STEADY.t_ns[order], STEADY.energy_j[order], np.zeros(0))
    result, straight = _measure(shuffled, [5.0], [15.0]), _measure(STEADY, [5.0], [15.0])
    assert "samples_reordered" in result.flags
    assert result.queries.joules == pytest.approx(straight.queries.joules)
    assert result.device_joules == pytest.approx(straight.device_joules)


def test_duplicated_samples_count_once_and_are_flagged() -> None:
    doubled = SampleColumns(np.repeat(STEADY.t_ns, 2), np.repeat(STEADY.energy_j, 2), np.zeros(0))
    result = _measure(doubled, [5.0], [15.0])
    assert "duplicate_samples" in result.flags
    assert result.queries.joules[0] == pytest.approx(1000.0, rel=0.001)


@pytest.mark.parametrize("bad", [np.nan, -5.0, np.inf])
def test_absent_and_impossible_readings_are_left_out(bad: float) -> None:
    energy = STEADY.energy_j.copy()
    energy[100:103] = bad
    result = _measure(SampleColumns(STEADY.t_ns, energy, np.zeros(0)), [2.0], [28.0])
    assert result.queries.joules[0] == pytest.approx(2600.0, rel=0.001)
    assert ("bad_samples" in result.flags) == (not np.isnan(bad))


def test_windows_outside_the_data_have_no_joules() -> None:
    result = _measure(STEADY, [-50.0, 100.0, 20.0], [-40.0, 110.0, 60.0])
    assert np.isnan(result.queries.joules[:2]).all()
    assert result.queries.flags[0] == ("no_samples", "outside_window")
    assert result.queries.coverage[:2].tolist() == [0.0, 0.0]
    assert "outside_samples" in result.queries.flags[2]
    assert result.queries.coverage[2] == pytest.approx(0.25, abs=0.01)
    assert result.queries.joules_high[2] > 4000 > result.queries.joules[2]


def test_a_window_that_ends_before_it_starts_has_no_joules() -> None:
    result = _measure(STEADY, [10.0, 12.0], [9.0, 14.0])
    assert np.isnan(result.queries.joules[0])
    assert "end_before_start" in result.queries.flags[0]
    assert result.queries.joules[1] == pytest.approx(200.0, rel=0.001)
    assert result.attributed_joules == pytest.approx(200.0, rel=0.001)


def test_a_window_of_no_length_holds_nothing_and_says_so() -> None:
    result = _measure(STEADY, [10.0], [10.0])
    assert result.queries.joules.tolist() == [0.0]
    assert "zero_length" in result.queries.flags[0]


def test_a_gap_is_flagged_on_the_queries_it_touches(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 80, 2)
    samples = drop(counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04)), 20.0, 22.0)
    result = measure_run(run, samples)
    assert "gap" in result.flags
    touched = (run.start_s < 21.8) & (run.end_s > 20.2)
    flagged = np.array(["gap" in flags for flags in result.queries.flags])
    assert flagged[touched].all()
    assert not flagged[(run.end_s < 19.5) | (run.start_s > 22.5)].any()
    assert (result.queries.coverage[touched] < 1).all()


def test_throttling_is_flagged_where_it_happened() -> None:
    bits = np.where((SAMPLES_S > 10) & (SAMPLES_S < 11), 2, 0).astype(np.int64)
    samples = SampleColumns(STEADY.t_ns, STEADY.energy_j, np.zeros(0), throttle_bits=bits)
    result = _measure(samples, [5.0, 10.5], [6.0, 12.0])
    assert "throttled" not in result.queries.flags[0]
    assert "throttled" in result.queries.flags[1]


def test_first_tokens_and_counts_that_cannot_be_are_ignored_and_flagged() -> None:
    queries = QueryColumns(
        ns(np.array([5.0, 10.0])),
        ns(np.array([99.0, 10.5])),
        ns(np.array([6.0, 12.0])),
        np.array([10.0, -3.0]),
        np.array([10.0, np.nan]),
    )
    result = measure_source(SourceTraits("rig"), STEADY, queries, WINDOW, inside="linear")
    assert result.queries.flags[0] == ("first_token_outside",)
    assert np.isnan(result.queries.prefill_joules[0])
    assert result.queries.flags[1] == ("tokens_unknown",)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (SampleColumns(np.zeros(0, np.int64), np.zeros(0), np.zeros(0)), "no usable energy or power reading"),
        (
            SampleColumns(STEADY.t_ns, np.full(len(SAMPLES_S), np.nan), np.zeros(0)),
            "no usable energy or power",
        ),
        (
            SampleColumns(STEADY.t_ns, STEADY.energy_j[:-1], np.zeros(0)),
            "column energy_j has 599 values for 600",
        ),
        (
            SampleColumns(STEADY.t_ns, np.full(len(SAMPLES_S), 7.0), np.zeros(0)),
            "changed fewer than two times",
        ),
    ],
)
def test_samples_without_energy_are_refused_in_words(samples: SampleColumns, message: str) -> None:
    with pytest.raises(BadSamplesError, match=message):
        measure_source(SourceTraits("rig"), samples, no_queries(), WINDOW)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"attribution": "shapley"}, "attribution is 'shapley'; it must be one of tokens, time, exclusive"),
        ({"method": "guess"}, "method is 'guess'"),
        ({"inside": "spline"}, "inside is 'spline'"),
        ({"method": "power"}, "no power reading; use method counter or auto"),
    ],
)
def test_arguments_that_do_not_exist_are_named(how: dict[str, Any], message: str) -> None:
    with pytest.raises(BadSamplesError, match=message):
        measure_source(SourceTraits("rig"), STEADY, no_queries(), WINDOW, **how)


def test_a_run_without_queries_is_all_unattributed() -> None:
    result = measure_source(SourceTraits("rig"), STEADY, no_queries(), WINDOW)
    assert result.unattributed_joules == pytest.approx(2800.0, rel=0.001)
    assert result.attributed_joules == 0.0


def test_a_run_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(BadSamplesError, match="before it starts"):
        measure_source(SourceTraits("rig"), STEADY, no_queries(), (WINDOW[1], WINDOW[0]))
