"""What turns texts into vectors of unit length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Embedder(Protocol):
    """Turns texts into vectors."""

    name: str

    def fit(self, texts: Sequence[str]) -> None:
        """Learn the vocabulary, where there is one."""
        ...

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return vectors of unit length, shape (n, d)."""
        ...


def unit_length(vectors: FloatArray) -> FloatArray:
    """Return vectors divided by their length; zero stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
