"""All routers on one outcomes table: trained on one part, measured on the other, compared with paired intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness_analysis.embedding import Embedder
from harness_analysis.metrics.bootstrap import Interval, interval, resampled_means
from harness_analysis.metrics.cost_quality import aiq, quality_at, zero_router
from harness_analysis.metrics.deferral import DeferralCurve, budgeted_choices, budgets_of, curve_of
from harness_analysis.metrics.model_pool import agreement
from harness_analysis.metrics.routing_quality import RoutingQuality, routing_quality
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.choosing import (
    DEFAULT_THRESHOLD,
    best,
    check_threshold,
    prices_to_try,
    routed_values,
    smallest_viable,
    willing_to_pay,
)
from harness_analysis.routing.fixed import Heuristic
from harness_analysis.routing.nearest import KNearest
from harness_analysis.routing.router import Queries, Router, reads_text

ZERO = "zero"
INTERVALS = "intervals"
"""What `evaluate` tells its progress when all routers are done."""


@dataclass(frozen=True, slots=True)
class RouterResult:
    """What one router reached on the test queries.

    Args:
        name: of the router.
        curve: its deferral curve over the models' mean training costs.
        area: area under it, with its 95 % interval.
        over_heuristic: area less the heuristic's, paired.
        plane: mean (cost, quality) at each willingness to pay, shape (prices, 2).
        aiq: of these points, with its interval.
        aiq_with_models: of these points and the single models together: at least the zero router's.
        quality: section 4.1 at the threshold; None for the zero router, which mixes and routes no query.
        choice: model of each query at the threshold, shape (n,); None for the zero router.
        mean_cost: of a query at the threshold.
        saved: share of the largest model's mean cost that is saved at the threshold.
        agreement: percentage of queries that go where the heuristic sends them, over all budgets.
        router_s: seconds the router takes for one query, embedding included, in a batch of all test queries.
        neighbours_found: of routers that search neighbours, the share of the true ones that they find for test
            queries; None for others.
    """

    name: str
    curve: DeferralCurve
    area: Interval
    over_heuristic: Interval
    plane: FloatArray
    aiq: Interval
    aiq_with_models: float
    quality: RoutingQuality | None
    choice: IntArray | None
    mean_cost: float
    saved: float
    agreement: float
    router_s: float
    neighbours_found: float | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Routers on one table.

    Args:
        results: one per router, in the order asked, the zero router last.
        training: what they learned from.
        test: what they were measured on.
        threshold: of the section 4.1 metrics.
        costs_range: least and greatest cost of the domain that AIQ is taken over.
    """

    results: tuple[RouterResult, ...]
    training: OutcomeMatrix
    test: OutcomeMatrix
    threshold: float
    costs_range: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Routed:
    name: str
    choices: IntArray
    got: FloatArray
    plane: FloatArray
    at_threshold: IntArray
    router_s: float
    neighbours_found: float | None = None


