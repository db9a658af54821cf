"""Who may speak to a coordinator: join tokens, and the certificates made from them."""

from __future__ import annotations

from sqlalchemy import Index
from sqlalchemy.orm import Mapped

from harness_store.models.base import Base, TextKey


class JoinToken(Base):
    """A secret that may be turned into a certificate; only its hash is kept."""

    __tablename__ = "join_tokens"

    token_id: Mapped[TextKey]
    role: Mapped[str]
    """agent, submitter or viewer."""
    secret_sha256: Mapped[str]
    note: Mapped[str]
    created_realtime_ns: Mapped[int]
    expires_realtime_ns: Mapped[int]
    used_realtime_ns: Mapped[int | None]
    used_key_sha256: Mapped[str | None]
    """Public key that an agent's token was turned into a certificate for: nobody else gets one for it."""
    revoked_realtime_ns: Mapped[int | None]


class Certificate(Base):
    """A client certificate that this fleet's authority has signed."""

    __tablename__ = "certificates"

    serial: Mapped[TextKey]
    """Hexadecimal."""
    subject: Mapped[str]
    """The agent's id, or a person's name."""
    role: Mapped[str]
    key_sha256: Mapped[str]
    token_id: Mapped[str | None]
    """The token that the first certificate of this key was made from."""
    issued_realtime_ns: Mapped[int]
    expires_realtime_ns: Mapped[int]
    revoked_realtime_ns: Mapped[int | None]

    __table_args__ = (Index(None, "subject"), Index(None, "expires_realtime_ns"))
