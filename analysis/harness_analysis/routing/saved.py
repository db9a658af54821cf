"""Fitted routers as files; those with a trained encoder or decoder as folders, without any pickle in them."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness_analysis.embedding import Embedder
from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.choosing import best, smallest_viable, threshold_of_log, willing_to_pay
from harness_analysis.routing.router import Queries, Router, reads_text

_KIND = "joule-harness router 1"
_DESCRIPTION = "router.json"


@dataclass(frozen=True, slots=True)
class FittedRouter:
    """A router with everything it needs to route a text.

    Args:
        router: fitted.
        embedder: fitted; None for a router that reads the text itself.
        models: labels, from the smallest to the largest.
        model_cost: mean training cost of each, shape (m,).
        unit: of the cost.
    """

    router: Router
    embedder: Embedder | None
    models: tuple[str, ...]
    model_cost: FloatArray
    unit: str

    def scores(self, texts: list[str]) -> FloatArray:
        """Return the router's scores of texts, shape (n, m)."""
        vectors = np.zeros((len(texts), 1)) if self.embedder is None else self.embedder.embed(texts)
        return self.router.scores(Queries(vectors, texts=tuple(texts)))

    def choose(
        self,
        scores: FloatArray,
        *,
        threshold: float | None = None,
        log_threshold: float | None = None,
        price: float | None = None,
    ) -> IntArray:
        """Return the model for each row of scores: at a threshold, one on log-likelihoods, at a price, or the best.

        Raises:
            RoutingError: more than one is given.
        """
        if sum(given is not None for given in (threshold, log_threshold, price)) > 1:
            raise RoutingError(
                "give one of a threshold, a log-threshold and a willingness to pay, not several"
            )
        if log_threshold is not None:
            threshold = threshold_of_log(log_threshold)
        if threshold is not None:
            return smallest_viable(scores, threshold)
        return best(scores) if price is None else willing_to_pay(scores, self.model_cost, price)

    def save(self, path: Path) -> None:
        """Write the router to a file or folder, which appears whole or not at all.

        Raises:
            RoutingError: it cannot be written.
        """
        check_destination(path, self.router)
        if reads_text(self.router):
            self._save_folder(path)
            return
        partial = path.with_name(path.name + ".partial")
        try:
            partial.write_bytes(pickle.dumps((_KIND, self)))
            partial.replace(path)
        except OSError as error:
            raise RoutingError(f"{path}: cannot be written: {error.strerror}") from None
        finally:
            partial.unlink(missing_ok=True)

    def _save_folder(self, path: Path) -> None:
        router: Any = self.router
        partial = path.with_name(path.name + ".partial")
        old = path.with_name(path.name + ".old")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            router.save_weights(partial)
            description = {
                "kind": _KIND,
                "router": router.name,
                "settings": router.settings(),
                "models": self.models,
                "model_cost": self.model_cost.tolist(),
                "unit": self.unit,
            }
            (partial / _DESCRIPTION).write_text(json.dumps(description, indent=1), encoding="utf-8")
            if path.exists():
                path.replace(old)
            partial.replace(path)
        except OSError as error:
            raise RoutingError(f"{path}: cannot be written: {error.strerror}") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)


def check_destination(path: Path, router: Router) -> None:
    """Refuse, before anything is trained, a path where a router cannot be written.

    Raises:
        RoutingError: a folder that holds something else, a file where a folder is needed, or no parent folder.
    """
    if not path.absolute().parent.is_dir():
        raise RoutingError(f"{path}: cannot be written: there is no folder {path.parent}")
    if not reads_text(router):
        if path.is_dir():
            raise RoutingError(f"{path}: is a folder; router {router.name} is written to a file")
    elif path.exists() and not (path / _DESCRIPTION).is_file():
        raise RoutingError(
            f"{path}: is there and holds no router; name another folder for router {router.name}"
        )


def fit_router(router: Router, embedder: Embedder | None, training: OutcomeMatrix) -> FittedRouter:
    """Fit a router and its embedding on outcomes.

    Raises:
        RoutingError: the oracle, or outcomes without what it needs.
    """
    if router.sees_answers:
        raise RoutingError(
            f"router {router.name} is a bound that needs the answers; it cannot be fitted and used"
        )
    if reads_text(router):
        embedder = None
    elif embedder is None:
        raise RoutingError(f"router {router.name} needs an embedding")
    vectors = np.zeros((len(training), 1))
    if embedder is not None:
        embedder.fit(training.texts)
        vectors = embedder.embed(training.texts)
    router.fit(training, vectors)
    return FittedRouter(router, embedder, training.models, training.cost.mean(axis=0), training.unit)


def load_router(path: Path) -> FittedRouter:
    """Read a router that `save` wrote. Only open files you trust: like every pickle, it can run code; folders cannot.

    Raises:
        RoutingError: no such file, or no router in it.
    """
    if path.is_dir():
        return _load_folder(path)
    try:
        content = pickle.loads(path.read_bytes())  # noqa: S301 - the docstring says so, and so does the command
    except OSError as error:
        raise RoutingError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001 - a foreign file can fail to unpickle in any way
        raise RoutingError(f"{path}: no router is in it ({type(error).__name__})") from None
    if not (isinstance(content, tuple) and len(content) == 2 and content[0] == _KIND):
        raise RoutingError(f"{path}: no router of this version is in it")
    return content[1]


def _load_folder(path: Path) -> FittedRouter:
    from harness_analysis.routing.catalogue import make_router

    try:
        described = json.loads((path / _DESCRIPTION).read_text(encoding="utf-8"))
        if described["kind"] != _KIND:
            raise RoutingError(f"{path}: no router of this version is in it")
        settings, models = described["settings"], tuple(described["models"])
        cost, name, unit = (
            np.array(described["model_cost"], dtype=np.float64),
            described["router"],
            described["unit"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise RoutingError(f"{path}: no router is in it ({_DESCRIPTION} is missing or damaged)") from None
    # The weights are in this folder now, wherever those that training began with lay.
    router: Any = make_router(f"{name.partition(':')[0]}:{path}")
    router.name = name
    router.restore(path, settings)
    return FittedRouter(router, None, models, cost, unit)
