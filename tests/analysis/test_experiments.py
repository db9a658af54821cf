"""Experiments on a world in which their outcome is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness_analysis.embedding import TfidfEmbedder
from harness_analysis.errors import OutcomesError, RoutingError
from harness_analysis.routing import experiments
from harness_analysis.routing.rate_curve import rate_curves

from tests.analysis.routing_worlds import topic_world
from tests.analysis.test_route_commands import long_form, run

QUICK = {"resamples": 100, "seed": 1}


def words() -> TfidfEmbedder:
    return TfidfEmbedder(16)


def test_a_router_loses_on_a_topic_it_never_saw_and_the_heuristic_does_not() -> None:
    world = topic_world(400)
    rows = experiments.out_of_distribution(world, ["heuristic", "knn:20"], words, **QUICK)
    found = {(r["domain"], r["router"]): r for r in rows}
    assert {domain for domain, _ in found} == {"law", "maths", "cooking"}
    # Without maths, whose largest model alone is good, similar queries say nothing of it.
    assert found["law", "knn:20"]["high"] < 0
    for row in rows:
        assert row["low"] <= row["change_points"] <= row["high"]
        assert row["change_points"] == pytest.approx(100 * (row["accuracy_unseen"] - row["accuracy_seen"]))
    with pytest.raises(RoutingError, match="two domains"):
        experiments.out_of_distribution(replace(world, domains=("",) * 400), ["knn"], words)


def test_duplicates_are_found_cleaned_and_counted() -> None:
    world = topic_world(120)
    distinct = tuple(f"{text} {i}a {i}b {i}c" for i, text in enumerate(world.texts))
    # Queries 0 to 9 come a second time, with other verdicts.
    twice = world.rows(np.array([*range(120), *range(10)]))
    texts = tuple(distinct[i] for i in [*range(120), *range(10)])
    correct = twice.correct.copy()
    correct[120:] = 1 - correct[:10]
    twice = replace(twice, texts=texts, correct=correct)
    rows = experiments.duplicates(twice, ["heuristic"], lambda: TfidfEmbedder(200), similarity=0.999, **QUICK)
    assert {r["groups"] for r in rows} == {10}
    assert {r["groups_with_disagreeing_labels"] for r in rows} == {10}
    as_it_is, training, test = rows
    assert as_it_is["training_queries"] + as_it_is["test_queries"] == 130
    removed = as_it_is["training_queries"] - training["training_queries"]
    across = as_it_is["test_queries"] - test["test_queries"]
    assert removed + across <= 10
    assert removed + across > 0


def test_pools_grow_and_shrink_and_specialists_are_scored_by_hand() -> None:
    world = topic_world(200)
    grown = experiments.more_models(world, ["heuristic"], words, **QUICK)
    assert [r["models"] for r in grown] == [2, 3]
    pruned = experiments.pruned_pools(world, ["heuristic"], words, **QUICK)
    assert [r["models"] for r in pruned] == [3, 2]
    assert pruned[0]["area"] == grown[1]["area"]
    correct = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]], dtype=float)
    two = replace(
        world.rows(np.arange(5)),
        models=("a", "b"),
        params_b=np.array([1.0, 2.0]),
        correct=correct,
        costs={"params": np.tile([1.0, 2.0], (5, 1))},
        unit="params",
        domains=("x", "x", "y", "y", "y"),
    )
    # The generalist is b (3 of 5): a beats it by 1 on x and loses by 1 on y.
    assert [(r["domain"], r["specialist_score"]) for r in experiments.specialists(two)] == [
        ("x", 1.0),
        ("y", -1.0),
    ]


def test_a_remastered_pool_names_its_invented_models_and_gives_routers_more_to_gain() -> None:
    world = topic_world(600)
    rows = experiments.remastered(world, ["knn:20"], words, targets=2, keep=2, **QUICK)
    assert [(r["pool"], r["models"]) for r in rows] == [("as it is", 3), ("remastered", 4)]


def test_the_rate_curve_of_a_pair_runs_from_the_large_model_to_the_small_one() -> None:
    world = topic_world(300)
    rows = rate_curves(world, "small", "large", ["knn:20", "random", "oracle"], words(), seed=2)
    for name in ("knn:20", "random", "oracle"):
        mine = [r for r in rows if r["router"] == name]
        assert (mine[0]["cost_advantage"], mine[-1]["cost_advantage"]) == (0.0, 1.0)
        assert mine[0]["gap_recovered"] == pytest.approx(1.0)
        assert mine[-1]["gap_recovered"] == pytest.approx(0.0)
        assert mine[0]["drop_percent"] == pytest.approx(0.0)
    area = {r["router"]: r["area"] for r in rows}
    assert area["random"] < area["knn:20"] < area["oracle"]
    with pytest.raises(RoutingError, match="not small twice"):
        rate_curves(world, "small", "small", ["knn"], words())


@pytest.mark.parametrize(
    "words_", [("experiment", "specialists"), ("experiment", "ood"), ("pair",)], ids=lambda w: w[-1]
)
def test_commands_write_tables_and_figures(words_: tuple[str, ...], tmp_path: Path) -> None:
    file, figure = tmp_path / "o.parquet", tmp_path / "f.png"
    long_form(topic_world(200)).write_parquet(file)
    routers = ("--routers", "heuristic,mf", "--cost", "joules")
    shown = run("route", *words_, str(file), *routers, "--format", "json", "--plot", str(figure))
    assert json.loads(shown.stdout)
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "choose from" in run("route", *words_, str(file), "--routers", "psychic", code=2).output


def test_datasets_stand_in_for_domains_and_specialised_domains_stay() -> None:
    world = topic_world(300)
    with pytest.raises(OutcomesError, match="of one dataset"):
        world.by_dataset()
    named = replace(world, datasets=tuple(f"set of {d}" for d in world.domains))
    assert set(named.by_dataset().domains) == {f"set of {d}" for d in world.domains}
    assert named.rows(np.array([0, 2])).datasets == (named.datasets[0], named.datasets[2])
    kept = [row["domain"] for row in experiments.specialists(world)[:2]]
    rows = experiments.remastered(world, ["heuristic"], TfidfEmbedder, resamples=100, domains=2)
    assert [row["queries"] for row in rows] == [300, sum(d in kept for d in world.domains)]
    with pytest.raises(RoutingError, match="two domains and more"):
        experiments.remastered(world, ["heuristic"], TfidfEmbedder, domains=1)
