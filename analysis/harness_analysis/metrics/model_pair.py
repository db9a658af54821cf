"""A small and a large model: cost advantage, quality drop, performance gap recovered, routing-rate curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray


@dataclass(frozen=True, slots=True)
class RateCurve:
    """Quality against the share of queries that go to the small model.

    Args:
        share: cost advantage, 0 to 1, shape (n + 1,).
        quality: mean quality at each share, shape (n + 1,).
        area: mean quality over all shares.
    """

    share: FloatArray
    quality: FloatArray
    area: float

    def gap_difference(self, cost_advantage: float) -> float:
        """Return how much greater the quality gap, small less large, is where a query goes to the small model.

        Random routing has 0; a router that sends easy queries to the small model is above it.

        Args:
            cost_advantage: share of queries that do, between 0 and 1.

        Raises:
            RoutingError: nothing goes to one of the models.

        Source: Hybrid LLM section 4.3 (figures 6 and 10).
        """
        if not 0 < cost_advantage < 1:
            raise RoutingError(f"a cost advantage lies between 0 and 1 here, not {cost_advantage:g}")
        there = float(np.interp(cost_advantage, self.share, self.quality))
        sent_small = (there - self.quality[0]) / cost_advantage
        return float(sent_small - (self.quality[-1] - there) / (1 - cost_advantage))


def cost_advantage(to_small: NDArray[np.bool_]) -> float:
    """Return the share of queries that go to the small model (Hybrid LLM section 2.3)."""
    return float(np.mean(to_small))


def quality_drop(mixed: float, all_at_large: float) -> float:
    """Return the drop in percent of the large model's quality (Hybrid LLM table 1); negative where mixing is better.

    Raises:
        RoutingError: the large model's quality is 0, of which nothing is a percentage.
    """
    if all_at_large == 0:
        raise RoutingError("the large model's mean quality is 0: a drop in percent of it is not defined")
    return 100 * (all_at_large - mixed) / abs(all_at_large)


def performance_gap_recovered(mixed: float, small: float, large: float) -> float:
    """Return the part of the gap between small and large that a router recovers (RouteLLM's PGR).

    Raises:
        RoutingError: both models are equally good: there is no gap.
    """
    if large == small:
        raise RoutingError("both models are equally good, so there is no gap to recover")
    return (mixed - small) / (large - small)


def routing_rate_curve(score: FloatArray, small: FloatArray, large: FloatArray) -> RateCurve:
    """Return the curve of a router that sends the queries it trusts the small model with most there first.

    Queries with one score are exchangeable: between their ends the curve is the straight line of a random order.

    Args:
        score: trust in the small model, shape (n,).
        small: its quality per query, shape (n,).
        large: the large model's, shape (n,).

    Source: "Who routes the router", section 4.4 and appendix I.1.
    """
    order = np.argsort(-score, kind="stable")
    gain = np.concatenate([[0.0], np.cumsum((small - large)[order])])
    ends = np.concatenate([[0], np.flatnonzero(np.diff(score[order])) + 1, [len(score)]])
    counts = np.arange(len(score) + 1)
    quality = (large.sum() + np.interp(counts, ends, gain[ends])) / len(score)
    share = counts / len(score)
    return RateCurve(share=share, quality=quality, area=float(np.trapezoid(quality, share)))
