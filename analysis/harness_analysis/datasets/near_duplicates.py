"""Near duplicates: groups of rows whose embeddings have a cosine of 0.999 or more ("Who routes the router", 4.2).

The search is exact, so that no pair is missed, and yet not quadratic in all dimensions: vectors of unit length with a
cosine of at least d are at most sqrt(2 - 2d) apart, and no projection makes them further apart. So rows are sorted
along the principal component, compared in the few first components by faiss within that distance, and only what is
left there is compared in full.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harness_analysis.datasets.duplicates import IntArray, first_of_equal

DELTA = 0.999
"""Cosine from which on queries count as duplicates, as in the paper."""

COMPONENTS = 32
BLOCK_ROWS = 2_048
_SLACK = 1e-4
"""Added to distances in float32, so that rounding in the projection loses no pair."""
_MAX_PAIRS = 5_000_000
"""Pairs kept before they are merged into groups: thousands of near-equal rows make millions of pairs."""

Vectors = NDArray[np.float32]


def near_duplicate_groups(
    vectors: Vectors, delta: float = DELTA, progress: Callable[[int], None] = lambda _: None
) -> IntArray:
    """Return the group of each row, shape (n,): the least ordinal of all rows connected to it by near pairs.

    Args:
        vectors: shape (n, d), of unit length; a zero vector is near nothing.
        delta: cosine from which on two rows are near.
        progress: called with the number of rows compared since it was last called.

    Raises:
        ValueError: delta is not above 0 and at most 1, or vectors are not of unit length.
    """
    if not 0 < delta <= 1:
        raise ValueError(f"the cosine of near duplicates must lie above 0 and at most at 1, not {delta}")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.all((np.abs(lengths - 1) < 1e-3) | (lengths == 0)):
        raise ValueError("embeddings must be of unit length")
    count = len(vectors)
    groups = np.arange(count)
    # Equal vectors are one row of the search: templates repeated ten thousand times would make 1e8 pairs.
    equal = _first_of_equal_vectors(vectors)
    searched = np.flatnonzero((equal == groups) & (lengths > 0))
    if len(searched) < 2:
        return np.where(lengths > 0, equal, groups)
    merged = _connected(vectors[searched], delta, progress)
    groups[searched] = searched[merged]
    groups = groups[equal]
    return np.where(lengths > 0, groups, np.arange(count))


def _connected(vectors: Vectors, delta: float, progress: Callable[[int], None]) -> IntArray:
    import faiss

    count = len(vectors)
    reach = float(np.sqrt(max(0.0, 2 - 2 * delta))) + _SLACK
    projected = _principal(vectors, COMPONENTS)
    order = np.argsort(projected[:, 0], kind="stable")
    projected, along = projected[order], projected[order, 0]
    merger = _Merger(count)
    for start in range(0, count, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, count)
        # Each pair is found from its earlier row: only rows from the block's begin on are searched.
        end = int(np.searchsorted(along, along[stop - 1] + reach, side="right"))
        index = faiss.IndexFlatL2(projected.shape[1])
        index.add(projected[start:end])  # pyright: ignore[reportCallIssue]
        limits, _, found = index.range_search(projected[start:stop], reach * reach)  # pyright: ignore[reportCallIssue]
        left = np.repeat(np.arange(start, stop), np.diff(limits.astype(np.int64)))
        right = found.astype(np.int64) + start
        later = right > left
        merger.add(*_close(vectors, order[left[later]], order[right[later]], delta))
        progress(stop - start)
    return merger.groups()


def _close(vectors: Vectors, left: IntArray, right: IntArray, delta: float) -> tuple[IntArray, IntArray]:
    """Return the pairs whose full cosine reaches delta."""
    keep = np.zeros(len(left), dtype=bool)
    for at in range(0, len(left), 100_000):
        part = slice(at, at + 100_000)
        a, b = vectors[left[part]].astype(np.float64), vectors[right[part]].astype(np.float64)
        cosine = np.einsum("ij,ij->i", a, b) / np.sqrt(
            np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b)
        )
        keep[part] = cosine >= delta
    return left[keep], right[keep]


def _principal(vectors: Vectors, components: int) -> Vectors:
    """Return the vectors in the basis of their largest principal components, shape (n, components)."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    sample = vectors[:: max(1, len(vectors) // 20_000)].astype(np.float64) - mean
    _, axes = np.linalg.eigh(sample.T @ sample)
    chosen = axes[:, ::-1][:, :components].astype(np.float32)
    return np.ascontiguousarray((vectors - mean.astype(np.float32)) @ chosen)


def _first_of_equal_vectors(vectors: Vectors) -> IntArray:
    import hashlib

    joined = b"".join(hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in vectors + 0.0)
    return first_of_equal(np.frombuffer(joined, dtype=np.uint64).reshape(-1, 2))


class _Merger:
    """Pairs that become connected groups; merged whenever they are many."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._left: list[IntArray] = []
        self._right: list[IntArray] = []
        self._pairs = 0

    def add(self, left: IntArray, right: IntArray) -> None:
        self._left.append(left)
        self._right.append(right)
        self._pairs += len(left)
        if self._pairs > _MAX_PAIRS:
            groups = self.groups()
            rows = np.flatnonzero(groups != np.arange(self._count))
            self._left, self._right, self._pairs = [rows], [groups[rows]], len(rows)

    def groups(self) -> IntArray:
        """Return the least row of each row's group, shape (count,)."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        left, right = np.concatenate(self._left), np.concatenate(self._right)
        graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), (self._count, self._count))
        found, labels = connected_components(graph, directed=False)
        least = np.full(found, self._count, dtype=np.int64)
        np.minimum.at(least, labels, np.arange(self._count))
        return least[labels]
