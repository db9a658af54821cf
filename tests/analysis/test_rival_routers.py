"""Routers of other papers, against their formulas: EmbedLLM, RouteLLM's two, RouterDC, educated guessing."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from harness_analysis.embedding import TfidfEmbedder
from harness_analysis.errors import RoutingError
from harness_analysis.metrics.routing_quality import routing_quality
from harness_analysis.outcomes.matrix import OutcomeMatrix
from harness_analysis.routing import Queries, Router
from harness_analysis.routing import bradley_terry as bt
from harness_analysis.routing import mess_plus_rivals as rivals
from harness_analysis.routing.catalogue import BY_DESCENT, make_router
from harness_analysis.routing.choosing import best, smallest_viable
from harness_analysis.routing.dual_contrastive import (
    attracting_and_repelling,
    query_model_loss,
    query_query_loss,
)
from harness_analysis.routing.neighbour_sweep import MEASURES, sweep_neighbours
from harness_analysis.routing.saved import fit_router
from harness_analysis.routing.win_rates import logistic, mean_win_rates
from harness_cli.main import harness

from tests.analysis.routing_worlds import topic_world
from tests.analysis.test_route_commands import long_form

TORCH = pytest.importorskip("torch", reason="needs the extra embeddings")
RIVALS = (*BY_DESCENT, "sw-ranking")


def embedded(world: OutcomeMatrix) -> tuple[np.ndarray, TfidfEmbedder]:
    words = TfidfEmbedder(24)
    words.fit(world.texts)
    return words.embed(world.texts), words


@pytest.mark.parametrize("name", RIVALS)
def test_each_learns_topics_the_same_way_twice_and_survives_a_file(name: str) -> None:
    training, test = topic_world(300).split(0.7, seed=1)
    vectors, words = embedded(training)
    asked = Queries(words.embed(test.texts))
    router, again = make_router(name, 3), make_router(name, 3)
    assert isinstance(router, Router)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        router.fit(training, vectors)
        again.fit(training, vectors)
        scores = router.scores(asked)
        unknown = router.scores(Queries(np.zeros((1, vectors.shape[1]))))
    assert np.isfinite(unknown).all()
    assert scores.shape == test.correct.shape
    assert (scores >= 0).all()
    assert (scores <= 1).all()
    assert again.scores(asked).tolist() == scores.tolist()
    kept = pickle.loads(pickle.dumps(router))  # noqa: S301
    assert kept.scores(asked).tolist() == scores.tolist()
    choice = best(scores) if router.votes else smallest_viable(scores)
    best_single = test.correct.mean(axis=0).max()
    assert routing_quality(choice, test.correct).accuracy > min(best_single + 0.02, 0.9)


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("verdict", [0.0, 1.0])
def test_one_verdict_only_is_a_constant(name: str, verdict: float) -> None:
    world = topic_world(40)
    router = make_router(name)
    vectors, _ = embedded(world)
    router.fit(replace(world, correct=np.full_like(world.correct, verdict)), vectors)
    scores = router.scores(Queries(vectors))
    assert scores == pytest.approx(np.broadcast_to(scores[0, 0], scores.shape))
    if not router.votes:
        assert scores[0, 0] == verdict


@pytest.mark.parametrize("name", RIVALS)
def test_what_nothing_can_be_learned_from_is_refused(name: str) -> None:
    world = topic_world(20)
    vectors = np.ones((20, 2))
    with pytest.raises(RoutingError, match="has not been fitted"):
        make_router(name).scores(Queries(vectors))
    with pytest.raises(RoutingError, match="scores that are NaN"):
        make_router(name).fit(replace(world, correct=world.correct * np.nan), vectors)
    with pytest.raises(RoutingError, match="embedding is NaN"):
        make_router(name).fit(world, vectors * np.nan)


def test_scores_of_embedllm_are_chances() -> None:
    """A model that is right on seven of ten queries whatever they are gets about 0.7."""
    world = topic_world(600)
    random = np.random.default_rng(0)
    coin = np.column_stack([random.random(600) < p for p in (0.2, 0.7, 0.9)]).astype(float)
    router = make_router("mf-embedllm")
    fitted = fit_router(router, TfidfEmbedder(8), replace(world, correct=coin))
    assert fitted.scores(["court", "onion", "prime"]).mean(axis=0) == pytest.approx(
        coin.mean(axis=0), abs=0.12
    )


def test_the_weight_of_a_similar_query_by_hand() -> None:
    weights = bt.similarity_weights(np.array([[0.5, 0.25, 0.0, -0.5], [0.0, -1.0, 0.0, 0.0]]))
    assert weights[0] == pytest.approx([100, 10**1.5, 10, 1])
    assert weights[1].tolist() == [10, 10, 10, 10]  # nothing is similar


def test_wins_and_strengths_of_a_pair_by_hand() -> None:
    # Weights 3, 2, 1: the first model wins 3, loses 2, draws 1: 3.5 against 2.5 of 6.
    wins = bt.weighted_wins(np.array([[3.0, 2.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    assert wins[0].tolist() == [[3.0, 3.5], [2.5, 3.0]]
    found = bt.strengths(wins)
    assert found[0, 0] - found[0, 1] == pytest.approx(math.log(3.5 / 2.5))
    assert mean_win_rates(found)[0] == pytest.approx([3.5 / 6, 2.5 / 6])


def test_strengths_are_of_greatest_likelihood() -> None:
    random = np.random.default_rng(4)
    # The second set is nearly one-sided, where a full Newton step from 0 overshoots.
    wins = np.stack([random.uniform(0.1, 9, (5, 5)), np.triu(np.full((5, 5), 1e4)) + 0.01])
    found = bt.strengths(wins)
    for won, s in zip(wins, found, strict=True):
        chance = logistic(s[:, None] - s[None])
        off = ~np.eye(5, dtype=bool)
        slope = ((won - (won + won.T) * chance) * off).sum(axis=1)
        assert slope == pytest.approx(np.zeros(5), abs=1e-6)
    assert found.mean(axis=1) == pytest.approx(np.zeros(2), abs=1e-9)
    # Every pair met equally often: the order is that of all wins together.
    even = random.random((30, 4))
    wins = bt.weighted_wins(np.ones((1, 30)), even)
    assert np.argsort(bt.strengths(wins)[0]).tolist() == np.argsort(wins[0].sum(axis=1)).tolist()


def test_mean_win_rates_by_hand() -> None:
    rates = mean_win_rates(np.log([[1.0, 2.0, 4.0]]))
    assert rates[0] == pytest.approx([(1 / 3 + 1 / 5) / 2, (2 / 3 + 1 / 3) / 2, (4 / 5 + 2 / 3) / 2])


def test_who_attracts_and_who_repels() -> None:
    correct = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0.4], [1, 1, 1, 1, 1]], dtype=float)
    attracts, repels = attracting_and_repelling(correct, best=2, worst=2)
    # Of three right models the two smallest; of equally wrong ones the largest.
    assert np.flatnonzero(attracts[0]).tolist() == [0, 1]
    assert np.flatnonzero(repels[0]).tolist() == [2, 4]
    assert not attracts[1].any()
    assert np.flatnonzero(repels[1]).tolist() == [2, 3]
    assert not repels[2].any()


def test_both_contrastive_losses_by_hand() -> None:
    similarity = TORCH.log(TORCH.tensor([[3.0, 1.0, 2.0], [5.0, 1.0, 1.0]]))
    similarity.requires_grad_()
    attracts = TORCH.tensor([[True, True, False], [True, False, False]])
    repels = TORCH.tensor([[False, False, True], [False, False, False]])
    # Query 0: -log 3/5 - log 1/3. Query 1: nothing repels it, so nothing is lost.
    loss = query_model_loss(TORCH, similarity, attracts, repels)
    assert float(loss.detach()) == pytest.approx((math.log(5 / 3) + math.log(3)) / 2)
    loss.backward()
    assert similarity.grad is not None
    assert TORCH.isfinite(similarity.grad).all()
    assert similarity.grad[1].abs().sum() == 0
    near, far = TORCH.log(TORCH.tensor([[2.0]])), TORCH.log(TORCH.tensor([[1.0, 3.0]]))
    assert float(query_query_loss(TORCH, near, far)) == pytest.approx(math.log(6 / 2))


def test_educated_guesses_by_hand() -> None:
    accuracy = np.array([0.4, 0.8])
    # Even chances satisfy 0.6 already.
    assert rivals.guessing_probabilities(accuracy, 0.55).tolist() == [0.5, 0.5]
    # 0.7 needs odds of 3 to 1: (1.01 / 0.99)^k >= 3 first at k = 55.
    chance = rivals.guessing_probabilities(accuracy, 0.7)
    assert chance[1] / chance[0] == pytest.approx((1.01 / 0.99) ** 55)
    assert rivals.guessing_probabilities(accuracy, 0.8) @ accuracy >= 0.8 - 1e-6
    with pytest.raises(RoutingError, match=r"the best satisfies 0\.8"):
        rivals.guessing_probabilities(accuracy, 0.81)


def test_rivals_of_mess_plus_keep_a_promise_where_they_can() -> None:
    training, requests = topic_world(500).split(0.5, seed=2)
    _, words = embedded(training)
    for name in ("sw-ranking", "knn:25"):
        served = rivals.serve(make_router(name), training, requests, words, alpha=0.6)
        satisfied = requests.correct[np.arange(len(requests)), served.choice].mean()
        assert satisfied > 0.55
        assert served.threshold in rivals.THRESHOLDS
        cost = requests.cost[np.arange(len(requests)), served.choice].mean()
        assert cost < 0.8 * requests.cost[:, -1].mean()
        if name == "sw-ranking":
            assert set(served.choice) <= {0, 2}  # RouteLLM's pair
    voted = rivals.serve(make_router("knn-vote:25"), training, requests, words, alpha=0.6)
    assert voted.threshold is None
    assert set(voted.choice) == {0, 1, 2}
    with pytest.raises(RoutingError, match="it is no rival"):
        rivals.serve(make_router("oracle"), training, requests, words, alpha=0.6)


def test_mess_plus_is_shown_beside_its_rivals(tmp_path: Path) -> None:
    file = str(tmp_path / "o.parquet")
    long_form(topic_world(200)).write_parquet(file)
    words = ["route", "mess-plus", file, "--cost", "joules", "--alpha", "0.6", "--format", "json"]
    plain = CliRunner().invoke(harness, words)
    assert plain.exit_code == 0, plain.output
    assert [row["router"] for row in json.loads(plain.stdout)][-2:] == ["educated-guessing", "MESS+"]
    done = CliRunner().invoke(harness, [*words, "--rivals", "sw-ranking,router-dc"])
    assert done.exit_code == 0, done.output
    rows = {row["router"]: row for row in json.loads(done.stdout)}
    assert {"sw-ranking", "router-dc", "MESS+", "large"} == set(rows) - {"small", "middle"}
    assert rows["router-dc"]["threshold"] is None
    wrong = CliRunner().invoke(harness, [*words, "--rivals", "psychic"])
    assert wrong.exit_code == 2
    assert "choose from" in wrong.output


def test_the_sweep_names_the_best_k(tmp_path: Path) -> None:
    world = topic_world(200)
    training, validation = world.split(0.7, seed=0)
    rows = sweep_neighbours(training, validation, TfidfEmbedder(24), sweep=(140, 10, 1, 10))
    assert [row["k"] for row in rows] == [1, 10, 140]
    for measure in MEASURES:
        named = [row for row in rows if measure in row["best"].split(", ")]
        assert len(named) == 1
        assert named[0][measure] == max(row[measure] for row in rows)
    assert rows[2]["label_f1"] < rows[1]["label_f1"]  # all neighbours vote alike for every query
    with pytest.raises(RoutingError, match="k 141 is more than the 140 training queries"):
        sweep_neighbours(training, validation, TfidfEmbedder(24), sweep=(141,))
    file, figure = str(tmp_path / "o.parquet"), tmp_path / "k.svg"
    long_form(world).write_parquet(file)
    words = ["route", "sweep", file, "--cost", "joules", "--k", "1,10", "--plot", str(figure)]
    done = CliRunner().invoke(harness, [*words, "--ask", "score", "--format", "json"])
    assert done.exit_code == 0, done.output
    assert [row["k"] for row in json.loads(done.stdout)] == [1, 10]
    assert "<svg" in figure.read_text()
    for wrong in ("0,5", "five", ","):
        refused = CliRunner().invoke(harness, ["route", "sweep", file, "--k", wrong])
        assert refused.exit_code == 2
        assert "whole numbers from 1 on" in refused.output
