"""What every router is: it learns from outcomes, and says of a query how good each model's answer would be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries to be routed.

    Args:
        embeddings: unit length, shape (n, d).
        answers: true scores, shape (n, m), for the oracle alone; None for every router that must not see them.
        texts: of the queries, for routers that read them in place of embeddings.
    """

    embeddings: FloatArray
    answers: FloatArray | None = None
    texts: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.embeddings)


@runtime_checkable
class Router(Protocol):
    """A router; `fit` once, then `scores` for any queries.

    What to do with scores is decided outside (`choosing.py`), so that every router can be asked for a budget, a
    threshold or a willingness to pay.
    """

    name: str
    sees_answers: bool
    """Whether it needs the true scores, and so is a bound and no router that could run."""
    votes: bool
    """Whether its scores compare models only; scores of the others are chances of a correct answer."""

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Learn from outcomes.

        Args:
            training: outcomes, models from the smallest to the largest.
            embeddings: of its queries, shape (n, d).
        """
        ...

    def scores(self, queries: Queries) -> FloatArray:
        """Return what the router expects of each model, shape (n, m), in [0, 1].

        Raises:
            RoutingError: it was not fitted.
        """
        ...


def check_training(training: OutcomeMatrix, embeddings: FloatArray) -> None:
    """Refuse what nothing can be learned from.

    Raises:
        RoutingError: no queries; embeddings of other queries; NaN or infinite numbers.
    """
    if len(training) == 0:
        raise RoutingError("a router needs queries to learn from")
    if len(embeddings) != len(training):
        raise RoutingError(f"{len(embeddings)} embeddings for {len(training)} queries")
    if not np.isfinite(training.correct).all():
        raise RoutingError("a router cannot learn from scores that are NaN or infinite")
    if not np.isfinite(embeddings).all():
        raise RoutingError("an embedding is NaN or infinite")


def reads_text(router: Router) -> bool:
    """Return whether a router reads the queries themselves, so that nobody need embed them for it."""
    return bool(getattr(router, "reads_text", False))


def texts_of(queries: Queries, name: str) -> list[str]:
    """Return the queries' texts.

    Raises:
        RoutingError: they were not given.
    """
    if queries.texts is None:
        raise RoutingError(f"router {name} reads queries as text, and embeddings alone were given")
    return list(queries.texts)


def check_texts(training: OutcomeMatrix) -> None:
    """Refuse what a router that reads text cannot learn from.

    Raises:
        RoutingError: no queries, none with text, or NaN scores.
    """
    check_training(training, np.zeros((len(training), 1)))
    if not any(text.strip() for text in training.texts):
        raise RoutingError(
            "the queries have no text: routers that look at queries need a column `query`;"
            " fixed routers (--routers smallest,largest,random,heuristic,oracle) need none"
        )


def columns_of(queries: Queries, values: FloatArray) -> FloatArray:
    """Return one row of values for each query."""
    return np.tile(np.asarray(values, dtype=np.float64), (len(queries), 1))


def one_hot(column: int | IntArray, n: int, m: int) -> FloatArray:
    """Return scores of 1 for one model per query and 0 for the others, shape (n, m)."""
    scores = np.zeros((n, m))
    scores[np.arange(n), column] = 1.0
    return scores


class NotFittedError(RoutingError):
    """A router is asked before it has learned."""

    def __init__(self, name: str) -> None:
        """Name the router."""
        super().__init__(f"router {name} has not been fitted")
