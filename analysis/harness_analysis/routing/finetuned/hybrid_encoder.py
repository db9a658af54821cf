"""Hybrid LLM's router as the paper trains it: an encoder fine-tuned on soft labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, IntArray
from harness_analysis.routing.finetuned.encoder import EncoderWithHead
from harness_analysis.routing.finetuned.libraries import library
from harness_analysis.routing.finetuned.training import (
    Progress,
    Schedule,
    seeded,
    silent,
)
from harness_analysis.routing.hybrid import Label, learnable_labels
from harness_analysis.routing.router import NotFittedError
from harness_analysis.routing.win_rates import logistic

HYBRID_SCHEDULE = Schedule(epochs=5)


@dataclass
class HybridEncoder:
    """Trust in the small model by a fine-tuned encoder with one linear output (Hybrid LLM sections 3 and 4.1).

    The loss is the binary cross entropy with soft labels (equations 1, 2 and 4). A tenth of the queries chooses the
    epoch. The paper's encoder is DeBERTa-v3-large; here it is any folder. Where all labels are 0 or all are 1 there is
    nothing to learn.

    Args:
        path: folder of the encoder; the MiniLM-L6 package's when None.
        label: which of the three.
        schedule: of the training; 5 epochs as in section 4.1, the paper names no rate.
        seed: of weights and order.
    """

    path: str | None = None
    label: Label = "transformed"
    schedule: Schedule = HYBRID_SCHEDULE
    seed: int = 0
    progress: Progress = field(default=silent, repr=False)
    relaxation: float = 0.0
    _constant: float | None = None
    _net: Any = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"hybrid-{self.label}"

    def fit(self, texts: Sequence[str], small: FloatArray, large: FloatArray) -> None:
        """Fine-tune on answers of both models.

        Args:
            texts: of the queries.
            small: quality of the small model's answers, shape (n, repetitions).
            large: of the large model's.

        Raises:
            RoutingError: NaN, arrays that do not fit, no text, a folder without a model, a loss that becomes NaN.
        """
        labels, self.relaxation = learnable_labels(self.label, len(texts), small, large)
        if not any(text.strip() for text in texts):
            raise RoutingError("the queries have no text: an encoder needs a column `query`")
        who = f"router {self.name}"
        self._constant = float(labels[0]) if np.ptp(labels) == 0 and labels[0] in {0.0, 1.0} else None
        if self._constant is not None:
            return
        torch = library("torch", who)
        with seeded(torch, self.seed):
            net = EncoderWithHead.load(self.path, 1, who, hidden=None)

            def loss_of(at: IntArray) -> Any:
                outputs = net.outputs([texts[int(i)] for i in at])[:, 0]
                target = torch.as_tensor(labels[at], dtype=torch.float32, device=net.device)
                return torch.nn.functional.binary_cross_entropy_with_logits(outputs, target)

            def score_of(at: IntArray) -> float:
                found = net.infer([texts[int(i)] for i in at])[:, 0]
                # log(1 + e^x) - y x: the cross entropy of a logit x
                return -float(np.mean(np.logaddexp(0, found) - labels[at] * found))

            net.fine_tune(
                len(texts),
                loss_of,
                score_of,
                self.schedule,
                seed=self.seed,
                progress=self.progress,
                who=who,
            )
        self._net = net

    def trust(self, texts: Sequence[str]) -> FloatArray:
        """Return the score of each query, shape (n,); large for queries that the small model answers as well."""
        if self._constant is not None:
            return np.full(len(texts), self._constant)
        if self._net is None:
            raise NotFittedError(self.name)
        return logistic(self._net.infer(list(texts))[:, 0]) if len(texts) else np.empty(0)
