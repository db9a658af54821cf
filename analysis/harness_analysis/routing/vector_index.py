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
LEAST_STORED = 16
"""Fewer vectors than a code of four bits has values cannot train it."""
WANTED_RECALL = 0.95
SEARCHED_SHARES = (1 / 16, 1 / 8)
"""Of the cells: the second where the first does not reach `WANTED_RECALL`."""
RERANKED = 8
"""Vectors compared exactly for each one wanted: codes of two bits a dimension put the true ones among these."""
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
    """Scans short codes of the vectors in the nearest cells, and compares the best of those exactly.

    The square root of n, to the next power of two, is the number of cells. Codes are faiss' product quantiser of four
    bits for two dimensions, scanned in registers; the vectors beside them are kept in half precision, so that the index
    takes 0.57 of the memory of float32.

    One cell in sixteen is searched, or one in eight where that does not reach `WANTED_RECALL` on queries half way
    between two stored ones: stored ones find their own neighbours in the first cell and would say that one is enough.
    Where neighbours lie so scattered that one in eight is not enough, `recall` says so.

    Args:
        vectors: of unit length, shape (n, d); at least 16.
        k: neighbours that the recall is measured for.
        recall: share of the true k nearest that was found half way between stored vectors, measured when it was built.
            What it is for queries of one's own `recall_for` measures.
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
        cells = 2 ** int(np.ceil(np.log2(np.sqrt(n))))
        parts = d // 2 if d % 2 == 0 else d
        self._index = faiss.index_factory(
            d, f"IVF{cells},PQ{parts}x4fs,Refine(SQfp16)", faiss.METRIC_INNER_PRODUCT
        )
        self._index.k_factor = RERANKED
        file = faiss.downcast_index(faiss.extract_index_ivf(self._index))
        # A hundred vectors tell where a cell's middle is; the library would complain of fewer, and take long for more.
        file.cp.min_points_per_centroid = file.pq.cp.min_points_per_centroid = 1
        file.cp.max_points_per_centroid = 100
        self._index.train(vectors)
        self._index.add(vectors)
        self._tune(vectors, cells)
        self.vectors = np.empty((0, d), dtype=np.float32)

    def _tune(self, vectors: NDArray[np.float32], cells: int) -> None:
        faiss = _faiss()
        one, other = np.random.default_rng(_SEED).integers(0, len(vectors), (2, _CHECKED))
        asked = vectors[one] + vectors[other]
        k = min(self.k, len(vectors))
        _, true = faiss.knn(asked, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
        for share in SEARCHED_SHARES:
            self._search(min(cells, max(8, round(share * cells))))
            self.recall = recall_of(self._index.search(asked, k)[1], true)
            if self.recall >= WANTED_RECALL:
                return

    def _search(self, cells: int) -> None:
        self.searched = _faiss().extract_index_ivf(self._index).nprobe = cells

    def recall_for(self, queries: FloatArray, k: int) -> float:
        """Return the share of the true k nearest that is found for these queries; every vector is compared for that."""
        asked = np.ascontiguousarray(queries, dtype=np.float32)
        _, found = self._index.search(asked, k)
        return recall_of(found, self._index.refine_index.search(asked, k)[1])

    def nearest(self, queries: FloatArray, k: int) -> IntArray:
        """Return the rows of the k most similar vectors found, shape (n, k); -1 where the cells hold fewer."""
        return self._index.search(np.ascontiguousarray(queries, dtype=np.float32), k)[1]

    def __getstate__(self) -> dict[str, Any]:
        """Keep the index as bytes: the library's own objects cannot be pickled."""
        return self.__dict__ | {"_index": _faiss().serialize_index(self._index)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read the index again; how much it searches is not among its bytes."""
        self.__dict__.update(state)
        self._index = _faiss().deserialize_index(state["_index"])
        self._index.k_factor = RERANKED
        self._search(self.searched)


def make_index(vectors: FloatArray, k: int, approximate_from: int = APPROXIMATE_FROM) -> Any:
    """Return the exact index below `approximate_from` vectors, the inverted file from there on."""
    exact = len(vectors) < max(approximate_from, LEAST_STORED)
    return ExactIndex(vectors) if exact else InvertedFile(vectors, k)


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
