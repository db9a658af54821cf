"""Cascade, Hybrid LLM and MESS+ against numbers worked out by hand from their papers."""

from __future__ import annotations

import functools
import math
import time

import numpy as np
import pytest
from harness_analysis.embedding import TfidfEmbedder
from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import OutcomeMatrix
from harness_analysis.routing import cascade, hybrid, mess_plus
from harness_analysis.routing import mess_plus_bounds as bounds
from harness_analysis.routing.mess_plus_sla import sla_tables

from tests.analysis.routing_worlds import SKILL, topic_world

CORRECT = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=float)
COST = np.tile([1.0, 2.0, 10.0], (4, 1))


def test_a_perfect_judge_stops_at_the_first_right_answer() -> None:
    bought = cascade.cascade(CORRECT, COST)
    assert bought.choice.tolist() == [0, 1, 2, 2]
    assert bought.cost.tolist() == [1, 3, 13, 13]
    assert bought.calls.tolist() == [1, 2, 3, 3]
    assert bought.quality.mean() == 0.75


def test_the_cap_ends_a_cascade_with_the_current_answer() -> None:
    bought = cascade.cascade(CORRECT, COST, cost_cap=3.0)
    assert bought.choice.tolist() == [0, 1, 1, 1]
    assert bought.cost.tolist() == [1, 3, 3, 3]


def test_a_judge_that_always_errs_returns_wrong_answers_first() -> None:
    bought = cascade.cascade(CORRECT, COST, judge_error=1.0)
    assert bought.choice.tolist() == [2, 0, 0, 0]
    assert bought.quality.tolist() == [1, 0, 0, 0]


def test_quality_falls_with_the_judges_error() -> None:
    world = topic_world(3_000)
    reached = [
        cascade.cascade(world.correct, world.cost, judge_error=error, seed=1).quality.mean()
        for error in (0.0, 0.1, 0.2, 0.4)
    ]
    assert reached == sorted(reached, reverse=True)
    assert reached[0] == pytest.approx(world.correct.max(axis=1).mean())


def test_overgenerating_pays_for_everything() -> None:
    bought = cascade.overgenerate_and_rerank(CORRECT, COST)
    assert bought.choice.tolist() == [0, 1, 2, 0]
    assert bought.cost.tolist() == [13] * 4
    assert bought.quality.mean() == 0.75
    cost, quality = bought.intervals(200)
    assert (cost.low, cost.high) == (13, 13)
    assert quality.low < 0.75 < quality.high


# Qualities of two answers each: query 0 ties, query 1 is worse by 1, query 2 by 3.
SMALL = np.array([[5.0, 5.0], [4.0, 4.0], [2.0, 2.0]])
LARGE = np.array([[5.0, 5.0], [5.0, 5.0], [5.0, 5.0]])


def test_labels_of_the_three_routers_by_hand() -> None:
    assert hybrid.deterministic_labels(SMALL, LARGE).tolist() == [1, 0, 0]
    mixed = np.array([[1.0, 3.0]])
    # 1 >= 2: no, 1 >= 3: no, 3 >= 2 and 3 >= 3: yes, yes.
    assert hybrid.probabilistic_labels(mixed, np.array([[2.0, 3.0]])).tolist() == [0.5]
    assert hybrid.probabilistic_labels(SMALL, LARGE, 1.0).tolist() == [1, 1, 0]


def test_the_best_relaxation_on_a_small_matrix() -> None:
    # Labels (1, 0, 0) at t < 1, (1, 1, 0) from 1 to 3, (1, 1, 1) from 3: 4/9, 4/9, 0; the least t of the best is 0.
    assert hybrid.mean_pairwise_difference(np.array([1.0, 0.0, 0.0])) == pytest.approx(4 / 9)
    assert hybrid.best_relaxation(SMALL, LARGE) == (0.0, pytest.approx(4 / 9))
    # A large model that always wins by 1, 2, 3 and 4: two labels of each kind are furthest apart, from t = 2 on.
    behind = np.array([[4.0], [3.0], [2.0], [1.0]])
    t, value = hybrid.best_relaxation(behind, np.full((4, 1), 5.0), np.arange(5.0))
    assert (t, value) == (2.0, pytest.approx(0.5))


