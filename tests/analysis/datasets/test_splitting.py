"""Parts have the rows that were asked for, the same strata, and never a near duplicate of each other's rows."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from harness_analysis.datasets.deriving import chosen_rows, with_domains
from harness_analysis.datasets.near_duplicates import near_duplicate_groups
from harness_analysis.datasets.splitting import joined_groups, split
from harness_analysis.datasets.statistics import dataset_statistics
from harness_analysis.errors import DatasetError

from tests.analysis.datasets.test_cleaning import table_of

DELTA = 0.999


def _world(count: int = 4000):
    chance = np.random.default_rng(11)
    domains = chance.choice(["art", "law", "sea"], count, p=[0.7, 0.25, 0.05])
    table = table_of(
        [
            {"text": f"question {i}", "domain": str(d), "origin": "ab"[i % 2], "reference": "1"}
            for i, d in enumerate(domains)
        ]
    )
    vectors = chance.standard_normal((count, 32)).astype(np.float32)
    for at in chance.choice(count, count // 5, replace=False):
        vectors[at] = vectors[chance.integers(count)] + 0.005 * chance.standard_normal(32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return table, vectors


def test_no_row_of_one_part_is_near_a_row_of_another() -> None:
    table, vectors = _world()
    groups = near_duplicate_groups(vectors, DELTA)
    done = split(table, {"train": 0.9, "test": 0.1}, groups, seed=1)
    train, test = done.rows["train"], done.rows["test"]
    cosine = vectors[train].astype(np.float64) @ vectors[test].astype(np.float64).T
    assert cosine.max() < DELTA
    # A split that looks at single rows alone would have put some on both sides.
    blind = split(table, {"train": 0.9, "test": 0.1}, np.arange(len(vectors)), seed=1)
    assert (vectors[blind.rows["train"]] @ vectors[blind.rows["test"]].T).max() > DELTA
    assert sorted([*train, *test]) == list(range(4000))
    assert abs(len(test) - 400) <= 10
    share = Counter(table.column("domain").take(test).to_pylist())
    whole = Counter(table.column("domain").to_pylist())
    for domain in whole:
        assert abs(share[domain] / len(test) - whole[domain] / 4000) < 0.02


def test_the_seed_decides_and_counts_are_met_exactly() -> None:
    table, vectors = _world()
    groups = near_duplicate_groups(vectors, DELTA)
    sizes = {"train": 1800, "test": 200}
    first, again, other = (split(table, sizes, groups, seed=seed) for seed in (3, 3, 4))
    assert [len(rows) for rows in first.rows.values()] == [1800, 200]
    assert first.report["left_out"] == 2000
    np.testing.assert_array_equal(first.rows["test"], again.rows["test"])
    assert first.rows["test"].tolist() != other.rows["test"].tolist()
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        if len(members) > 1:
            sides = {part for part, rows in first.rows.items() if np.isin(members, rows).any()}
            assert len(sides) <= 1


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "needs parts"),
        ({"a": 0.7, "b": 0.4}, "make 1.1, more than 1"),
        ({"a": 3, "b": 8}, "have 11 rows together and the dataset has 10"),
        ({"a": 0.5, "b": 3}, "all parts as shares"),
        ({"a": 2.5}, "neither a share"),
        ({"a": -1}, "above 0, not -1"),
        ({"a": 0.99, "b": 0.01}, "`b` gets no row"),
    ],
)
def test_parts_that_cannot_be_are_refused(parts: dict[str, float], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        split(table_of([{"text": f"q{i}"} for i in range(10)]), parts, np.arange(10))


def test_groups_of_two_kinds_are_joined() -> None:
    joined = joined_groups(np.array([0, 0, 2, 3, 4]), np.array([0, 1, 1, 3, 3]))
    assert joined.tolist() == [0, 0, 0, 3, 3]


def test_derived_rows_keep_their_order_and_domains_can_be_set() -> None:
    table, _ = _world(20)
    (batch,) = chosen_rows(table, np.array([3, 5, 8]))
    assert batch.column("query_id").to_pylist() == ["q3", "q5", "q8"]
    labelled = with_domains(table, [None, *["new"] * 19])
    assert labelled.column("domain").to_pylist()[:2] == [None, "new"]
    with pytest.raises(DatasetError, match="1 domains for 20"):
        with_domains(table, ["x"])


def test_statistics_agree_with_counts_by_hand() -> None:
    turns = [("user", "a"), ("assistant", "bb"), ("user", "c")]
    talk = json.dumps([{"role": role, "content": content} for role, content in turns])
    rows: list[dict[str, str | None]] = [
        {"text": "x" * n, "domain": "art" if n % 2 else None, "reference": "1" if n % 3 else ""}
        for n in range(1, 101)
    ]
    rows += [{"text": "XXX", "domain": "art"}, {"text": "c", "messages_json": talk, "domain": "art"}]
    found = {(row["of"], row["value"]): row for row in dataset_statistics(table_of(rows))}
    lengths = [*range(1, 101), 3, len("user: a\nassistant: bb\nuser: c")]
    everything = found["all", "all"]
    assert (everything["rows"], everything["duplicates"], everything["characters_max"]) == (102, 1, 100)
    assert everything["characters_median"] == np.median(lengths)
    assert everything["characters_p95"] == pytest.approx(np.percentile(lengths, 95))
    assert everything["with_reference"] == pytest.approx(67 / 102)
    assert (found["domain", "art"]["rows"], found["domain", "-"]["rows"]) == (52, 50)
    assert (found["turns", "1"]["rows"], found["turns", "2"]["rows"]) == (101, 1)
    assert sum(row["rows"] for (of, _), row in found.items() if of == "origin") == 102