def evaluate(
    routers: Sequence[Router],
    training: OutcomeMatrix,
    test: OutcomeMatrix,
    embedder: Embedder | None,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    resamples: int = 10_000,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Fit routers on one part and measure them on the other, all on the same resamples of its queries.

    Args:
        routers: not fitted yet.
        training: outcomes to learn from, the models' costs among them.
        test: outcomes of other queries with the same models.
        embedder: not fitted yet; None where no router looks at queries.
        threshold: of the section 4.1 metrics, for routers whose scores are chances.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        progress: told the name of each router before its turn, then `INTERVALS`.

    Raises:
        RoutingError: what a router cannot learn from; models that all cost the same.
    """
    check_threshold(threshold)
    model_cost = training.cost.mean(axis=0)
    budgets = budgets_of(model_cost)
    train_vectors, test_vectors, embedding_s = _embed(embedder, training, test)
    prices = prices_to_try(model_cost)
    heuristic = Heuristic()
    heuristic.fit(training, train_vectors)
    by_heuristic = budgeted_choices(heuristic.scores(Queries(test_vectors)), model_cost, budgets)
    routed: list[_Routed] = []
    for router in routers:
        progress(router.name)
        router.fit(training, train_vectors)
        queries = Queries(test_vectors, test.correct if router.sees_answers else None, test.texts)
        started = time.perf_counter()
        scores = router.scores(queries)
        took_s = (time.perf_counter() - started) / len(test)
        # A router that reads the text itself needs no embedding of it.
        took_s += 0.0 if reads_text(router) else embedding_s
        choices = budgeted_choices(scores, model_cost, budgets)
        # The oracle knows what each query costs; a router knows what a model costs in the mean.
        cost = test.cost if router.sees_answers else model_cost
        paid = [willing_to_pay(scores, cost, price) for price in prices]
        plane = np.stack([_per_query(test, choice) for choice in paid], axis=1)
        at = best(scores) if router.votes else smallest_viable(scores, threshold)
        got = np.take_along_axis(test.correct, choices, axis=1)
        found = router.recall_for(queries) if isinstance(router, KNearest) else None
        routed.append(_Routed(router.name, choices, got, plane, at, took_s, found))
    progress(INTERVALS)
    return _measured(routed, by_heuristic, training, test, budgets, threshold, resamples, seed)


def _embed(
    embedder: Embedder | None, training: OutcomeMatrix, test: OutcomeMatrix
) -> tuple[FloatArray, FloatArray, float]:
    """Return vectors of both parts and the seconds that one test query's took."""
    if embedder is None:
        return np.zeros((len(training), 1)), np.zeros((len(test), 1)), 0.0
    embedder.fit(training.texts)
    vectors = embedder.embed(training.texts)
    started = time.perf_counter()
    return vectors, embedder.embed(test.texts), (time.perf_counter() - started) / len(test)


def _per_query(test: OutcomeMatrix, choice: IntArray) -> FloatArray:
    """Return (cost, quality) of each query, shape (n, 2)."""
    return np.column_stack([routed_values(test.cost, choice), routed_values(test.correct, choice)])


def _measured(
    routed: list[_Routed],
    by_heuristic: IntArray,
    training: OutcomeMatrix,
    test: OutcomeMatrix,
    budgets: FloatArray,
    threshold: float,
    resamples: int,
    seed: int,
) -> Evaluation:
    n = len(test)
    heuristic_area = curve_of(np.take_along_axis(test.correct, by_heuristic, axis=1), budgets).per_query_area
    models = np.stack([test.cost, test.correct], axis=2)
    single = models.mean(axis=0)
    costs = np.concatenate([single[:, 0], *(r.plane.mean(axis=0)[:, 0] for r in routed)])
    low, high = float(costs.min()), float(costs.max())
    curves = [curve_of(r.got, budgets) for r in routed]
    # One set of resamples for everything: columns are areas, then costs and qualities of points and models.
    flat = [heuristic_area[:, None], *(c.per_query_area[:, None] for c in curves)]
    flat += [r.plane.reshape(n, -1) for r in routed] + [models.reshape(n, -1)]
    means = resampled_means(np.hstack(flat), resamples, seed)
    results = []
    start = 1 + len(curves)
    for at, (r, curve) in enumerate(zip(routed, curves, strict=True)):
        points = r.plane.mean(axis=0)
        replicate = means[:, start : start + points.size].reshape(-1, *points.shape)
        start += points.size
        cost = routed_values(test.cost, r.at_threshold)
        results.append(
            RouterResult(
                name=r.name,
                curve=curve,
                area=interval(curve.area, means[:, 1 + at]),
                over_heuristic=interval(
                    float((curve.per_query_area - heuristic_area).mean()), means[:, 1 + at] - means[:, 0]
                ),
                plane=points,
                aiq=_aiq_interval(points, replicate, low, high),
                aiq_with_models=_aiq(np.vstack([points, single]), low, high),
                quality=routing_quality(r.at_threshold, test.correct),
                choice=r.at_threshold,
                mean_cost=float(cost.mean()),
                saved=_saved(float(cost.mean()), test),
                agreement=agreement(r.choices, by_heuristic),
                router_s=r.router_s,
                neighbours_found=r.neighbours_found,
            )
        )
    results.append(
        _zero_result(means[:, start:], means[:, 0], single, test, budgets, heuristic_area, (low, high))
    )
    return Evaluation(tuple(results), training, test, threshold, (low, high))


def _zero_result(
    models: FloatArray,
    heuristic: FloatArray,
    single: FloatArray,
    test: OutcomeMatrix,
    budgets: FloatArray,
    heuristic_area: FloatArray,
    costs_range: tuple[float, float],
) -> RouterResult:
    """Return the zero router's: at each budget the mix of single models that costs as much in the mean."""
    replicate = models.reshape(-1, *single.shape)

    def accuracy(points: FloatArray) -> FloatArray:
        return quality_at(budgets, zero_router(points[:, 0], points[:, 1]))

    reached = accuracy(single)
    curve = curve_of(np.broadcast_to(reached, (len(test), len(budgets))), budgets)
    areas = np.array([curve_of(accuracy(points)[None], budgets).area for points in replicate])
    score = _aiq_interval(single, replicate, *costs_range)
    return RouterResult(
        name=ZERO,
        curve=curve,
        area=interval(curve.area, areas),
        over_heuristic=interval(curve.area - heuristic_area.mean(), areas - heuristic),
        plane=single,
        aiq=score,
        aiq_with_models=score.estimate,
        quality=None,
        choice=None,
        mean_cost=float("nan"),
        saved=float("nan"),
        agreement=float("nan"),
        router_s=0.0,
    )


def _aiq(points: FloatArray, low: float, high: float) -> float:
    return aiq(points[:, 0], points[:, 1], low, high)


def _aiq_interval(points: FloatArray, replicates: FloatArray, low: float, high: float) -> Interval:
    return interval(_aiq(points, low, high), np.array([_aiq(each, low, high) for each in replicates]))


def _saved(mean_cost: float, test: OutcomeMatrix) -> float:
    largest = float(test.cost[:, -1].mean())
    return 1 - mean_cost / largest if largest > 0 else float("nan")