def test_the_objective_equals_the_double_sum() -> None:
    labels = np.random.default_rng(0).random(50)
    direct = np.abs(labels[:, None] - labels[None]).mean()
    assert hybrid.mean_pairwise_difference(labels) == pytest.approx(direct)


def test_the_threshold_buys_the_most_within_the_drop() -> None:
    trust = np.array([0.9, 0.8, 0.7, 0.1])
    small, large = np.array([1.0, 1.0, 0.9, 0.0]), np.ones(4)
    # Two to the small model: no drop. Three: 0.1 / 4 = 2.5 %. All: 27.5 %.
    strict = hybrid.calibrate_threshold(trust, small, large, 1.0)
    assert (strict.cost_advantage, strict.drop_percent) == (0.5, pytest.approx(0.0))
    assert 0.7 <= strict.threshold < 0.8
    loose = hybrid.calibrate_threshold(trust, small, large, 3.0)
    assert (loose.cost_advantage, loose.drop_percent) == (0.75, pytest.approx(2.5))
    assert hybrid.calibrate_threshold(trust, small * 0, large, 0.0).cost_advantage == 0.0


@pytest.mark.parametrize("label", ["deterministic", "probabilistic", "transformed"])
def test_a_hybrid_router_trusts_the_small_model_where_it_is_good(label: hybrid.Label) -> None:
    world = topic_world(600)
    words = TfidfEmbedder(24)
    words.fit(world.texts)
    router = hybrid.HybridRouter(label)
    router.fit(words.embed(world.texts), world.correct[:, :1], world.correct[:, 2:])
    cooking, maths = router.trust(words.embed(["onion oven butter", "integral prime matrix"]))
    assert cooking > 0.7
    assert cooking > maths + 0.3
    always = hybrid.HybridRouter(label)
    always.fit(words.embed(world.texts), np.ones((600, 1)), np.ones((600, 1)))
    assert always.trust(words.embed(["onion"])).tolist() == [1.0]


def test_one_decision_of_mess_plus_by_hand() -> None:
    cost, predicted = np.array([1.0, 10.0]), np.array([0.2, 0.9])
    # V E - Q s: 1 - 0.2 Q against 10 - 0.9 Q; equal at Q = 90 / 7.
    assert mess_plus.decide(12.0, 1.0, cost, predicted) == 0
    assert mess_plus.decide(13.0, 1.0, cost, predicted) == 1
    assert mess_plus.decide(0.0, 1.0, cost, predicted) == 0
    assert mess_plus.next_queue(0.2, 0.7, 1.0) == 0.0
    assert mess_plus.next_queue(0.2, 0.7, 0.0) == pytest.approx(0.9)


def test_exploration_decays_as_the_proof_or_as_the_text_says() -> None:
    assert mess_plus.exploration_probability(1, 0.1) == 0.1
    assert mess_plus.exploration_probability(16, 0.1) == pytest.approx(0.05)
    assert mess_plus.exploration_probability(16, 0.1, "square-root") == pytest.approx(0.025)
    assert mess_plus.exploration_probability(1, 3.0) == 1.0


def run(alpha: float = 0.8, v: float = 0.001, **more) -> tuple[mess_plus.Trajectory, np.ndarray]:
    world, vectors = embedded_world()
    trajectory = mess_plus.run_mess_plus(world.correct, world.cost, vectors, alpha=alpha, v=v, **more)
    return trajectory, world.cost


@functools.cache
def embedded_world() -> tuple[OutcomeMatrix, np.ndarray]:
    world = topic_world(1_200, seed=5)
    words = TfidfEmbedder(16)
    words.fit(world.texts)
    return world, words.embed(world.texts)


def test_mess_plus_keeps_its_promise_for_less_than_the_largest_model() -> None:
    trajectory, cost = run(c=0.3)
    assert trajectory.satisfaction[-1] >= 0.79
    assert trajectory.cost.mean() < 0.9 * cost[:, 2].mean()
    assert 0.02 < trajectory.explored.mean() < 0.12
    assert (trajectory.cost[trajectory.explored] > cost.max(axis=1)[trajectory.explored]).all()
    assert trajectory.queue[0] == 0


