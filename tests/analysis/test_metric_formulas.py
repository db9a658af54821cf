"""Each metric against numbers worked out by hand from its paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
from harness_analysis.errors import RoutingError
from harness_analysis.metrics import (
    bootstrap,
    cost_quality,
    deferral,
    model_pair,
    model_pool,
    routing_quality,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

CORRECT = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=float)


def test_precision_recall_and_f1_of_section_4_1() -> None:
    # Queries 0 and 1 to model 0, queries 2 and 3 to model 2; model 1 receives none.
    q = routing_quality.routing_quality(np.array([0, 0, 2, 2]), CORRECT)
    assert q.model_precision[[0, 2]].tolist() == [0.5, 0.5]
    assert math.isnan(q.model_precision[1])
    assert q.model_recall.tolist() == [1.0, 0.0, 1 / 3]
    # F1: 2 (1/2)(1) / (3/2) = 2/3 and 2 (1/2)(1/3) / (5/6) = 2/5
    assert q.model_f1[[0, 2]] == pytest.approx([2 / 3, 2 / 5])
    assert q.precision == 0.5
    assert q.recall == pytest.approx((1 + 1 / 3) / 2)
    assert q.macro_f1 == pytest.approx((2 / 3 + 2 / 5) / 2)
    assert q.accuracy == 0.5


def test_the_oracle_has_label_f1_1_and_a_lower_macro_f1() -> None:
    oracle = routing_quality.smallest_correct(CORRECT)
    assert oracle.tolist() == [0, 1, 2, 2]
    q = routing_quality.routing_quality(oracle, CORRECT)
    assert q.label_f1 == 1.0
    assert q.macro_f1 < 1.0
    assert q.accuracy == 0.75


def test_a_query_nobody_solved_goes_where_it_is_told() -> None:
    assert routing_quality.smallest_correct(CORRECT, unsolved=0).tolist() == [0, 1, 2, 0]


def test_the_hull_drops_what_mixing_beats() -> None:
    # As in figure 2 of RouterBench: D lies under the line A-C, E costs more than C and is worse.
    cost = np.array([0.1, 0.3, 0.8, 0.5, 0.9])
    quality = np.array([0.4, 0.6, 0.9, 0.65, 0.85])
    hull = cost_quality.non_decreasing_hull(cost, quality)
    assert hull[0].tolist() == [0.0, 0.1, 0.3, 0.8]
    assert hull[1].tolist() == [0.0, 0.4, 0.6, 0.9]
    assert cost_quality.quality_at(np.array([0.2, 2.0]), hull) == pytest.approx([0.5, 0.9])


def test_aiq_of_a_triangle_and_of_a_trapezium() -> None:
    one = (np.array([1.0]), np.array([0.8]))
    assert cost_quality.aiq(*one, 0.0, 1.0) == pytest.approx(0.4)
    # Flat past the point: (0.4 x 1 + 0.8 x 1) / 2
    assert cost_quality.aiq(*one, 0.0, 2.0) == pytest.approx(0.6)
    # From 0.5 to 1 the line runs from 0.4 to 0.8.
    assert cost_quality.aiq(*one, 0.5, 1.0) == pytest.approx(0.6)


@given(
    hnp.arrays(float, st.integers(1, 12), elements=st.floats(0, 10).map(lambda c: round(c, 3))),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_the_hull_is_concave_increasing_and_above_every_point(cost: np.ndarray, seed: int) -> None:
    quality = np.random.default_rng(seed).random(len(cost))
    c, q = cost_quality.non_decreasing_hull(cost, quality)
    assert (np.diff(c) > 0).all()
    assert (np.diff(q) > 0).all()
    assert (np.diff(np.diff(q) / np.diff(c)) <= 1e-6).all()
    assert (cost_quality.quality_at(cost, (c, q)) >= quality - 1e-9).all()


def test_a_deferral_curve_by_hand() -> None:
    model_cost = np.array([1.0, 2.0, 5.0])
    budgets = deferral.budgets_of(model_cost)
    heuristic = np.tile(CORRECT.mean(axis=0), (4, 1))
    curve = deferral.deferral_curve(
        deferral.budgeted_choices(heuristic, model_cost, budgets), CORRECT, budgets
    )
    assert curve.accuracy.tolist() == [0.25, 0.5, 0.75]
    # Trapezia: (0.25 + 0.5) / 2 x 1 + (0.5 + 0.75) / 2 x 3, over 4
    assert curve.area == pytest.approx((0.375 + 1.875) / 4)
    assert (curve.peak, curve.average) == (0.75, 0.5)
    assert curve.per_query_area.mean() == pytest.approx(curve.area)


def test_ties_go_to_the_smallest() -> None:
    cost = np.array([1.0, 2.0, 3.0])
    choices = deferral.budgeted_choices(np.ones((2, 3)), cost, deferral.budgets_of(cost))
    assert (choices == 0).all()


def test_a_model_pair_by_hand() -> None:
    assert model_pair.cost_advantage(np.array([True, False, False, False])) == 0.25
    assert model_pair.quality_drop(0.72, 0.80) == pytest.approx(10.0)
    assert model_pair.quality_drop(-2.2, -2.0) == pytest.approx(10.0)
    assert model_pair.performance_gap_recovered(0.7, 0.6, 0.8) == pytest.approx(0.5)
    curve = model_pair.routing_rate_curve(
        np.array([0.9, 0.1]), small=np.array([1.0, 0.0]), large=np.array([1.0, 1.0])
    )
    assert curve.quality.tolist() == [1.0, 1.0, 0.5]
    assert curve.area == pytest.approx(0.875)
    # The first of two goes to the small model: a gap of 1 there and of -1 where the other goes.
    easy_first = model_pair.routing_rate_curve(
        np.array([2.0, 1.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0])
    )
    assert easy_first.gap_difference(0.5) == pytest.approx(2.0)
    at_random = model_pair.routing_rate_curve(np.ones(2), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    assert at_random.gap_difference(0.4) == pytest.approx(0.0)
    blind = model_pair.routing_rate_curve(np.ones(2), small=np.array([1.0, 0.0]), large=np.array([1.0, 1.0]))
    assert blind.quality.tolist() == [1.0, 0.75, 0.5]


def test_the_bootstrap_agrees_with_the_normal_approximation() -> None:
    values = (np.random.default_rng(1).random((2_000, 1)) < 0.7).astype(float)
    (found,) = bootstrap.mean_intervals(values, 10_000)
    half = 1.96 * values.std() / math.sqrt(2_000)
    assert found.low == pytest.approx(values.mean() - half, abs=0.002)
    assert found.high == pytest.approx(values.mean() + half, abs=0.002)


def test_pairing_makes_a_constant_difference_certain() -> None:
    first = np.random.default_rng(2).random(500)
    replicates = bootstrap.resampled_means(np.column_stack([first, first + 0.01]), 2_000)
    assert np.ptp(replicates[:, 1] - replicates[:, 0]) < 1e-9


def test_a_statistic_of_means_has_an_interval_around_it() -> None:
    random = np.random.default_rng(3)
    both = np.column_stack([random.random(400) + 1, random.random(400) + 3])
    ratio = bootstrap.statistic_interval(both, lambda mean: mean[0] / mean[1], 2_000)
    assert ratio.low < ratio.estimate < ratio.high
    assert ratio.excludes_zero


def test_specialists_ranks_and_agreement_by_hand() -> None:
    accuracy = np.array([[0.5, 0.7, 0.9], [0.6, 0.8, 0.4]])
    overall, cost = np.array([0.55, 0.75, 0.65]), np.array([1.0, 2.0, 3.0])
    # Budget 2: generalist 1, other 0: -0.2, -0.2. Budget 3: generalist 1, best other 0.9 and 0.6: +0.2, -0.2.
    assert model_pool.specialist_scores(accuracy, overall, cost) == pytest.approx([0.0, -0.2])
    assert model_pool.average_rank(accuracy).tolist() == [2.5, 1.5, 2.0]
    assert model_pool.agreement(np.array([0, 1, 1]), np.array([1, 1, 1])) == pytest.approx(200 / 3)


def test_jaccard_and_pruning_by_hand() -> None:
    # Models 0 and 1 solve the same; model 2 shares one of three.
    correct = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1]], dtype=float)
    similarity = model_pool.jaccard_similarity(correct)
    assert similarity[0].tolist() == [1.0, 1.0, 1 / 3]
    # Equal scores of the twins: the first goes, the unique one stays.
    assert model_pool.prune_models(correct, 2) == [1, 2]


def test_a_pseudo_specialist_leads_on_its_task_only() -> None:
    tasks = ["law"] * 4_000 + ["maths"] * 4_000
    correct = (np.random.default_rng(4).random((8_000, 3)) < 0.4).astype(float)
    invented = model_pool.pseudo_specialist(correct, tasks, "law")
    assert invented[:4_000].mean() == pytest.approx(correct[:4_000].mean(axis=0).max() + 0.25, abs=0.03)
    assert invented[4_000:].mean() == pytest.approx(0.4, abs=0.03)


def test_duplicates_are_found_by_their_cosine() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 1e-4], [1, 1]], dtype=float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = model_pool.duplicate_groups(vectors)
    assert [g.tolist() for g in groups] == [[0, 2]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: routing_quality.routing_quality(np.array([], int), np.empty((0, 2))), "no queries"),
        (lambda: routing_quality.routing_quality(np.array([3]), np.ones((1, 2))), "model 3 of 2"),
        (lambda: cost_quality.aiq(np.ones(1), np.ones(1), 2, 1), "range of costs"),
        (lambda: cost_quality.non_decreasing_hull(np.array([np.nan]), np.ones(1)), "finite"),
        (lambda: deferral.budgets_of(np.ones(3)), "cost the same"),
        (lambda: model_pair.performance_gap_recovered(1, 1, 1), "no gap"),
        (lambda: model_pair.quality_drop(1, 0), "not defined"),
        (
            lambda: model_pair.routing_rate_curve(np.ones(1), np.ones(1), np.ones(1)).gap_difference(1.0),
            "lies between 0 and 1 here",
        ),
        (lambda: bootstrap.resampled_means(np.array([[np.nan]])), "finite value"),
        (lambda: bootstrap.interval(1, np.ones(3), 2), "between 0 and 1"),
        (lambda: model_pool.prune_models(np.ones((2, 2)), 1, 3), "between 0 and 1"),
        (lambda: model_pool.pseudo_specialist(np.ones((1, 1)), ["a"], "b"), "no query belongs"),
    ],
)
def test_what_has_no_value_is_refused(call, message: str) -> None:
    with pytest.raises(RoutingError, match=message):
        call()
