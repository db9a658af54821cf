"""TrafficBench's decoder routers: a causal model names the model, or says of each whether it will do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.metrics.routing_quality import routing_quality, smallest_correct
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.choosing import smallest_viable
from harness_analysis.routing.finetuned.causal_model import CausalModel
from harness_analysis.routing.finetuned.decoder_prompts import (
    BINARY_INSTRUCTION,
    MULTICLASS_INSTRUCTION,
    NO,
    YES,
    Ending,
    binary_endings,
    multiclass_endings,
)
from harness_analysis.routing.finetuned.libraries import library
from harness_analysis.routing.finetuned.training import Progress, Schedule, held_out, seeded, silent, train
from harness_analysis.routing.router import NotFittedError, Queries, check_texts, texts_of

Ask = Literal["multiclass", "binary"]
DECODER_SCHEDULE = Schedule(epochs=5, micro_batch=8)


@dataclass
class Decoder:
    """A fine-tuned causal language model as a router (TrafficBench section 4.3).

    `multiclass`: log P(name of the model | query), trained on the name of the smallest correct model. `binary`:
    log P("Yes" | query, model), trained on Yes or No for every pair of a query and a model. Both are likelihoods over
    the model's whole vocabulary, as in the paper, so both are low before training. Scores are their exponentials; the
    smallest model above a threshold is chosen outside, as for any router. All weights are trained. An empty query is an
    empty line in the prompt.

    Args:
        path: folder of a causal model with its tokeniser.
        ask: which of the two.
        schedule: of the training.
        seed: of the order of the examples.
    """

    path: str | None
    ask: Ask = "multiclass"
    schedule: Schedule = DECODER_SCHEDULE
    seed: int = 0
    name: str = ""
    sees_answers: bool = False
    votes: bool = False
    reads_text: bool = True
    models: tuple[str, ...] = ()
    losses: list[float] = field(default_factory=list)
    progress: Progress = field(default=silent, repr=False)
    _decoder: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.name = self.name or ("decoder" if self.ask == "multiclass" else "decoder-binary")
        if self.path is None:
            raise RoutingError(
                f"router {self.name} needs the folder of a causal model: write {self.name}:FOLDER"
            )

    def fit(self, training: OutcomeMatrix, embeddings: FloatArray | None = None) -> None:
        """Fine-tune on the answers' cross entropy.

        Raises:
            RoutingError: queries without text, NaN scores, a folder without a model, a loss that becomes NaN.
        """
        check_texts(training)
        torch = library("torch", f"router {self.name}")
        self.models = training.models
        with seeded(torch, self.seed):
            decoder = CausalModel.load(str(self.path), f"router {self.name}")
            rows, checked = held_out(len(training), self.schedule.validation_share, self.seed)
            texts, endings = self._examples(training.rows(rows))
            held = training.rows(checked)

            def loss_of(chosen: IntArray) -> Any:
                decoder.model.train()
                return decoder.loss(
                    self._instruction(), [texts[i] for i in chosen], [endings[i] for i in chosen]
                )

            def score() -> float:
                scores = np.exp(self._log_likelihoods(decoder, list(held.texts)))
                return routing_quality(smallest_viable(scores), held.correct).label_f1

            self.losses = train(
                torch,
                [(decoder.model.parameters(), self.schedule.rate)],
                len(texts),
                loss_of,
                self.schedule,
                seed=self.seed,
                score=score if len(checked) else None,
                module=decoder.model,
                progress=self.progress,
                name=f"router {self.name}",
            )
        decoder.model.eval()
        self._decoder = decoder

    def _examples(self, training: OutcomeMatrix) -> tuple[list[str], list[Ending]]:
        if self.ask == "multiclass":
            names = multiclass_endings(self.models)
            return list(training.texts), [names[at] for at in smallest_correct(training.correct)]
        yes, no = binary_endings(self.models, YES), binary_endings(self.models, NO)
        texts, endings = [], []
        for text, row in zip(training.texts, training.correct, strict=True):
            texts += [text] * len(self.models)
            endings += [yes[m] if score >= 0.5 else no[m] for m, score in enumerate(row)]
        return texts, endings

    def _instruction(self) -> str:
        if self.ask == "binary":
            return BINARY_INSTRUCTION
        return MULTICLASS_INSTRUCTION.format(models=", ".join(self.models))

    def _log_likelihoods(self, decoder: CausalModel, texts: list[str]) -> FloatArray:
        endings = multiclass_endings(self.models) if self.ask == "multiclass" else binary_endings(self.models)
        return decoder.log_likelihoods(self._instruction(), texts, endings)

    def log_likelihoods(self, queries: Queries) -> FloatArray:
        """Return the paper's l_i of each query and model, at most 0, shape (n, m)."""
        if self._decoder is None:
            raise NotFittedError(self.name)
        return self._log_likelihoods(self._decoder, texts_of(queries, self.name))

    def scores(self, queries: Queries) -> FloatArray:
        """Return exp(l_i): the chance of the name, or of Yes."""
        return np.exp(self.log_likelihoods(queries))

    def untrained(self, models: tuple[str, ...]) -> None:
        """Take the folder's weights as they are, for the scores before any training."""
        self.models = models
        self._decoder = CausalModel.load(str(self.path), f"router {self.name}")

    def settings(self) -> dict[str, Any]:
        """Return what `restore` needs besides the weights."""
        return {"ask": self.ask, "models": list(self.models)}

    def save_weights(self, folder: Path) -> None:
        """Write the weights to a folder."""
        if self._decoder is None:
            raise NotFittedError(self.name)
        self._decoder.save(folder / "decoder")

    def restore(self, folder: Path, settings: dict[str, Any]) -> None:
        """Read what `save_weights` and `settings` wrote.

        Raises:
            RoutingError: the folder lacks a file.
        """
        self.ask, self.path = settings["ask"], str(folder / "decoder")
        self.untrained(tuple(settings["models"]))
