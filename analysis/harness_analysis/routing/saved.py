"""Fitted routers as files."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from harness_analysis.embedding import Embedder
from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.choosing import best, smallest_viable, willing_to_pay
from harness_analysis.routing.router import Queries, Router

_KIND = "joule-harness router 1"


@dataclass(frozen=True, slots=True)
class FittedRouter:
    """A router with everything it needs to route a text.

    Args:
        router: fitted.
        embedder: fitted.
        models: labels, from the smallest to the largest.
        model_cost: mean training cost of each, shape (m,).
        unit: of the cost.
    """

    router: Router
    embedder: Embedder
    models: tuple[str, ...]
    model_cost: FloatArray
    unit: str

    def scores(self, texts: list[str]) -> FloatArray:
        """Return the router's scores of texts, shape (n, m)."""
        return self.router.scores(Queries(self.embedder.embed(texts)))

    def choose(
        self, scores: FloatArray, *, threshold: float | None = None, price: float | None = None
    ) -> IntArray:
        """Return the model for each row of scores: at a threshold, at a price, or the best.

        Raises:
            RoutingError: both are given.
        """
        if threshold is not None and price is not None:
            raise RoutingError("give a threshold or a willingness to pay, not both")
        if threshold is not None:
            return smallest_viable(scores, threshold)
        return best(scores) if price is None else willing_to_pay(scores, self.model_cost, price)

    def save(self, path: Path) -> None:
        """Write the router to a file, which appears whole or not at all."""
        partial = path.with_name(path.name + ".partial")
        try:
            partial.write_bytes(pickle.dumps((_KIND, self)))
            partial.replace(path)
        except OSError as error:
            raise RoutingError(f"{path}: cannot be written: {error.strerror}") from None
        finally:
            partial.unlink(missing_ok=True)


def fit_router(router: Router, embedder: Embedder, training: OutcomeMatrix) -> FittedRouter:
    """Fit a router and its embedding on outcomes.

    Raises:
        RoutingError: the oracle, or outcomes without what it needs.
    """
    if router.sees_answers:
        raise RoutingError(
            f"router {router.name} is a bound that needs the answers; it cannot be fitted and used"
        )
    embedder.fit(training.texts)
    router.fit(training, embedder.embed(training.texts))
    return FittedRouter(router, embedder, training.models, training.cost.mean(axis=0), training.unit)


def load_router(path: Path) -> FittedRouter:
    """Read a router that `save` wrote. Only open files you trust: like every pickle, it can run code.

    Raises:
        RoutingError: no such file, or no router in it.
    """
    try:
        content = pickle.loads(path.read_bytes())  # noqa: S301 - the docstring says so, and so does the command
    except OSError as error:
        raise RoutingError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001 - a foreign file can fail to unpickle in any way
        raise RoutingError(f"{path}: no router is in it ({type(error).__name__})") from None
    if not (isinstance(content, tuple) and len(content) == 2 and content[0] == _KIND):
        raise RoutingError(f"{path}: no router of this version is in it")
    return content[1]
