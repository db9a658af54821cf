"""The three Hybrid LLM routers on one pair of models: calibrated on some queries, measured on others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from harness_analysis.embedding import Embedder
from harness_analysis.errors import RoutingError
from harness_analysis.metrics.bootstrap import statistic_interval
from harness_analysis.metrics.model_pair import quality_drop, routing_rate_curve
from harness_analysis.outcomes.matrix import OutcomeMatrix
from harness_analysis.routing.finetuned.hybrid_encoder import HybridEncoder
from harness_analysis.routing.hybrid import CALIBRATION_QUERIES, HybridRouter, Label, calibrate_threshold

LABELS: tuple[Label, ...] = ("deterministic", "probabilistic", "transformed")


def evaluate_pair(
    matrix: OutcomeMatrix,
    small: str,
    large: str,
    embedder: Embedder | None,
    *,
    encoder: HybridEncoder | None = None,
    max_drop_percent: float = 1.0,
    train_share: float = 0.6,
    resamples: int = 2_000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return one row per router: cost advantage and drop on calibration and test queries, and its rate curve's area.

    With one score per query and model, as here, the probabilistic labels are the deterministic ones; with scores that
    are 0 or 1, so are the transformed ones at any relaxation under 1.

    Args:
        matrix: outcomes.
        small: label of the small model.
        large: of the large model.
        embedder: not fitted yet; None with an encoder.
        encoder: its folder, schedule and seed serve all three routers; None for logistic regression on embeddings.
        max_drop_percent: of the large model's quality, on the calibration queries.
        train_share: of the queries; of the rest, up to 500 calibrate and the others measure.
        resamples: of the bootstrap for the test drop.
        seed: of the split and the bootstrap.

    Raises:
        RoutingError: neither an embedder nor an encoder, one model twice, a drop outside 0 to 100, or what cannot be
            learned from.

    Source: Hybrid LLM sections 3, 4.2, 4.3 and 4.5 (tables 1 and 3, figure 6).
    """
    if small == large:
        raise RoutingError(f"a pair needs two models, not {small} twice")
    if not 0 <= max_drop_percent <= 100:
        raise RoutingError(f"a drop in quality lies between 0 and 100 percent, not {max_drop_percent:g}")
    training, rest = matrix.split(train_share, seed)
    calibration, test = rest.split(min(0.5, CALIBRATION_QUERIES / len(rest)), seed + 1)
    columns = [matrix.models.index(small), matrix.models.index(large)]
    if encoder is None and embedder is None:
        raise RoutingError("a hybrid router needs an embedding or an encoder")
    inputs: dict[str, Any] = {"train": training.texts, "calibration": calibration.texts, "test": test.texts}
    if encoder is None and embedder is not None:
        embedder.fit(training.texts)
        inputs = {part: embedder.embed(texts) for part, texts in inputs.items()}
    rows = []
    for label in LABELS:
        router: Any = HybridRouter(label) if encoder is None else replace(encoder, label=label)
        router.fit(inputs["train"], training.correct[:, columns[:1]], training.correct[:, columns[1:]])
        found = calibrate_threshold(
            router.trust(inputs["calibration"]),
            calibration.correct[:, columns[0]],
            calibration.correct[:, columns[1]],
            max_drop_percent,
        )
        trust = router.trust(inputs["test"])
        to_small = trust > found.threshold
        of_small, of_large = test.correct[:, columns[0]], test.correct[:, columns[1]]
        mixed = np.where(to_small, of_small, of_large)
        drop = statistic_interval(
            np.column_stack([mixed, of_large]), lambda mean: quality_drop(mean[0], mean[1]), resamples, seed
        )
        curve = routing_rate_curve(trust, of_small, of_large)
        rows.append(
            {
                "router": label,
                "learner": "regression" if encoder is None else "encoder",
                "small": small,
                "large": large,
                "relaxation": router.relaxation,
                "threshold": found.threshold,
                "calibration_cost_advantage": found.cost_advantage,
                "calibration_drop_percent": found.drop_percent,
                "cost_advantage": float(to_small.mean()),
                "drop_percent": drop.estimate,
                "drop_low": drop.low,
                "drop_high": drop.high,
                "gap_difference_at_20_percent": curve.gap_difference(0.2),
                "gap_difference_at_40_percent": curve.gap_difference(0.4),
                "rate_curve_area": curve.area,
                "random_area": float((of_small.mean() + of_large.mean()) / 2),
            }
        )
    return rows
