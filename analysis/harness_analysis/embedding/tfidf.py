"""Queries as vectors of their words: TF-IDF with a decomposition, learned from the queries alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness_analysis.embedding.embedder import FloatArray, unit_length
from harness_analysis.errors import EmbeddingError


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
            EmbeddingError: no text has a word.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        if not any(text.strip() for text in texts):
            raise EmbeddingError(
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
        # Of a single text the share of variance that it explains, which nobody asks for, is 0 / 0.
        with np.errstate(invalid="ignore"):
            reduction = TruncatedSVD(dimensions, random_state=self.seed).fit(weights)
        self._steps = (words, reduction)

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors; a text of unknown words alone is the zero vector."""
        if self._steps is None:
            raise EmbeddingError("the embedding has not been fitted")
        words, reduction = self._steps
        return unit_length(reduction.transform(words.transform(texts)))
