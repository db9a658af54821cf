"""Routers by name, as the command line and saved files call them."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness_analysis.errors import RoutingError
from harness_analysis.routing.fixed import Heuristic, Largest, Oracle, Random, Smallest
from harness_analysis.routing.learned import MatrixFactorisation, PerceptronPerModel
from harness_analysis.routing.nearest import KMeansClusters, KNearest
from harness_analysis.routing.router import Router

_ROUTERS: dict[str, Callable[[int], Router]] = {
    "smallest": lambda _seed: Smallest(),
    "largest": lambda _seed: Largest(),
    "random": Random,
    "heuristic": lambda _seed: Heuristic(),
    "knn": lambda _seed: KNearest(100, "score", name="knn"),
    "knn-vote": lambda _seed: KNearest(100, "vote", name="knn-vote"),
    "kmeans": lambda seed: KMeansClusters(seed=seed),
    "mlp": lambda seed: PerceptronPerModel(seed=seed),
    "mf": lambda seed: MatrixFactorisation(seed=seed),
    "oracle": lambda _seed: Oracle(),
}
ROUTERS = tuple(_ROUTERS)
"""Every router that needs no settings of its own; `knn:K` and `knn-vote:K` choose the number of neighbours."""

_WITH_K = re.compile(r"(knn|knn-vote):(\d+)")


def make_router(name: str, seed: int = 0) -> Router:
    """Return a router that has not learned yet.

    Raises:
        RoutingError: unknown name.
    """
    with_k = _WITH_K.fullmatch(name)
    if with_k:
        return KNearest(int(with_k.group(2)), "vote" if with_k.group(1) == "knn-vote" else "score", name=name)
    if name not in _ROUTERS:
        raise RoutingError(
            f"router `{name}` is not known; choose from {', '.join(ROUTERS)}, knn:K, knn-vote:K"
        )
    return _ROUTERS[name](seed)
