"""Embeddings kept once for each model and text: what took hours is read in seconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from harness_store.models import Embedding
from harness_store.rows import chunks, insert_into, table_of

_LOOKUP_ROWS = 500
"""Hashes named in one question, below SQLite's limit on parameters of old versions (999)."""


def find_embeddings(
    connection: Connection, model: str, hashes: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Return the vectors that are there, by content hash.

    Args:
        connection: any.
        model: the embedding model's identity.
        hashes: content hashes.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for chunk in chunks(dict.fromkeys(hashes), _LOOKUP_ROWS):
        query = select(Embedding.content_hash, Embedding.vector).where(
            Embedding.model == model, Embedding.content_hash.in_(chunk)
        )
        for digest, vector in connection.execute(query):
            found[digest] = np.frombuffer(vector, dtype="<f4")
    return found


def store_embeddings(
    connection: Connection, model: str, hashes: Sequence[str], vectors: NDArray[np.float32]
) -> None:
    """Keep vectors; one that is there already stays.

    Args:
        connection: in a transaction.
        model: the embedding model's identity.
        hashes: content hashes, n of them.
        vectors: shape (n, d), of unit length.

    Raises:
        ValueError: not as many vectors as hashes, or one that is not finite.
    """
    if len(hashes) != len(vectors):
        raise ValueError(f"{len(vectors)} vectors for {len(hashes)} texts")
    if not np.isfinite(vectors).all():
        raise ValueError("a vector is not finite")
    if not hashes:
        return
    as_bytes = np.ascontiguousarray(vectors, dtype="<f4")
    statement = insert_into(connection.dialect.name, table_of(Embedding)).on_conflict_do_nothing()
    for chunk in chunks(zip(hashes, as_bytes, strict=True)):
        connection.execute(
            statement, [{"model": model, "content_hash": h, "vector": v.tobytes()} for h, v in chunk]
        )


def count_embeddings(connection: Connection, model: str) -> int:
    """Return how many texts of a model are kept."""
    return connection.execute(
        select(func.count()).select_from(Embedding).where(Embedding.model == model)
    ).scalar_one()
