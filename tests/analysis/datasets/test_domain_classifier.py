"""The classifier of domains on vectors whose answer is known, and what it refuses to learn from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from harness_analysis.datasets.domain_classifier import train_domain_classifier
from harness_analysis.datasets.occupations import occupation_named, occupations
from harness_analysis.errors import DatasetError


def clouds(count: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Return unit vectors around one axis for each of three domains."""
    rng = np.random.default_rng(seed)
    domains = [f"d{i % 3}" for i in range(count)]
    vectors = np.eye(8)[[i % 3 for i in range(count)]] + rng.normal(0, 0.1, (count, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), domains


def test_separate_clouds_are_told_apart_and_what_lies_between_stays_without() -> None:
    vectors, domains = clouds(60)
    trained = train_domain_classifier(vectors, domains, np.arange(60), min_confidence=0.6)
    assert (trained.agreement.accuracy, trained.agreement.cohen_kappa) == (1.0, 1.0)
    assert (trained.rows, trained.classes) == (60, ("d0", "d1", "d2"))
    between = np.full((1, 8), 0.0, np.float32)
    between[0, :3] = 1 / math.sqrt(3)
    new, known = clouds(30, seed=1)
    assert trained.domains(np.vstack([new, between]), 0.6) == [*known, None]


def test_random_labels_agree_by_chance_only() -> None:
    rng = np.random.default_rng(4)
    vectors, _ = clouds(400)
    noise = [f"d{i}" for i in rng.integers(0, 3, 400)]
    agreement = train_domain_classifier(vectors, noise, np.arange(400), min_confidence=0.9).agreement
    assert abs(agreement.cohen_kappa) < 0.15
    assert agreement.accuracy < 0.45
    assert agreement.decided == 0
    assert math.isnan(agreement.accuracy_of_decided)


def test_copies_of_a_row_are_held_back_together() -> None:
    # Each query is there four times with one random label: learned copies would give the label away.
    rng = np.random.default_rng(5)
    vectors = np.repeat(rng.normal(size=(60, 200)).astype(np.float32), 4, axis=0)
    labels = np.repeat(rng.integers(0, 2, 60), 4)
    domains = [f"d{i}" for i in labels]
    cut = train_domain_classifier(vectors, domains, np.arange(240), min_confidence=0.5).agreement
    kept = train_domain_classifier(vectors, domains, np.arange(240) // 4, min_confidence=0.5).agreement
    assert cut.accuracy > 0.95
    assert kept.accuracy < 0.75


@pytest.mark.parametrize(
    ("domains", "said"),
    [
        ([], "no row has a domain to learn from"),
        (["a"] * 20, "has the domain 'a'; a classifier needs two or more"),
        (["a", "b"] * 4, "8 different queries have a domain; 5 folds need 10"),
        ([f"d{i}" for i in range(12)], "no domain has 5 labelled rows"),
    ],
)
def test_what_cannot_be_learned_from_is_named(domains: list[str], said: str) -> None:
    vectors = np.eye(20, dtype=np.float32)[: len(domains)]
    with pytest.raises(DatasetError, match=said):
        train_domain_classifier(vectors, domains, np.arange(len(domains)), min_confidence=0.5)


def test_there_are_22_occupations_and_none() -> None:
    names = occupations()
    assert (len(names), len(set(names)), names[-1]) == (23, 23, "None")
    assert occupation_named(" legal  SERVICES. ") == "Legal services"
    assert occupation_named("Law") is None