def test_a_larger_v_is_cheaper_and_keeps_the_promise_later() -> None:
    quick, _ = run(alpha=0.8, v=1e-4)
    cheap, _ = run(alpha=0.8, v=0.1)
    assert cheap.cost.mean() < quick.cost.mean()
    assert cheap.queue.max() > quick.queue.max()


class Clairvoyant:
    """Predicts what will be: theorem 1 holds with psi = 0 and any beta below 1."""

    def __init__(self, correct: np.ndarray) -> None:
        self.rows = iter(correct)

    def predict(self, features: np.ndarray) -> np.ndarray:
        return next(self.rows)

    def update(self, features: np.ndarray, satisfied: np.ndarray) -> None:
        next(self.rows)


def test_theorem_1_and_its_corollary_hold_in_numbers() -> None:
    world = topic_world(1_500)
    alpha, v = 0.7, 0.01
    spread = float(world.cost.max() - world.cost.min())
    queues, violations = [], []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(world))
        part = world.rows(order)
        ran = mess_plus.run_mess_plus(
            part.correct,
            part.cost,
            np.zeros((len(part), 1)),
            alpha=alpha,
            v=v,
            predictor=Clairvoyant(part.correct),
            seed=seed,
        )
        queues.append(ran.queue)
        violations.append(alpha - ran.satisfied.mean())
    limits = {"v": v, "cost_range": spread, "beta": 0.99, "alpha": alpha, "psi": 0.0}
    t = np.arange(1, len(world) + 1)
    assert (np.mean(queues, axis=0) <= bounds.queue_bound(t, **limits)).all()
    assert np.mean(violations) <= bounds.violation_bound(len(world), **limits)
    assert bounds.queue_bound(np.array([4]), v=2, cost_range=3, beta=0.5, alpha=0.5, psi=10)[0] == 14.0


def test_first_compliance_is_the_last_time_below() -> None:
    satisfied = np.array([0.0, 1.0, 1.0, 1.0])
    ran = mess_plus.Trajectory(
        np.zeros(4, int), np.zeros(4, bool), satisfied, satisfied, satisfied, satisfied, 0.6
    )
    assert ran.first_compliant == 2
    never = mess_plus.Trajectory(
        np.zeros(4, int), np.zeros(4, bool), 1 - satisfied, satisfied, satisfied, satisfied, 0.6
    )
    assert never.first_compliant is None
    # Running shares 0, 1/2, 2/3, 3/4; windows of two hold 1/2 and 1.
    assert ran.held_share == 0.5
    assert ran.kept_windows(2) == 0.5
    assert math.isnan(ran.kept_windows(5))


def test_the_least_cost_of_a_promise_by_hand() -> None:
    """Two of four requests: both that only the large model satisfies are the dearer ones."""
    correct = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    cost = np.array([[1.0, 9.0], [1.0, 5.0], [1.0, 9.0], [1.0, 9.0]])
    assert bounds.least_cost(correct, cost, 0.25) == pytest.approx(1.0)
    assert bounds.least_cost(correct, cost, 0.5) == pytest.approx((1 + 5 + 1 + 1) / 4)
    # Half of the third request as well.
    assert bounds.least_cost(correct, cost, 0.625) == pytest.approx((1 + 5 + (1 + 9) / 2 + 1) / 4)
    with pytest.raises(RoutingError, match=r"above 0\.7500"):
        bounds.least_cost(correct, cost, 0.8)


