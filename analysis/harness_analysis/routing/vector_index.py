"""The most similar stored vectors: exactly for some, by an inverted file for very many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import FloatArray, IntArray

APPROXIMATE_FROM = 200_000
"""Stored vectors from which on an exact search of one query takes longer than its routing may."""
WANTED_RECALL = 0.95
LEAST_SPEED_UP = 64
_CHECKED = 100
_SEED = 0


class ExactIndex:
    """Compares a query with every stored vector."""

    recall = 1.0

    def __init__(self, vectors: FloatArray) -> None:
        """Take vectors of unit length, shape (n, d)."""
        from sklearn.neighbors import NearestNeighbors

        # For unit vectors Euclidean order is cosine order; brute force is the fastest exact search in 384 dimensions.
        self._search = NearestNeighbors(algorithm="brute").fit(vectors)

    def recall_for(self, _queries: FloatArray, _k: int) -> float:
        """Return 1: every vector is compared."""
        return self.recall

    def nearest(self, queries: FloatArray, k: int) -> IntArray:
        """Return the rows of the k most similar vectors of each query, shape (n, k)."""
        return self._search.kneighbors(queries, n_neighbors=k, return_distance=False)


@dataclass
class InvertedFile:
    """Compares a query with the vectors of the nearest cells only (faiss' IVF, vectors uncompressed).

    The square root of n, to the next power of two, is the number of cells. As many of them are searched as reach
    `WANTED_RECALL` on stored vectors, but no more than one in `LEAST_SPEED_UP` (8 where that is less): where neighbours
    lie so scattered that this is not enough, `recall` says so.

    Args:
        vectors: of unit length, shape (n, d).
        k: neighbours that the recall is measured for.
        recall: share of the true k nearest that was found for stored vectors, measured when it was built. Queries that
            resemble no stored one find less: `recall_for` measures it on them.
    """

    vectors: NDArray[np.floating]
    k: int = 100
    recall: float = field(default=0.0, init=False)
    searched: int = field(default=1, init=False)
    _index: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        """Build the cells and measure the recall.

        Raises:
            RoutingError: faiss is not installed.
        """
        faiss = _faiss()
        vectors = np.ascontiguousarray(self.vectors, dtype=np.float32)
        n, d = vectors.shape
        cells = max(1, 2 ** int(np.ceil(np.log2(np.sqrt(n)))))
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, cells, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.min_points_per_centroid = 1
        self._index.train(vectors)
        self._index.add(vectors)
        self._tune(vectors, cells)
        self.vectors = np.empty((0, d), dtype=np.float32)

    def _tune(self, vectors: NDArray[np.float32], cells: int) -> None:
        faiss = _faiss()
        asked = vectors[np.random.default_rng(_SEED).permutation(len(vectors))[:_CHECKED]]
        k = min(self.k, len(vectors))
        _, true = faiss.knn(asked, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
        self.searched, most = 1, min(cells, max(8, cells // LEAST_SPEED_UP))
        while True:
            self._index.nprobe = self.searched
            self.recall = recall_of(self._index.search(asked, k)[1], true)
            if self.recall >= WANTED_RECALL or self.searched >= most:
                return
            self.searched = min(most, 2 * self.searched)

    def recall_for(self, queries: FloatArray, k: int) -> float:
        """Return the share of the true k nearest that is found for these queries; every cell is searched for that."""
        found = self.nearest(queries, k)
        self._index.nprobe = self._index.nlist
        try:
            return recall_of(found, self.nearest(queries, k))
        finally:
            self._index.nprobe = self.searched

    def nearest(self, queries: FloatArray, k: int) -> IntArray:
        """Return the rows of the k most similar vectors found, shape (n, k); -1 where the cells hold fewer."""
        return self._index.search(np.ascontiguousarray(queries, dtype=np.float32), k)[1]

    def __getstate__(self) -> dict[str, Any]:
        """Keep the index as bytes: the library's own objects cannot be pickled."""
        return self.__dict__ | {"_index": _faiss().serialize_index(self._index)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read the index again."""
        self.__dict__.update(state)
        self._index = _faiss().deserialize_index(state["_index"])
        self._index.nprobe = self.searched


def make_index(vectors: FloatArray, k: int, approximate_from: int = APPROXIMATE_FROM) -> Any:
    """Return the exact index below `approximate_from` vectors, the inverted file from there on."""
    return ExactIndex(vectors) if len(vectors) < approximate_from else InvertedFile(vectors, k)


def recall_of(found: IntArray, true: IntArray) -> float:
    """Return the mean share of each row of `true` that is in the same row of `found`."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, true, strict=True)]))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise RoutingError(
            "nearest neighbours among so many queries need faiss: pip install 'joule-harness[analysis]'"
        ) from None
    return faiss
