"""What MESS+ proves of its queue and its cost, as numbers that a run can be held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray
from harness_analysis.routing.mess_plus import Trajectory, next_queue


def queue_bound(
    t: NDArray[np.int64], *, v: float, cost_range: float, beta: float, alpha: float, psi: float
) -> FloatArray:
    """Return theorem 1's bound on E[Q_t]: max(alpha psi, V dE / beta) + sqrt(t).

    Args:
        t: requests, counted from 1.
        v: weight of the cost.
        cost_range: dE, greatest less least cost of any call.
        beta: how close to the best prediction a model still satisfies with probability above alpha.
        alpha: the promised share.
        psi: requests until the predictor is that good.
    """
    return max(alpha * psi, v * cost_range / beta) + np.sqrt(t)


def violation_bound(t: int, *, v: float, cost_range: float, beta: float, alpha: float, psi: float) -> float:
    """Return corollary 1's bound on alpha less the mean satisfaction after t requests (equation 6)."""
    return float(
        queue_bound(np.array([t]), v=v, cost_range=cost_range, beta=beta, alpha=alpha, psi=psi)[0] / t
    )


def least_cost(correct: FloatArray, cost: FloatArray, alpha: float) -> float:
    """Return the least mean cost at which a share alpha of requests is satisfied by one who knows every answer.

    The optimum of equation 1 with y in [0, 1]: no router of these requests that keeps the promise costs less.

    Args:
        correct: whether each model satisfies each request, shape (T, m).
        cost: of each call, shape (T, m).
        alpha: the promised share.

    Raises:
        RoutingError: a share that all models together do not satisfy.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, eye_array, kron

    requests, models = correct.shape
    reachable = float(correct.max(axis=1).mean())
    if alpha > reachable:
        raise RoutingError(f"alpha {alpha:g} is above {reachable:.4f}, the share that any model satisfies")
    one_model_each = kron(eye_array(requests), np.ones((1, models)), format="csr")
    solved = linprog(
        cost.ravel() / requests,
        A_ub=csr_array(-correct.reshape(1, -1) / requests),
        b_ub=[-alpha],
        A_eq=one_model_each,
        b_eq=np.ones(requests),
        bounds=(0, 1),
        method="highs",
    )
    return float(solved.fun)


@dataclass(frozen=True, slots=True)
class CostBound:
    """Theorem 2's right side before its constants are folded into O(.), every term computed from one run.

    The inequality holds in the mean over requests that are drawn independently (assumption 2), not for each run. The
    last term is left out in appendix A.2: it is positive where the largest model, which answers while exploring,
    satisfies less than alpha.

    Args:
        cost: the left side: mean cost of a request.
        optimal: E_OPT.
        prediction: 2 / (V T) times the sum of Q_t max |predicted - true| over requests without exploration.
        drift: 1 / (2 V).
        exploration: mean cost of asking every model.
        exploration_drift: 1 / (2 V T) times the sum of Q_(t+1)^2 - Q_t^2 over requests with exploration.
    """

    cost: float
    optimal: float
    prediction: float
    drift: float
    exploration: float
    exploration_drift: float

    @property
    def bound(self) -> float:
        """The right side."""
        return self.optimal + self.prediction + self.drift + self.exploration + self.exploration_drift


def cost_bound(ran: Trajectory, v: float, optimal: float) -> CostBound:
    """Return both sides of theorem 2 for one run.

    Args:
        ran: what happened.
        v: weight of the cost in it.
        optimal: `least_cost` of all requests that it drew from.

    Source: MESS+ appendix A.2, the sum over t before theorem 1 and lemma A.3 are put in.
    """
    requests = len(ran.choice)
    after = np.array([next_queue(q, ran.alpha, s) for q, s in zip(ran.queue, ran.satisfied, strict=True)])
    weight = 1 / (2 * v * requests)
    return CostBound(
        cost=float(ran.cost.mean()),
        optimal=optimal,
        prediction=4 * weight * float((ran.queue * ran.error)[~ran.explored].sum()),
        drift=1 / (2 * v),
        exploration=float(ran.cost[ran.explored].sum()) / requests,
        exploration_drift=weight * float((after**2 - ran.queue**2)[ran.explored].sum()),
    )
