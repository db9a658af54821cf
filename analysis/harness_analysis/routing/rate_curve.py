"""Routing-rate curves of a pair of models: quality against the share of queries that the small one answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness_analysis.embedding import Embedder
from harness_analysis.errors import RoutingError
from harness_analysis.metrics.model_pair import performance_gap_recovered, quality_drop, routing_rate_curve
from harness_analysis.outcomes.matrix import OutcomeMatrix
from harness_analysis.routing.catalogue import make_router
from harness_analysis.routing.router import Queries

STEPS = 20


def rate_curves(
    matrix: OutcomeMatrix,
    small: str,
    large: str,
    names: Sequence[str],
    words: Embedder,
    *,
    train_share: float = 0.7,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return each router's quality, drop and recovered gap at shares from 0 to 1 in steps of a twentieth.

    A router's trust in the small model is its score of it less its score of the large one.

    Args:
        matrix: outcomes.
        small: label of the small model.
        large: of the large model.
        names: of routers.
        words: an embedding that has not learned yet.
        train_share: of the queries; the others measure.
        seed: of the split and the routers.

    Raises:
        RoutingError: one model twice.

    Source: "Who routes the router", section 4.4 and appendix I.1; RouteLLM for the performance gap recovered (PGR).
    """
    if small == large:
        raise RoutingError(f"a pair needs two models, not {small} twice")
    training, test = matrix.split(train_share, seed)
    at_small, at_large = matrix.models.index(small), matrix.models.index(large)
    words.fit(training.texts)
    train_vectors, test_vectors = words.embed(training.texts), words.embed(test.texts)
    of_small, of_large = test.correct[:, at_small], test.correct[:, at_large]
    rows = []
    for name in names:
        router = make_router(name, seed)
        router.fit(training, train_vectors)
        scores = router.scores(
            Queries(test_vectors, test.correct if router.sees_answers else None, test.texts)
        )
        curve = routing_rate_curve(scores[:, at_small] - scores[:, at_large], of_small, of_large)
        for share in np.linspace(0, 1, STEPS + 1):
            quality = float(np.interp(share, curve.share, curve.quality))
            low, high = float(of_small.mean()), float(of_large.mean())
            rows.append(
                {
                    "router": name,
                    "small": small,
                    "large": large,
                    "cost_advantage": float(share),
                    "quality": quality,
                    "drop_percent": quality_drop(quality, high) if high > 0 else None,
                    "gap_recovered": performance_gap_recovered(quality, low, high) if low != high else None,
                    "area": curve.area,
                    "test_queries": len(test),
                }
            )
    return rows
