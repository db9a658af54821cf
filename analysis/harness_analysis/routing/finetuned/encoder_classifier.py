"""TrafficBench's fine-tuned embedding classifier: encoder and perceptron trained jointly, softmax over models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.metrics.routing_quality import routing_quality, smallest_correct
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.finetuned.encoder import EncoderWithHead
from harness_analysis.routing.finetuned.libraries import library
from harness_analysis.routing.finetuned.training import Progress, Schedule, seeded, silent
from harness_analysis.routing.router import NotFittedError, Queries, check_texts, one_hot, texts_of


@dataclass
class EncoderClassifier:
    """The chance that each model is the smallest correct one, by a fine-tuned encoder (TrafficBench section 4.2).

    An epoch is chosen by its F1 against the smallest correct model on held-out queries. Where every training query has
    the same label there is nothing to learn: the scores are 1 for that model. An empty query is its start and end
    tokens.

    Args:
        path: folder of the encoder; the MiniLM-L6 package's when None.
        schedule: of the training.
        hidden: neurons of the perceptron's hidden layer (appendix C tries 128, 256 and 512).
        dropout: in the perceptron.
        seed: of weights, dropout and order.
    """

    path: str | None = None
    schedule: Schedule = field(default_factory=Schedule)
    hidden: int = 256
    dropout: float = 0.1
    seed: int = 0
    name: str = "encoder"
    sees_answers: bool = False
    votes: bool = True
    reads_text: bool = True
    models: tuple[str, ...] = ()
    constant: int | None = None
    progress: Progress = field(default=silent, repr=False)
    _net: Any = field(default=None, repr=False)

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray | None = None) -> None:
        """Train encoder and perceptron on the cross entropy against the smallest correct model.

        Raises:
            RoutingError: queries without text, NaN scores, a folder without a model, a loss that becomes NaN.
        """
        check_texts(training)
        torch = library("torch", f"router {self.name}")
        labels = smallest_correct(training.correct)
        self.models = training.models
        self.constant = int(labels[0]) if np.ptp(labels) == 0 else None
        if self.constant is not None:
            return
        with seeded(torch, self.seed):
            net = self._load()
            target = torch.as_tensor(labels, device=net.device)

            def loss_of(at: IntArray) -> Any:
                outputs = net.outputs([training.texts[i] for i in at])
                return torch.nn.functional.cross_entropy(
                    outputs, target[torch.as_tensor(at, device=net.device)]
                )

            def score_of(at: IntArray) -> float:
                choice = net.infer([training.texts[i] for i in at]).argmax(axis=1)
                return routing_quality(choice, training.correct[at]).label_f1

            net.fine_tune(
                len(training),
                loss_of,
                score_of,
                self.schedule,
                seed=self.seed,
                progress=self.progress,
                who=f"router {self.name}",
            )
        self._net = net

    def scores(self, queries: Queries) -> FloatArray:
        """Return the softmax over models."""
        texts = texts_of(queries, self.name)
        if self.constant is not None:
            return one_hot(self.constant, len(texts), len(self.models))
        if self._net is None:
            raise NotFittedError(self.name)
        return softmax(self._net.infer(texts))

    def settings(self) -> dict[str, Any]:
        """Return what `restore` needs besides the weights."""
        return {"hidden": self.hidden, "models": list(self.models), "constant": self.constant}

    def save_weights(self, folder: Path) -> None:
        """Write the weights to a folder."""
        if self._net is not None and self.constant is None:
            self._net.save(folder, f"router {self.name}")

    def restore(self, folder: Path, settings: dict[str, Any]) -> None:
        """Read what `save_weights` and `settings` wrote.

        Raises:
            RoutingError: the folder lacks a file.
        """
        self.hidden, self.models = int(settings["hidden"]), tuple(settings["models"])
        self.constant, self.path = settings["constant"], str(folder / "encoder")
        if self.constant is None:
            self._net = self._load()
            self._net.load_head(folder / "head.safetensors", f"router {self.name}")

    def _load(self) -> EncoderWithHead:
        who = f"router {self.name}"
        if not self.models:
            raise RoutingError(f"{who} has no models to choose from")
        return EncoderWithHead.load(
            self.path, len(self.models), who, hidden=self.hidden, dropout=self.dropout
        )


def softmax(outputs: FloatArray) -> FloatArray:
    """Return exp(x) over its sum along each row."""
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
