"""An index finds what the exact search finds, and travels with its router."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
from harness_analysis.routing import Queries
from harness_analysis.routing.nearest import KNearest
from harness_analysis.routing.vector_index import (
    WANTED_RECALL,
    ExactIndex,
    InvertedFile,
    make_index,
    recall_of,
)

from tests.analysis.routing_worlds import topic_world


def unit_vectors(n: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((40, 16))
    vectors = centres[random.integers(0, 40, n)] + 0.5 * random.standard_normal((n, 16))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_index_reaches_the_recall_it_states() -> None:
    stored, asked = unit_vectors(4_000, 1), unit_vectors(200, 2)
    index = InvertedFile(stored, 20)
    found, true = index.nearest(asked, 20), ExactIndex(stored).nearest(asked, 20)
    assert index.recall >= WANTED_RECALL
    assert recall_of(found, true) > WANTED_RECALL - 0.05
    assert recall_of(true, true) == 1.0
    assert recall_of(found[:, ::-1], found) == 1.0
    assert recall_of(np.array([[1, 2]]), np.array([[2, 3]])) == 0.5


def test_queries_that_resemble_no_stored_one_are_told_what_they_miss() -> None:
    stored = unit_vectors(4_000, 1)
    strangers = np.random.default_rng(7).standard_normal((60, 16))
    strangers /= np.linalg.norm(strangers, axis=1, keepdims=True)
    index = InvertedFile(stored, 20)
    index._search(1)
    found, true = index.nearest(strangers, 20), ExactIndex(stored).nearest(strangers, 20)
    assert recall_of(found, true) < 0.9
    # It compares vectors in half precision: a tie may fall the other way.
    assert abs(index.recall_for(strangers, 20) - recall_of(found, true)) < 0.01
    assert index.nearest(strangers, 20).tolist() == found.tolist(), "measuring changes nothing"


def test_a_router_with_an_index_scores_as_the_exact_one_and_is_the_same_after_a_file() -> None:
    n = 2_000
    world, vectors = topic_world(n), unit_vectors(n, 3)
    world = replace(world, correct=np.random.default_rng(0).random((n, 3)).round())
    asked = Queries(unit_vectors(50, 4))
    exact, fast = KNearest(20), KNearest(20, approximate_from=1)
    exact.fit(world, vectors)
    fast.fit(world, vectors)
    assert exact.recall == 1.0
    assert fast.recall >= WANTED_RECALL
    assert np.abs(exact.scores(asked) - fast.scores(asked)).mean() < 0.02
    again = pickle.loads(pickle.dumps(fast))  # noqa: S301 - made two lines above
    assert again.scores(asked).tolist() == fast.scores(asked).tolist()
    assert again.recall == fast.recall


def test_an_odd_number_of_dimensions_and_few_vectors_are_searched_too() -> None:
    stored = unit_vectors(200, 1)[:, :15]
    index = make_index(stored, 5, approximate_from=1)
    assert isinstance(index, InvertedFile)
    assert recall_of(index.nearest(stored[:20], 5), ExactIndex(stored).nearest(stored[:20], 5)) > 0.9
    assert isinstance(make_index(stored[:15], 5, approximate_from=1), ExactIndex), "too few to train codes on"


def test_stored_vectors_are_kept_once_and_in_half_precision() -> None:
    stored = unit_vectors(4_000, 1)
    index = InvertedFile(stored, 20)
    float32_bytes = 4 * stored.size
    assert index.vectors.size == 0
    # Half, a sixteenth for codes, and what names rows and cells, which 16 dimensions make much of.
    assert len(pickle.dumps(index)) < 0.85 * float32_bytes


def test_more_neighbours_than_the_cells_hold_are_averaged_over_what_is_found() -> None:
    world = replace(topic_world(30), correct=np.ones((30, 3)))
    router = KNearest(30, approximate_from=1)
    router.fit(world, unit_vectors(30, 5))
    assert np.allclose(router.scores(Queries(unit_vectors(5, 6))), 1.0)
