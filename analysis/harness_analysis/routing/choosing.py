"""From scores to a choice: a threshold, a willingness to pay, or simply the best."""

from __future__ import annotations

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, IntArray

DEFAULT_THRESHOLD = 0.5


def best(scores: FloatArray) -> IntArray:
    """Return the model with the greatest score, ties to the smallest; shape (n,)."""
    return scores.argmax(axis=1)


def smallest_viable(scores: FloatArray, threshold: float = DEFAULT_THRESHOLD) -> IntArray:
    """Return the smallest model whose score exceeds the threshold, the largest where none does; shape (n,).

    Raises:
        RoutingError: a threshold outside [0, 1].

    Source: TrafficBench section 4.3, steps 3 and 4 (there on log-likelihoods); its cloud takes what no local model can.
    """
    check_threshold(threshold)
    viable = scores > threshold
    return np.where(viable.any(axis=1), viable.argmax(axis=1), scores.shape[1] - 1)


def check_threshold(threshold: float) -> None:
    """Refuse what no score can be compared with.

    Raises:
        RoutingError: a threshold outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise RoutingError(f"a threshold must lie between 0 and 1, not {threshold:g}")


def threshold_of_log(log_threshold: float) -> float:
    """Return the threshold on scores that is one on log-likelihoods (TrafficBench section 4.3, step 3).

    Raises:
        RoutingError: above 0, where no log-likelihood is, or NaN.
    """
    if not log_threshold <= 0:
        raise RoutingError(f"a threshold on log-likelihoods must be at most 0, not {log_threshold:g}")
    return float(np.exp(log_threshold))


def willing_to_pay(scores: FloatArray, cost: FloatArray, price: float) -> IntArray:
    """Return the model with the greatest `price x score - cost`, ties to the cheapest; shape (n,).

    Args:
        scores: shape (n, m).
        cost: shape (m,) or (n, m).
        price: what a correct answer is worth in the unit of the cost; infinite for the best at any cost.

    Raises:
        RoutingError: a negative price.

    Source: RouterBench section 5.1.
    """
    if not price >= 0:
        raise RoutingError(f"a willingness to pay must be at least 0, not {price:g}")
    costs = np.broadcast_to(cost, scores.shape)
    worth = scores if np.isinf(price) else price * scores - costs
    # Equal worth goes to the cheaper model, however the columns are ordered.
    at_best = worth >= worth.max(axis=1, keepdims=True)
    return np.where(at_best, costs, np.inf).argmin(axis=1)


def prices_to_try(cost: FloatArray, count: int = 30) -> FloatArray:
    """Return prices from "the cheapest always" to "the best always", evenly on a logarithmic scale between.

    Args:
        cost: mean cost of each model, shape (m,).
        count: of the prices between the two ends.
    """
    spread = float(np.ptp(cost)) or float(cost.max()) or 1.0
    return np.concatenate([[0.0], spread * np.geomspace(0.01, 1_000, count), [np.inf]])


def routed_values(values: FloatArray, choice: IntArray) -> FloatArray:
    """Return each query's value with the model it goes to, shape (n,)."""
    return np.take_along_axis(values, choice[:, None], axis=1)[:, 0]
