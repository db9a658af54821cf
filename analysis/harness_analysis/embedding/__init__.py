"""Texts as vectors: what routers, near duplicates and searches share."""

from __future__ import annotations

from harness_analysis.embedding.embedder import Embedder, unit_length
from harness_analysis.embedding.sentence import SentenceEmbedder
from harness_analysis.embedding.tfidf import TfidfEmbedder
from harness_analysis.errors import EmbeddingError

EMBEDDINGS = ("tfidf", "minilm")


def embedder(name: str) -> Embedder:
    """Return an embedder by name.

    Raises:
        EmbeddingError: unknown name.
    """
    if name == "tfidf":
        return TfidfEmbedder()
    if name == "minilm":
        return SentenceEmbedder()
    raise EmbeddingError(f"embedding `{name}` is not known; choose one of {', '.join(EMBEDDINGS)}")


__all__ = [
    "EMBEDDINGS",
    "Embedder",
    "SentenceEmbedder",
    "TfidfEmbedder",
    "embedder",
    "unit_length",
]
