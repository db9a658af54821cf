"""Routers learn what there is to learn, and nothing else."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness_analysis.embedding import SentenceEmbedder, TfidfEmbedder, embedder
from harness_analysis.errors import EmbeddingError, RoutingError
from harness_analysis.outcomes import open_outcomes
from harness_analysis.routing import Queries, Router
from harness_analysis.routing.catalogue import ROUTERS, Tuning, make_router, named_routers
from harness_analysis.routing.choosing import best, prices_to_try, smallest_viable, willing_to_pay
from harness_analysis.routing.evaluation import Evaluation, evaluate
from harness_analysis.routing.nearest import KMeansClusters, KNearest, best_k
from harness_analysis.routing.saved import fit_router, load_router

from tests.analysis.routing_worlds import topic_world

LEARNED = ("knn:25", "kmeans", "mlp", "mf")


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    training, test = topic_world().split(0.6, seed=1)
    names = ["smallest", "largest", "random", "heuristic", "knn-vote:25", *LEARNED, "oracle"]
    return evaluate([make_router(name) for name in names], training, test, TfidfEmbedder(), resamples=500)


@pytest.mark.parametrize("name", LEARNED)
def test_learned_routers_beat_the_heuristic_where_topics_tell(evaluation: Evaluation, name: str) -> None:
    result = next(r for r in evaluation.results if r.name == name)
    assert result.over_heuristic.low > 0
    assert result.quality is not None
    assert result.quality.accuracy > 0.85
    assert result.saved > 0.4
    assert 0 < result.router_s < 1


def test_oracle_and_zero_router_bracket_every_router(evaluation: Evaluation) -> None:
    by_name = {r.name: r for r in evaluation.results}
    oracle, zero = by_name["oracle"], by_name["zero"]
    assert oracle.quality is not None
    assert oracle.quality.label_f1 == 1.0
    for result in evaluation.results:
        if result is not zero:
            assert (oracle.curve.accuracy >= result.curve.accuracy).all()
        assert zero.aiq.estimate - 1e-12 <= result.aiq_with_models <= oracle.aiq_with_models + 1e-12


def test_baselines_are_what_they_are_called(evaluation: Evaluation) -> None:
    by_name = {r.name: r for r in evaluation.results}
    n = len(evaluation.test)
    for name, column in (("smallest", 0), ("largest", 2), ("heuristic", 2)):
        quality = by_name[name].quality
        assert quality is not None
        assert quality.routed[column] == n
        assert quality.accuracy == pytest.approx(evaluation.test.correct[:, column].mean())
    assert by_name["largest"].saved == 0.0
    assert by_name["heuristic"].agreement == 100.0
    assert by_name["heuristic"].over_heuristic.estimate == pytest.approx(0.0)
    # At each budget the random router is uniform over what the budget affords.
    expected = np.array([evaluation.test.correct[:, : k + 1].mean() for k in range(3)])
    assert by_name["random"].curve.accuracy == pytest.approx(expected, abs=0.08)


def test_nearest_neighbours_by_hand() -> None:
    world = topic_world(4)
    correct = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=float)
    world = replace(world, correct=correct)
    angles = np.deg2rad([0, 10, 20, 90])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)])
    asked = Queries(np.array([[np.cos(0.1), np.sin(0.1)]]))
    score, vote = KNearest(2, "score"), KNearest(2, "vote")
    score.fit(world, vectors)
    vote.fit(world, vectors)
    # 5.7 degrees: the neighbours are the first two queries, whose smallest correct models are 0 and 1.
    assert score.scores(asked).tolist() == [[0.5, 1.0, 1.0]]
    assert vote.scores(asked).tolist() == [[0.5, 0.5, 0.0]]
    assert best(vote.scores(asked)).tolist() == [0]  # the tie goes to the smallest
    everyone = KNearest(1_000, "score")
    everyone.fit(world, vectors)
    assert everyone.scores(asked)[0] == pytest.approx(correct.mean(axis=0))


def test_kmeans_gives_the_mean_of_the_nearest_cluster() -> None:
    world = replace(
        topic_world(4), correct=np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=float)
    )
    vectors = np.array([[1, 0], [0.99, 0.1], [0, 1], [0.1, 0.99]])
    router = KMeansClusters(2)
    router.fit(world, vectors)
    assert router.scores(Queries(np.array([[1, 0.05], [0.05, 1]]))).tolist() == [[1, 0.5, 0], [0, 0.5, 1]]


def test_choosing_by_hand() -> None:
    scores = np.array([[0.2, 0.6, 0.9], [0.5, 0.4, 0.3], [0.1, 0.2, 0.3]])
    assert smallest_viable(scores, 0.5).tolist() == [1, 2, 2]
    assert smallest_viable(scores, 0.0).tolist() == [0, 0, 0]
    cost = np.array([1.0, 2.0, 10.0])
    # Price 5: 0.2x5-1=0, 0.6x5-2=1, 0.9x5-10=-5.5 / 1.5, 0, -8.5 / -0.5, -1, -8.5
    assert willing_to_pay(scores, cost, 5.0).tolist() == [1, 0, 0]
    assert willing_to_pay(scores, cost, 0.0).tolist() == [0, 0, 0]
    assert willing_to_pay(scores, cost, np.inf).tolist() == [2, 0, 2]
    assert willing_to_pay(np.ones((1, 3)), cost[::-1], np.inf).tolist() == [2]
    prices = prices_to_try(cost)
    assert prices[0] == 0
    assert np.isinf(prices[-1])


def test_the_sweep_finds_a_neighbourhood() -> None:
    world = topic_world(400)
    words = TfidfEmbedder()
    words.fit(world.texts)
    k, areas = best_k(world, words.embed(world.texts), sweep=(1, 10, 320))
    assert k == 10
    assert set(areas) == {1, 10, 320}


@pytest.mark.parametrize("name", [n for n in ROUTERS if n not in {"oracle", "mlp"}])
def test_every_router_satisfies_the_protocol_and_is_the_same_after_a_file(name: str, tmp_path: Path) -> None:
    world = topic_world(120)
    assert isinstance(make_router(name), Router)
    fitted = fit_router(make_router(name), TfidfEmbedder(), world)
    fitted.save(tmp_path / "router")
    loaded = load_router(tmp_path / "router")
    texts = ["court appeal", "onion oven", "words nobody knows"]
    assert loaded.scores(texts).tolist() == fitted.scores(texts).tolist()
    assert loaded.models == world.models
    assert [p.name for p in tmp_path.iterdir()] == ["router"]


@pytest.mark.parametrize("name", ["kmeans", "router-dc"])
def test_queries_that_differ_by_rounding_alone_are_one_point_to_clusters(name: str) -> None:
    """Scikit-learn once warned of fewer distinct clusters than were asked for."""
    world = topic_world(40)
    vectors = np.repeat(np.eye(4), 10, axis=0) + 1e-13 * np.random.default_rng(0).random((40, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        router = make_router(name, tuning=Tuning(epochs=1))
        router.fit(world, vectors)
    scores = router.scores(Queries(vectors))
    assert np.isfinite(scores).all()
    assert len(np.unique(np.round(scores, 6), axis=0)) <= 4, "equal points score equally"


@pytest.mark.parametrize("name", ["kmeans", "knn", "mlp", "mf"])
def test_one_class_only_is_learned_as_a_constant(name: str) -> None:
    world = topic_world(80)
    fitted = fit_router(
        make_router(name), TfidfEmbedder(), replace(world, correct=np.ones_like(world.correct))
    )
    assert fitted.scores(["court", "onion"]) == pytest.approx(np.ones((2, 3)))


def test_what_cannot_be_routed_is_refused(tmp_path: Path) -> None:
    world = topic_world(20)
    vectors = np.ones((20, 2))
    with pytest.raises(RoutingError, match=r"threshold must lie between 0 and 1, not 1\.5"):
        smallest_viable(np.ones((1, 2)), 1.5)
    with pytest.raises(RoutingError, match="at least 0"):
        willing_to_pay(np.ones((1, 2)), np.ones(2), -1)
    with pytest.raises(RoutingError, match="NaN or infinite"):
        make_router("knn").fit(replace(world, correct=world.correct * np.nan), vectors)
    with pytest.raises(RoutingError, match="5 embeddings for 20 queries"):
        make_router("mf").fit(world, vectors[:5])
    with pytest.raises(RoutingError, match="choose from smallest"):
        make_router("psychic")
    with pytest.raises(RoutingError, match="k of at least 1"):
        make_router("knn:0")
    with pytest.raises(RoutingError, match="needs the answers"):
        fit_router(make_router("oracle"), TfidfEmbedder(), world)
    with pytest.raises(RoutingError, match="needs the answers"):
        make_router("oracle").scores(Queries(vectors))
    with pytest.raises(EmbeddingError, match="have no text"):
        TfidfEmbedder().fit(["", " "])
    with pytest.raises(EmbeddingError, match="is not known"):
        embedder("word2vec")
    (tmp_path / "other").write_bytes(b"no pickle")
    with pytest.raises(RoutingError, match="no router is in it"):
        load_router(tmp_path / "other")
    for name in ROUTERS:
        if name != "oracle":
            with pytest.raises(RoutingError, match="has not been fitted"):
                make_router(name).scores(Queries(vectors))


def test_sentence_transformers_are_used_or_their_absence_is_said() -> None:
    words = SentenceEmbedder()
    if importlib.util.find_spec("sentence_transformers") is None:
        with pytest.raises(EmbeddingError, match=r"joule-harness\[embeddings\]"):
            words.fit([])
        return
    first, near, far = words.embed(
        ["a cat sat on the mat", "a kitten lay on the rug", "quarterly tax return"]
    )
    assert first @ near > first @ far


def test_similar_queries_help_on_published_outcomes(shared_data: Path) -> None:
    whole = open_outcomes(shared_data / "outcomes" / "llmrouter").matrix("params")
    training, test = whole.split(0.7, seed=0)
    routers = [make_router(name) for name in ("heuristic", "knn", "kmeans", "mf", "oracle")]
    results = evaluate(routers, training, test, TfidfEmbedder(64), resamples=200).results
    by_name = {r.name: r for r in results}
    for name in ("knn", "kmeans", "mf"):
        assert by_name[name].over_heuristic.low > 0
        assert by_name[name].area.estimate < by_name["oracle"].area.estimate
        assert (
            by_name["zero"].aiq.estimate <= by_name[name].aiq_with_models <= by_name["oracle"].aiq_with_models
        )


def test_all_routers_are_named_at_once() -> None:
    names, _ = named_routers("all,-mlp,knn:5,oracle, heuristic")
    assert {"smallest", "heuristic", "mf", "sw-ranking", "oracle", "knn:5"} <= set(names)
    assert "mlp" not in names
    assert len(names) == len(set(names))
    assert not any(name.startswith("decoder") for name in names)
    with pytest.raises(RoutingError, match="leaves out a router that was not named"):
        named_routers("knn,-mlp")
    with pytest.raises(RoutingError, match="no router was named"):
        named_routers(" , ")