@pytest.mark.parametrize(("knows", "v"), [(True, 0.02), (False, 0.02)])
def test_theorem_2_before_its_constants_are_folded(knows: bool, v: float) -> None:
    """Requests drawn independently, as the theorem asks; means over orders, as it is about expectations."""
    world, alpha = topic_world(300, 3), 0.75
    # The verdict is what the topic says: a predictor can become exact, and then the bound is a tight one.
    certain = np.round(np.array([np.array(SKILL[t]) for t in world.domains]))
    words = TfidfEmbedder(8)
    words.fit(world.texts)
    vectors = words.embed(world.texts)
    optimal = bounds.least_cost(certain, world.cost, alpha)
    found = []
    for seed in range(10):
        drawn = np.random.default_rng(seed).integers(0, len(world), 600)
        ran = mess_plus.run_mess_plus(
            certain[drawn],
            world.cost[drawn],
            vectors[drawn],
            alpha=alpha,
            v=v,
            predictor=Clairvoyant(certain[drawn]) if knows else None,
            seed=seed,
        )
        found.append(bounds.cost_bound(ran, v, optimal))
    cost, bound = (np.mean([getattr(f, side) for f in found]) for side in ("cost", "bound"))
    assert cost <= bound
    assert (np.mean([f.prediction for f in found]) == 0) == knows
    if knows:
        # No empty statement: it excludes the largest model for every other request.
        assert bound < 0.5 * world.cost[:, -1].mean()


def test_the_promise_is_told_over_alpha_and_v() -> None:
    world = topic_world(400)
    words = TfidfEmbedder(8)
    words.fit(world.texts)
    told: list[str] = []
    table, curves = sla_tables(
        world, words.embed(world.texts), [0.6, 0.7], [0.0001, 0.1], orders=2, window=50, progress=told.append
    )
    rows = {(row["alpha"], row["v"]): row for row in table.to_pylist()}
    assert told == ["alpha 0.6, V 0.0001", "alpha 0.6, V 0.1", "alpha 0.7, V 0.0001", "alpha 0.7, V 0.1"]
    for alpha in (0.6, 0.7):
        # A large V is cheaper and keeps the promise later (section 4.2).
        assert rows[alpha, 0.1]["mean_cost"] < rows[alpha, 0.0001]["mean_cost"]
        assert rows[alpha, 0.1]["satisfied"] < rows[alpha, 0.0001]["satisfied"]
        assert rows[alpha, 0.0001]["orders_kept"] == 1.0
        assert rows[alpha, 0.0001]["least_cost"] < rows[alpha, 0.0001]["cheapest_keeping"]
    for row in rows.values():
        assert sum(row[f"answers: {model}"] for model in world.models) == pytest.approx(1)
        assert 0 <= row["windows_kept"] <= 1
    assert set(curves.column("line").to_pylist()) == set(told)
    with pytest.raises(RoutingError, match="1 to 400 requests"):
        sla_tables(world, words.embed(world.texts), [0.6], [0.1], window=401)
    with pytest.raises(RoutingError, match="V and c must be above 0"):
        sla_tables(world, words.embed(world.texts), [0.6], [0.1, -1.0])


def test_a_decision_takes_less_than_a_millisecond() -> None:
    predictor = mess_plus.OnlineLogistic(28)
    random = np.random.default_rng(0)
    for _ in range(3):
        predictor.update(random.random(384), (random.random(28) < 0.5).astype(float))
    cost, features = random.random(28), random.random(384)
    took = []
    for _ in range(200):
        started = time.perf_counter()
        mess_plus.decide(3.0, 0.01, cost, predictor.predict(features))
        took.append(time.perf_counter() - started)
    assert np.median(took) < 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.999}, "no promise of it can be kept"),
        ({"alpha": 1.5}, "alpha must lie between 0 and 1"),
        ({"alpha": 0.5, "v": 0.0}, "must be above 0"),
    ],
)
def test_promises_that_cannot_be_kept_are_refused(change: dict[str, float], message: str) -> None:
    world = topic_world(50)
    with pytest.raises(RoutingError, match=message):
        mess_plus.run_mess_plus(world.correct, world.cost, np.zeros((50, 1)), **change)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RoutingError, match="the judge's error must lie between 0 and 1"):
        cascade.cascade(CORRECT, COST, judge_error=1.2)
    with pytest.raises(RoutingError, match="cost cap"):
        cascade.cascade(CORRECT, COST, cost_cap=0)
    with pytest.raises(RoutingError, match="at least 0"):
        hybrid.probabilistic_labels(SMALL, LARGE, -1)
    with pytest.raises(RoutingError, match="has not been fitted"):
        hybrid.HybridRouter().trust(np.ones((1, 1)))
    with pytest.raises(RoutingError, match="no queries"):
        hybrid.calibrate_threshold(np.empty(0), np.empty(0), np.empty(0))
