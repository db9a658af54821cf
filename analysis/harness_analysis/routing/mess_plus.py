"""MESS+: the cheapest models that keep a promised share of satisfied requests, learning on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, IntArray

Decay = Literal["fourth-root", "square-root"]
DEFAULT_V = 0.001
DEFAULT_C = 0.1


class SatisfactionPredictor(Protocol):
    """Learns online how likely each model is to satisfy a request."""

    def predict(self, features: FloatArray) -> FloatArray:
        """Return a probability for each model, shape (m,)."""
        ...

    def update(self, features: FloatArray, satisfied: FloatArray) -> None:
        """Learn from one request that every model answered, shape (m,)."""
        ...


@dataclass
class OnlineLogistic:
    """A linear classifier per model, trained by stochastic gradient descent on the cross entropy with a penalty.

    The paper puts the same classifier on a frozen ModernBERT; here it sits on any embedding.

    Args:
        models: how many.
        penalty: the weight mu of equation 4's regularisation.
        rate: of learning.
        seed: of nothing but the library's own shuffling.
    """

    models: int
    penalty: float = 1e-4
    rate: float = 0.5
    seed: int = 0
    _classifiers: list[Any] = field(default_factory=list, repr=False)
    _weights: FloatArray | None = field(default=None, repr=False)

    def predict(self, features: FloatArray) -> FloatArray:
        """Return one half for each model before the first update, then the classifiers' probabilities."""
        if self._weights is None:
            return np.full(self.models, 0.5)
        return 1 / (1 + np.exp(-np.clip(self._weights @ np.append(features, 1.0), -50, 50)))

    def update(self, features: FloatArray, satisfied: FloatArray) -> None:
        """Take one step for each model."""
        from sklearn.linear_model import SGDClassifier

        if not self._classifiers:
            self._classifiers = [
                SGDClassifier(
                    loss="log_loss",
                    alpha=self.penalty,
                    learning_rate="invscaling",
                    eta0=self.rate,
                    power_t=0.25,
                    random_state=self.seed,
                )
                for _ in range(self.models)
            ]
        for classifier, good in zip(self._classifiers, satisfied, strict=True):
            classifier.partial_fit(features[None], [int(good >= 0.5)], classes=[0, 1])
        # One matrix product serves all models: a decision takes microseconds where m predict calls take milliseconds.
        self._weights = np.array([np.append(c.coef_[0], c.intercept_) for c in self._classifiers])


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What happened request by request, shape (T,) each.

    Args:
        choice: model whose answer the user got; the largest when exploring.
        explored: whether every model was asked.
        satisfied: by the answer.
        cost: of all calls.
        queue: Q_t before the request.
        error: max over models of |predicted - true satisfaction|, NaN when exploring.
        alpha: the promised share.
    """

    choice: IntArray
    explored: NDArray[np.bool_]
    satisfied: FloatArray
    cost: FloatArray
    queue: FloatArray
    error: FloatArray
    alpha: float

    @property
    def satisfaction(self) -> FloatArray:
        """Running share of satisfied requests."""
        return np.cumsum(self.satisfied) / np.arange(1, len(self.satisfied) + 1)

    @property
    def held_share(self) -> float:
        """Share of requests at which the running share was at or above alpha."""
        return float(np.mean(self.satisfaction >= self.alpha))

    def kept_windows(self, window: int) -> float:
        """Return the share of consecutive windows of so many requests that satisfy alpha each; NaN where none fits.

        Args:
            window: requests; the last ones, which fill no window, do not count.
        """
        full = len(self.satisfied) // window
        if not full:
            return float("nan")
        return float(
            np.mean(self.satisfied[: full * window].reshape(full, window).mean(axis=1) >= self.alpha)
        )

    @property
    def first_compliant(self) -> int | None:
        """The request from which on the running share stays at or above alpha, None if it ends below."""
        below = np.flatnonzero(self.satisfaction < self.alpha)
        after = 0 if below.size == 0 else int(below[-1]) + 1
        return after if after < len(self.satisfied) else None


def exploration_probability(t: int, c: float, decay: Decay = "fourth-root") -> float:
    """Return the chance to ask every model at request t, counted from 1.

    Args:
        t: the request.
        c: the rate.
        decay: `fourth-root`: min(1, c / t^(1/4)), which the proof of theorem 2 needs (appendix A.2 ends in
            O(M / T^(1/4))); `square-root`: min(1, c / t^(1/2)), as section 2.3 writes.
    """
    return min(1.0, c / t ** (0.25 if decay == "fourth-root" else 0.5))


def decide(queue: float, v: float, cost: FloatArray, predicted: FloatArray) -> int:
    """Return the model that minimises V E_m - Q s_m, ties to the first (the smallest).

    The term Q alpha of equation 3a is the same for every model.
    """
    return int(np.argmin(v * cost - queue * predicted))


def next_queue(queue: float, alpha: float, satisfied: float) -> float:
    """Return Q_(t+1) = max(0, Q_t + alpha - s) (equation 2)."""
    return max(0.0, queue + alpha - satisfied)


def check_promise(correct: FloatArray, alpha: float, v: float, c: float) -> None:
    """Refuse what MESS+ cannot promise or weigh.

    Raises:
        RoutingError: alpha outside (0, 1) or above what the best model reaches, V or c not positive.
    """
    if not 0 < alpha < 1:
        raise RoutingError(f"alpha must lie between 0 and 1, not {alpha:g}")
    reachable = float(correct.mean(axis=0).max())
    if alpha > reachable:
        raise RoutingError(
            f"alpha {alpha:g} is above {reachable:.4f}, the share that the best single model satisfies:"
            " no promise of it can be kept"
        )
    if not (0 < v < np.inf and 0 < c < np.inf):
        raise RoutingError(f"V and c must be above 0 and finite, not {v:g} and {c:g}")


def run_mess_plus(
    correct: FloatArray,
    cost: FloatArray,
    embeddings: FloatArray,
    *,
    alpha: float,
    v: float = DEFAULT_V,
    c: float = DEFAULT_C,
    decay: Decay = "fourth-root",
    predictor: SatisfactionPredictor | None = None,
    seed: int = 0,
) -> Trajectory:
    """Serve requests one after another as algorithm 1 does.

    Args:
        correct: whether each model satisfies each request, shape (T, m), models from the smallest to the largest.
        cost: of each call, known before it is made, shape (T, m).
        embeddings: of the requests, shape (T, d).
        alpha: the promised share of satisfied requests.
        v: weight of the cost; the larger, the cheaper and the later the promise holds.
        c: rate of exploration.
        decay: of exploration.
        predictor: `OnlineLogistic` when None.
        seed: of exploration.

    Raises:
        RoutingError: alpha outside (0, 1) or above what the best model reaches, V or c not positive, arrays that do
            not fit.

    Source: MESS+ section 2 (equations 2 to 4, algorithm 1).
    """
    if not len(correct) == len(cost) == len(embeddings) > 0:
        raise RoutingError("MESS+ needs outcomes, costs and embeddings of the same requests")
    check_promise(correct, alpha, v, c)
    requests, models = correct.shape
    learner = predictor if predictor is not None else OnlineLogistic(models, seed=seed)
    chance = np.random.default_rng(seed).random(requests)
    choice = np.empty(requests, dtype=np.int64)
    explored = np.zeros(requests, dtype=bool)
    queue = np.zeros(requests + 1)
    error = np.full(requests, np.nan)
    for t in range(requests):
        if chance[t] < exploration_probability(t + 1, c, decay):
            explored[t] = True
            choice[t] = models - 1
            learner.update(embeddings[t], correct[t])
        else:
            predicted = learner.predict(embeddings[t])
            error[t] = np.abs(predicted - correct[t]).max()
            choice[t] = decide(queue[t], v, cost[t], predicted)
        queue[t + 1] = next_queue(queue[t], alpha, float(correct[t, choice[t]]))
    rows = np.arange(requests)
    paid = np.where(explored, cost.sum(axis=1), cost[rows, choice])
    return Trajectory(choice, explored, correct[rows, choice], paid, queue[:-1], error, alpha)
