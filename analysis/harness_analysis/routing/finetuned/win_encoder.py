"""RouteLLM's BERT router: a fine-tuned encoder says of a query which of two models does better."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.finetuned.encoder import EncoderWithHead
from harness_analysis.routing.finetuned.libraries import library
from harness_analysis.routing.finetuned.training import Progress, Schedule, seeded, silent
from harness_analysis.routing.router import NotFittedError, Queries, check_texts, columns_of, texts_of
from harness_analysis.routing.win_rates import decided, mean_win_rates, surprise_of_wins

BERT_SCHEDULE = Schedule(epochs=10, batch=16, rate=1e-5, head_rate=1e-3)


@dataclass
class RouteLlmEncoder:
    """P(a beats b on q) = logistic(d_a(q) - d_b(q)) with d(q) a linear layer on a fine-tuned encoder's embedding.

    For a pair that is RouteLLM's W h + b under a logistic function, and the large model's score is its win rate. A
    model wins a query where its score is higher than the other's; ties are left out, as for `mf-routellm` (RouteLLM's
    program has a class for them, its paper has not). For a pool a model's score is its mean chance against each other
    model. All weights are trained, a tenth of the queries chooses the epoch.

    Args:
        path: folder of the encoder; the MiniLM-L6 package's when None. RouteLLM's is BERT-base.
        schedule: of the training; batch and rate are RouteLLM's for BERT, the rate of the new layer is ours.
        seed: of weights, dropout and order.

    Source: RouteLLM section 4.2 (BERT classifier), which MESS+ section 4.1 and appendix B run as a rival.
    """

    path: str | None = None
    schedule: Schedule = BERT_SCHEDULE
    seed: int = 0
    name: str = "bert"
    sees_answers: bool = False
    votes: bool = True
    reads_text: bool = True
    models: tuple[str, ...] = ()
    even: bool = False
    progress: Progress = field(default=silent, repr=False)
    _net: Any = field(default=None, repr=False)

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray | None = None) -> None:
        """Fine-tune on every pair of models that did not do equally well on a query.

        Raises:
            RoutingError: queries without text, NaN scores, a folder without a model, a loss that becomes NaN.
        """
        check_texts(training)
        self.models = training.models
        at = decided(training.correct)
        self.even = not at.size
        if self.even:
            return
        who = f"router {self.name}"
        torch = library("torch", who)
        with seeded(torch, self.seed):
            net = self._load()
            verdicts = torch.as_tensor(training.correct[at], dtype=torch.float32, device=net.device)

            def surprise(strength: Any, chosen: IntArray) -> Any:
                return surprise_of_wins(torch, strength, verdicts[torch.as_tensor(chosen, device=net.device)])

            def loss_of(chosen: IntArray) -> Any:
                return surprise(net.outputs([training.texts[i] for i in at[chosen]]), chosen)

            def score_of(chosen: IntArray) -> float:
                strength = net.infer([training.texts[i] for i in at[chosen]])
                return -float(surprise(torch.as_tensor(strength, device=net.device), chosen))

            net.fine_tune(
                len(at),
                loss_of,
                score_of,
                self.schedule,
                seed=self.seed,
                progress=self.progress,
                who=who,
            )
        self._net = net

    def scores(self, queries: Queries) -> FloatArray:
        """Return each model's mean chance against the others, shape (n, m); one half each where nothing was decided."""
        texts = texts_of(queries, self.name)
        if self.even:
            return columns_of(queries, np.full(len(self.models), 0.5))
        if self._net is None:
            raise NotFittedError(self.name)
        return mean_win_rates(self._net.infer(texts))

    def settings(self) -> dict[str, Any]:
        """Return what `restore` needs besides the weights."""
        return {"models": list(self.models), "even": self.even}

    def save_weights(self, folder: Path) -> None:
        """Write the weights to a folder."""
        if self._net is not None and not self.even:
            self._net.save(folder, f"router {self.name}")

    def restore(self, folder: Path, settings: dict[str, Any]) -> None:
        """Read what `save_weights` and `settings` wrote.

        Raises:
            RoutingError: the folder lacks a file.
        """
        self.models, self.even, self.path = (
            tuple(settings["models"]),
            bool(settings["even"]),
            str(folder / "encoder"),
        )
        if not self.even:
            self._net = self._load()
            self._net.load_head(folder / "head.safetensors", f"router {self.name}")

    def _load(self) -> EncoderWithHead:
        return EncoderWithHead.load(self.path, len(self.models), f"router {self.name}", hidden=None)
