"""Routers that torch trains on frozen embeddings: Adam on mini-batches, and weights that need no torch afterwards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.finetuned.libraries import Torch, library
from harness_analysis.routing.finetuned.training import (
    Progress,
    Schedule,
    held_out,
    one_thread,
    seeded,
    silent,
    train,
)
from harness_analysis.routing.router import NotFittedError, Queries, check_training, columns_of

DESCENT_SCHEDULE = Schedule(epochs=60, rate=3e-3, head_rate=3e-3, patience=10, micro_batch=64)

Loss = Callable[[IntArray, bool], Any]
"""Of some training queries, by index; the second argument says whether they are trained on, or only measured."""


@dataclass
class DescentRouter(ABC):
    """What these routers share: weights by name, as numpy arrays once they are learned.

    Each says what its scores are where nothing can be learned (`_constant`), what is trained (`_net`) and how weights
    score embeddings (`_scored`).

    Args:
        schedule: of the training; a tenth of the queries chooses the epoch.
        seed: of weights and order, and of what else a router draws.
    """

    schedule: Schedule = DESCENT_SCHEDULE
    seed: int = 0
    name: str = ""
    sees_answers: bool = False
    votes: bool = True
    progress: Progress = field(default=silent, repr=False)
    _weights: dict[str, FloatArray] = field(default_factory=dict, repr=False)

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray) -> None:
        """Learn the weights.

        Raises:
            RoutingError: what nothing can be learned from, torch is missing, a loss that becomes NaN.
        """
        check_training(training, embeddings)
        constant = self._constant(training)
        if constant is not None:
            self._weights = {"constant": constant}
            return
        torch = library("torch", f"router {self.name}")
        at = self._rows(training)
        vectors = torch.as_tensor(embeddings[at], dtype=torch.float32)
        verdicts = torch.as_tensor(training.correct[at], dtype=torch.float32)
        with seeded(torch, self.seed), one_thread(torch):
            net, loss_of = self._net(torch, vectors, verdicts)
            self._descend(torch, net, len(at), loss_of)
        self._weights = {name: tensor.detach().double().numpy() for name, tensor in net.items()}

    def scores(self, queries: Queries) -> FloatArray:
        """Return what the router expects of each model, shape (n, m)."""
        if not self._weights:
            raise NotFittedError(self.name)
        if "constant" in self._weights:
            return columns_of(queries, self._weights["constant"])
        return self._scored(self._weights, queries.embeddings)

    @abstractmethod
    def _constant(self, training: OutcomeMatrix) -> FloatArray | None:
        """Return the scores of every query where there is nothing to learn, shape (m,), else None."""

    def _rows(self, training: OutcomeMatrix) -> IntArray:
        """Return the queries to learn from."""
        return np.arange(len(training))

    @abstractmethod
    def _net(self, torch: Torch, vectors: Any, verdicts: Any) -> tuple[Any, Loss]:
        """Return a `ParameterDict` and the loss of some queries under it."""

    @abstractmethod
    def _scored(self, weights: dict[str, FloatArray], embeddings: FloatArray) -> FloatArray:
        """Return scores of embeddings, shape (n, m)."""

    def _descend(self, torch: Torch, net: Any, examples: int, loss_of: Loss) -> None:
        """Train all parameters; the epoch with the least loss on held-out examples is kept."""
        rows, checked = held_out(examples, self.schedule.validation_share, self.seed)

        def held_out_score() -> float:
            with torch.inference_mode():
                return -float(loss_of(checked, False))

        train(
            torch,
            [(net.parameters(), self.schedule.rate)],
            len(rows),
            lambda chosen: loss_of(rows[chosen], True),
            self.schedule,
            seed=self.seed,
            score=held_out_score if len(checked) else None,
            module=net,
            progress=self.progress,
            name=f"router {self.name}",
        )


def noisy(torch: Torch, vectors: Any, noise: float) -> Any:
    """Return embeddings with noise of that standard deviation relative to their length, spread over dimensions."""
    return vectors + torch.randn_like(vectors) * (noise / vectors.shape[1] ** 0.5)
