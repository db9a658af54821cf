"""Learning curves rise where there is something to learn, and their intervals hold what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from harness_analysis.embedding import TfidfEmbedder
from harness_analysis.errors import RoutingError
from harness_analysis.metrics.routing_quality import routing_quality
from harness_analysis.routing.catalogue import make_router
from harness_analysis.routing.learning_curve import (
    default_sizes,
    label_f1_interval,
    learning_curve,
    macro_f1_interval,
)
from threadpoolctl import threadpool_limits

from tests.analysis.routing_worlds import topic_world
from tests.analysis.test_route_commands import long_form, run


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def test_intervals_are_around_the_metrics_themselves() -> None:
    world = topic_world(120, seed=4)
    choice = np.random.default_rng(1).integers(0, 3, 120)
    choice[choice == 1] = 2  # a model that receives nothing is left out, as in the metric
    quality = routing_quality(choice, world.correct)
    macro = macro_f1_interval(choice, world.correct, 200, 0)
    label = label_f1_interval(choice, world.correct, 200, 0)
    assert macro.estimate == pytest.approx(quality.macro_f1)
    assert label.estimate == pytest.approx(quality.label_f1)
    # Each replicate is the metric itself on the drawn queries: the interval against one made by hand.
    random = np.random.default_rng(0)
    drawn = [random.integers(0, 120, 120) for _ in range(2_000)]
    found = [routing_quality(choice[at], world.correct[at]).label_f1 for at in drawn]
    assert (label.low, label.high) == pytest.approx(tuple(np.quantile(found, [0.025, 0.975])), abs=0.03)


def test_routers_learn_more_from_more_and_subsets_are_nested() -> None:
    training, test = topic_world(500, seed=2).split(0.6, seed=1)
    seen: list[tuple[str, ...]] = []

    class Watching(TfidfEmbedder):
        def fit(self, texts: object) -> None:
            seen.append(tuple(texts))  # type: ignore[arg-type]
            super().fit(texts)  # type: ignore[arg-type]

    table = learning_curve(
        training,
        test,
        [300, 6, 40],
        lambda: [make_router("knn:3"), make_router("heuristic")],
        lambda: Watching(16),
        resamples=100,
    )
    rows = {(row["training_queries"], row["router"]): row for row in table.to_pylist()}
    assert list(dict.fromkeys(size for size, _ in rows)) == [6, 40, 300]
    assert rows[300, "knn:3"]["label_f1_low"] > rows[6, "knn:3"]["label_f1_high"]
    assert rows[300, "knn:3"]["area"] > rows[6, "knn:3"]["area"]
    for row in rows.values():
        for name in ("macro_f1", "label_f1", "area"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert [len(texts) for texts in seen] == [6, 40, 300]
    for less, more in pairwise(seen):
        assert set(less) <= set(more)
    with pytest.raises(RoutingError, match="301 queries to learn from are asked for, and 300"):
        learning_curve(training, test, [301], list, None)
    with pytest.raises(RoutingError, match="at least 1"):
        learning_curve(training, test, [0], list, None)
    assert default_sizes(420) == (100, 300, 420)
    assert default_sizes(50) == (50,)


def test_the_command_writes_the_curve_and_draws_it(tmp_path: Path) -> None:
    file, figure = tmp_path / "o.parquet", tmp_path / "c.svg"
    long_form(topic_world(200)).write_parquet(file)
    options = ("--cost", "joules", "--routers", "knn:5,heuristic", "--resamples", "100")
    shown = run(
        "route", "curve", str(file), *options, "--sizes", "20,140", "--format", "json", "--plot", str(figure)
    )
    rows = json.loads(shown.stdout)
    assert [(row["training_queries"], row["router"]) for row in rows] == [
        (size, name) for size in (20, 140) for name in ("knn:5", "heuristic")
    ]
    assert figure.read_text().count("<path") > 10
    for words, said in (
        (("--sizes", "many"), "write whole numbers"),
        (("--sizes", "141"), "140 are in the training part"),
        (("--routers", ","), "no router was named"),
        (("--routers", "psychic"), "choose from"),
    ):
        assert said in run("route", "curve", str(file), *words, code=2).output
