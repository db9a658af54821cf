"""Sums over sources keep measured and estimated, and a scope and what contains it, apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from harness_coordinator.energy.records import BadSamplesError, SourceEnergy, SourceTraits
from harness_coordinator.energy.source_sums import sum_sources

from tests.coordinator.energy.rig import batched_queries, counter_samples, dithered_polls, measure_run


@pytest.fixture
def gpu(rng: np.random.Generator) -> SourceEnergy:
    run = batched_queries(rng, 20, 2)
    samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.04))
    return measure_run(run, samples, traits=SourceTraits("gpu0", scope="gpu"))


def test_eight_cards_of_one_engine_add_up(gpu: SourceEnergy) -> None:
    cards = [replace(gpu, source_id=f"gpu{k}") for k in range(8)]
    (total,) = sum_sources(cards, {})
    assert total.device_joules == pytest.approx(8 * gpu.device_joules)
    assert total.joules == pytest.approx(8 * gpu.queries.joules)
    whole = total.joules.sum() + total.unattributed_joules
    assert whole == pytest.approx(total.device_joules, rel=1e-9)
    assert (total.joules_low <= total.joules).all()
    assert (total.joules <= total.joules_high).all()


def test_estimates_and_other_scopes_stay_apart(gpu: SourceEnergy) -> None:
    package = replace(gpu, source_id="package-0", scope="package")
    guess = replace(gpu, source_id="guess", scope="package", energy_source="estimated")
    sums = sum_sources([gpu, package, guess], {})
    assert [(total.scope, total.estimated, total.source_ids) for total in sums] == [
        ("gpu", False, ("gpu0",)),
        ("package", False, ("package-0",)),
        ("package", True, ("guess",)),
    ]


def test_what_is_contained_is_not_counted_twice(gpu: SourceEnergy) -> None:
    module = replace(gpu, source_id="module", scope="module")
    sums = sum_sources([gpu, module], {"gpu0": "module"})
    assert [total.source_ids for total in sums] == [("module",)]
    assert [total.source_ids for total in sum_sources([gpu], {"gpu0": "module"})] == [("gpu0",)]


def test_a_query_that_one_source_missed_has_no_sum(gpu: SourceEnergy) -> None:
    holed = gpu.queries.joules.copy()
    holed[3] = np.nan
    other = replace(gpu, source_id="gpu1", queries=replace(gpu.queries, joules=holed))
    (total,) = sum_sources([gpu, other], {})
    assert np.isnan(total.joules[3])
    assert np.isfinite(np.delete(total.joules, 3)).all()


def test_sources_over_different_queries_are_refused(gpu: SourceEnergy) -> None:
    fewer = replace(gpu.queries, joules=gpu.queries.joules[:-1])
    with pytest.raises(BadSamplesError, match="different queries"):
        sum_sources([gpu, replace(gpu, source_id="gpu1", queries=fewer)], {})
