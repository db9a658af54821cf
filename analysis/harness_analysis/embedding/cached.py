"""Embeddings that are computed once: what a store has is read from it, the rest is computed and kept there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from harness_store.database import Store
from harness_store.embeddings import find_embeddings, store_embeddings
from numpy.typing import NDArray

from harness_analysis.embedding.embedder import Embedder
from harness_analysis.errors import EmbeddingError

CHUNK_TEXTS = 512
"""Texts computed before they are kept: what a killed process loses, some seconds of work."""

Vectors = NDArray[np.float32]


class PretrainedEmbedder(Embedder, Protocol):
    """An embedder whose vectors depend on the text alone, not on what else it has seen: only these can be kept."""

    @property
    def identity(self) -> str:
        """Weights and settings, as far as they change the vectors."""
        ...


class CachedEmbedder:
    """Vectors of texts by their content hash.

    Args:
        embedder: computes what is missing.
        store: keeps vectors between calls and processes; None computes all anew.
        progress: called with the number of texts done since it was last called.
    """

    def __init__(
        self,
        embedder: PretrainedEmbedder,
        store: Store | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._progress = progress
        self.computed = 0
        """Texts that were not in the store."""

    def vectors(self, texts: Sequence[str], hashes: Sequence[str]) -> Vectors:
        """Return the vectors of texts, float32, shape (n, d), of unit length.

        Args:
            texts: n of them.
            hashes: their content hashes, `harness_store.prompts.content_hash`.

        Raises:
            EmbeddingError: the embedding is not installed.
            StoreError: the store cannot be read or written.
        """
        if len(texts) != len(hashes):
            raise ValueError(f"{len(hashes)} hashes for {len(texts)} texts")
        found = self._found(hashes)
        missing = {digest: text for digest, text in zip(hashes, texts, strict=True) if digest not in found}
        self._progress(len(texts) - len(missing))
        waiting = list(missing.items())
        for at in range(0, len(waiting), CHUNK_TEXTS):
            chunk = waiting[at : at + CHUNK_TEXTS]
            made = self._embedder.embed([text for _, text in chunk]).astype(np.float32)
            names = [digest for digest, _ in chunk]
            if self._store is not None:
                with self._store.begin() as connection:
                    store_embeddings(connection, self._embedder.identity, names, made)
            found.update(zip(names, made, strict=True))
            self.computed += len(chunk)
            self._progress(len(chunk))
        widths = {len(vector) for vector in found.values()}
        if len(widths) > 1:
            raise EmbeddingError(
                f"vectors of {self._embedder.identity} have {sorted(widths)} dimensions: the weights changed under"
                " one name; give the model's folder another name"
            )
        if not found:
            return np.empty((0, 0), dtype=np.float32)
        return np.stack([found[digest] for digest in hashes])

    def _found(self, hashes: Sequence[str]) -> dict[str, Vectors]:
        if self._store is None:
            return {}
        with self._store.read() as connection:
            return find_embeddings(connection, self._embedder.identity, hashes)
