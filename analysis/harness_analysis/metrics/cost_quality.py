"""The cost-quality plane: non-decreasing convex hull, AIQ and the zero router (RouterBench section 3)."""

from __future__ import annotations

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray


def non_decreasing_hull(cost: FloatArray, quality: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the vertices of the non-decreasing convex hull, from the null router (0, 0) on.

    A mix of two routers reaches every point between them, and the null router costs and answers nothing, so quality at
    a cost is bounded below by the upper hull of the points and the origin; past the best point more cost buys nothing.

    Args:
        cost: shape (k,), at least 0.
        quality: shape (k,).

    Returns:
        Costs and qualities of the vertices, both strictly increasing after the first.

    Raises:
        RoutingError: no points, NaN, or a negative cost.

    Source: RouterBench sections 3.1 and 3.2.
    """
    if cost.size == 0 or not (np.isfinite(cost).all() and np.isfinite(quality).all()) or cost.min() < 0:
        raise RoutingError("a hull needs points with finite qualities and costs of at least 0")
    points = sorted({(0.0, 0.0), *zip(cost.tolist(), quality.tolist(), strict=True)})
    hull: list[tuple[float, float]] = []
    for c, q in points:
        if hull and q <= hull[-1][1]:
            continue
        # Of points with one cost the best stands alone; a point under the line between its neighbours is mixed better.
        while hull and (
            hull[-1][0] == c
            or (
                len(hull) > 1
                and (hull[-1][1] - hull[-2][1]) * (c - hull[-2][0])
                <= (q - hull[-2][1]) * (hull[-1][0] - hull[-2][0])
            )
        ):
            hull.pop()
        hull.append((c, q))
    return np.array([c for c, _ in hull]), np.array([q for _, q in hull])


def quality_at(cost: FloatArray, hull: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Return the best quality that mixing reaches in the mean at each cost; flat past the hull's end."""
    return np.interp(cost, hull[0], hull[1])


def aiq(cost: FloatArray, quality: FloatArray, low: float, high: float) -> float:
    """Return the average improvement in quality: the hull's mean height between two costs.

    Args:
        cost: of the router at each of its settings, shape (k,).
        quality: of the same, shape (k,).
        low: least cost of the domain that all compared routers share.
        high: greatest cost of it.

    Raises:
        RoutingError: an empty domain.

    Source: RouterBench section 3.3.
    """
    if not high > low >= 0:
        raise RoutingError(f"AIQ needs a range of costs, not {low:g} to {high:g}")
    hull = non_decreasing_hull(cost, quality)
    inside = hull[0][(hull[0] > low) & (hull[0] < high)]
    at = np.concatenate([[low], inside, [high]])
    return float(np.trapezoid(quality_at(at, hull), at) / (high - low))


def zero_router(cost: FloatArray, quality: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the zero router: the hull of the single models, what mixing them without looking at queries reaches.

    Args:
        cost: mean cost of each model, shape (m,).
        quality: mean quality of each model, shape (m,).

    Source: RouterBench section 3.2.
    """
    return non_decreasing_hull(cost, quality)
