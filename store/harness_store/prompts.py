"""What a model is asked, as one text, and its hash: what two queries must share to be the same question."""

from __future__ import annotations

import hashlib
import json

HASH_CHARACTERS = 32
"""128 bits of SHA-256 in hexadecimal: among 1e9 texts two share a hash with a probability of 1e-21."""


def prompt_text(text: str, messages_json: str | None) -> str:
    """Return all that a query sends: its text, or the turns of its conversation with their roles before them.

    A conversation of one turn is its content alone, so that it equals the same question asked as a text.
    """
    if not messages_json:
        return text
    messages = json.loads(messages_json)
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def content_hash(prompt: str) -> str:
    """Return the hash of a prompt."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_CHARACTERS]
