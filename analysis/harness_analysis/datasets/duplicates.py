"""Exact duplicates: prompts that are the same but for form, case and white space."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import pyarrow as pa
from harness_store.prompts import prompt_text
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

SAME_GROUP_BYTES = 16


def normalised(prompt: str) -> str:
    """Return a prompt in which forms of characters, case and white space make no difference."""
    if not prompt.isascii():
        prompt = unicodedata.normalize("NFKC", prompt)
    return " ".join(prompt.casefold().split())


def prompts(batch: pa.RecordBatch) -> list[str]:
    """Return what each row of a batch asks, conversations with all their turns."""
    texts = batch.column("text").to_pylist()
    messages = batch.column("messages_json")
    if messages.null_count == batch.num_rows:
        return texts
    return [prompt_text(text, turns) for text, turns in zip(texts, messages.to_pylist(), strict=True)]


def same_prompt_groups(table: pa.Table) -> IntArray:
    """Return the group of each row, shape (n,): the ordinal of the first row with the same normalised prompt."""
    digests = np.empty((table.num_rows, 2), dtype=np.uint64)
    at = 0
    for batch in table.select(["text", "messages_json"]).to_batches():
        joined = b"".join(
            hashlib.blake2b(normalised(prompt).encode(), digest_size=SAME_GROUP_BYTES).digest()
            for prompt in prompts(batch)
        )
        digests[at : at + batch.num_rows] = np.frombuffer(joined, dtype=np.uint64).reshape(-1, 2)
        at += batch.num_rows
    return first_of_equal(digests)


def first_of_equal(keys: NDArray[np.uint64]) -> IntArray:
    """Return for each row of keys, shape (n, k), the first row that equals it, shape (n,)."""
    count = len(keys)
    if not count:
        return np.empty(0, dtype=np.int64)
    order = np.lexsort((np.arange(count), *keys.T[::-1]))
    ordered = keys[order]
    begins = np.ones(count, dtype=bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(count, dtype=np.int64)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return first
