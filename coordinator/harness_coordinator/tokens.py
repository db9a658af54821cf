"""Join tokens: one line of text that proves the right to a certificate and names the fleet it is for.

    jht1.<token id>.<secret>.<the authority's certificate>

The last part lets a machine that knows nothing yet be sure that it talks to the right coordinator, so that the
first connection is as safe as every later one. Only the secret's hash is stored here.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass

from harness_store.credentials import TokenRow

PREFIX = "jht1"
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made; `text` is shown once and kept by nobody here."""

    text: str
    row: TokenRow


def new_token(ca_der: bytes, *, role: str, ttl_s: float, note: str = "") -> NewToken:
    """Make a token.

    Args:
        ca_der: the fleet's authority.
        role: agent, submitter or viewer.
        ttl_s: how long it may be redeemed.
        note: for people, shown in listings.
    """
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(SECRET_BYTES)
    now_ns = time.time_ns()
    authority = base64.urlsafe_b64encode(ca_der).rstrip(b"=").decode()
    row = TokenRow(
        token_id=token_id,
        role=role,
        secret_sha256=secret_sha256(secret),
        note=note,
        created_realtime_ns=now_ns,
        expires_realtime_ns=now_ns + int(ttl_s * 1e9),
    )
    return NewToken(f"{PREFIX}.{token_id}.{secret}.{authority}", row)


def split_token(text: str) -> tuple[str, str] | None:
    """Return (token id, secret) of a token's text, None when it is none."""
    parts = text.strip().split(".")
    if len(parts) < 3 or parts[0] != PREFIX or not parts[1] or not parts[2]:
        return None
    return parts[1], parts[2]


def secret_sha256(secret: str) -> str:
    """Return what is stored of a secret; its 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()
