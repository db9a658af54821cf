"""Live attribution: the same joules as over the whole recording, at a cost that does not grow."""

from __future__ import annotations

import numpy as np
import pytest
from harness_coordinator.energy.load_model import LoadModel
from harness_coordinator.energy.records import QueryColumns, SampleColumns, SourceTraits
from harness_coordinator.energy.shape import LoadErrors
from harness_coordinator.energy.streaming import LiveModel, StreamingAttributor

from tests.coordinator.energy.rig import (
    Run,
    batched_queries,
    counter_samples,
    dithered_polls,
    measure_run,
    ns,
    power_samples,
)


def _rows(queries: QueryColumns, rows: np.ndarray) -> QueryColumns:
    return QueryColumns(
        queries.start_ns[rows],
        queries.first_token_ns[rows],
        queries.end_ns[rows],
        queries.prompt_tokens[rows],
        queries.output_tokens[rows],
    )


def _play(run: Run, samples: SampleColumns, live: StreamingAttributor, every_s: float) -> dict[int, float]:
    """Feed a recording as a coordinator would get it; returns joules by query."""
    queries = run.queries()
    by_end = np.argsort(queries.end_ns)
    joules: dict[int, float] = {}
    given = polled = 0
    for t_s in np.arange(every_s, run.length_s + every_s, every_s):
        now = int(ns(np.array(t_s)))
        upto = int(np.searchsorted(samples.t_ns, now))
        block = slice(polled, upto)
        energy, power = (
            column[block] if len(column) else column for column in (samples.energy_j, samples.power_w)
        )
        live.add_samples(SampleColumns(samples.t_ns[block], energy, power))
        polled = upto
        ended = int(np.searchsorted(queries.end_ns[by_end], now, side="right"))
        rows = by_end[given:ended]
        assert live.add_queries(rows, _rows(queries, rows)) == []
        given = ended
        still_open = by_end[given:]
        watermark = min(now, int(queries.start_ns[still_open].min())) if len(still_open) else now
        done = live.advance(watermark)
        joules |= dict(zip(done.key.tolist(), done.joules.tolist(), strict=True))
    return joules


@pytest.mark.parametrize("kind", ["counter", "power"])
@pytest.mark.parametrize("every_s", [0.5, 5.0])
def test_live_joules_equal_those_of_the_recording(
    rng: np.random.Generator, kind: str, every_s: float
) -> None:
    run = batched_queries(rng, 200, 6)
    polls = dithered_polls(rng, run.length_s, 0.04)
    samples = (counter_samples if kind == "counter" else power_samples)(rng, run.truth, polls)
    batch = measure_run(run, samples, alpha=0.24, inside="linear")
    live = StreamingAttributor(
        SourceTraits("rig", energy_source=kind),
        alpha=0.24,
        baseline_w=batch.baselines[0].power_w,
        origin_ns=int(ns(np.array(1.0))),
    )
    joules = _play(run, samples, live, every_s)
    assert len(joules) == 200
    assert live.in_flight == 0
    difference = np.abs(np.array([joules[k] for k in range(200)]) / batch.queries.joules - 1)
    # The live lock knows the tick to a millisecond, the recording's to a tenth of one: 1 ms of 400 W is 0.4 J.
    # Live power is held between polls: half a poll of a 300 W step is 6 J.
    assert np.median(difference) < 0.01
    assert np.percentile(difference, 95) < (0.05 if kind == "counter" else 0.1)
    assert live.attributed_j == pytest.approx(
        batch.attributed_joules, rel=0.001 if kind == "counter" else 0.02
    )


def test_a_known_load_model_shapes_live_energy_too(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 200, 4)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    batch = measure_run(run, samples, alpha=0.24)
    levels = dict(batch.load_levels)
    idle_w = levels.pop("idle")
    model = LoadModel(tuple(levels), idle_w, np.array(list(levels.values())), batch.lag_s)
    live = StreamingAttributor(
        SourceTraits("rig"),
        alpha=0.24,
        baseline_w=batch.baselines[0].power_w,
        origin_ns=int(ns(np.array(1.0))),
        live_model=LiveModel(model, LoadErrors(1e-6, 1e-6, 0.0, 3.0)),
    )
    joules = _play(run, samples, live, 1.0)
    difference = np.abs(np.array([joules[k] for k in range(200)]) / batch.queries.joules - 1)
    assert np.median(difference) < 0.002
    assert np.percentile(difference, 95) < 0.01


def test_nothing_is_settled_beyond_the_watermark(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 20, 2)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    live = StreamingAttributor(
        SourceTraits("rig"), alpha=0.24, baseline_w=90.0, origin_ns=int(ns(np.array(0.0)))
    )
    live.add_samples(samples)
    live.advance(int(ns(np.array(12.0))))
    assert live.settled_ns <= int(ns(np.array(12.0)))
    assert live.device_j == pytest.approx(90.0 * 12.0, rel=0.02)
    late = _rows(run.queries(), np.array([0, 1]))
    moved = QueryColumns(
        late.start_ns - 10_000_000_000,
        late.first_token_ns,
        late.end_ns,
        late.prompt_tokens,
        late.output_tokens,
    )
    assert live.add_queries([7, 8], moved) == [7, 8]


def test_what_is_kept_does_not_grow_with_the_run(rng: np.random.Generator) -> None:
    run = batched_queries(rng, 400, 4)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    live = StreamingAttributor(
        SourceTraits("rig"), alpha=0.24, baseline_w=90.0, origin_ns=int(ns(np.array(0.0)))
    )
    joules = _play(run, samples, live, 1.0)
    assert len(joules) == 400
    # Edges between the watermark and the last poll, and the polls that lock the tick.
    assert live.kept <= 400


@pytest.mark.parametrize("in_flight", [1, 3])
def test_the_time_after_a_last_chunk_is_nobodys_loss(rng: np.random.Generator, in_flight: int) -> None:
    """A query waits for its end with no token to come, cut off from hundreds of chunks that are settled already."""
    start_s = 1.0 + np.arange(12.0) * 2.0 / in_flight
    last_s = start_s + 1.6
    chunk_s = [np.sort(rng.uniform(s + 0.1, e, 300)) for s, e in zip(start_s, last_s, strict=True)]
    queries = QueryColumns(
        ns(start_s),
        ns(np.array([chunks[0] for chunks in chunk_s])),
        ns(last_s + 0.35),
        np.full(12, 40.0),
        np.full(12, 300.0),
        [ns(chunks) for chunks in chunk_s],
    )
    t_s = np.arange(0.5, 30.0, 0.05)
    energy_j = np.cumsum(rng.uniform(1.0, 4.0, len(t_s)))
    live = StreamingAttributor(
        SourceTraits("cpu", energy_source="estimated", counter_period_s=0.0),
        alpha=0.24,
        baseline_w=10.0,
        origin_ns=int(ns(np.array(0.6))),
    )
    assert live.add_queries(list(range(12)), queries) == []
    for now_s in np.arange(1.0, 30.0, 0.37):  # conservation is checked at each step
        polled = (t_s > now_s - 0.37) & (t_s <= now_s)
        live.add_samples(SampleColumns(ns(t_s[polled]), energy_j[polled], np.zeros(0)))
        live.advance(int(ns(np.array(now_s))))
    assert live.in_flight == 0
