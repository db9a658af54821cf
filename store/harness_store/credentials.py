"""Join tokens and certificates: made, redeemed, revoked. Secrets are kept as hashes only."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, or_, select, update

from harness_store.errors import TokenRefusedError, UnknownCredentialError
from harness_store.models import Certificate, JoinToken
from harness_store.rows import as_row

AGENT = "agent"
ROLES = ("agent", "submitter", "viewer")
EXPIRED_KEPT_NS = 30 * 86_400_000_000_000
"""Certificates stay listed for a month after their end."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One join token as stored; times are realtime ns."""

    token_id: str
    role: str
    secret_sha256: str
    note: str
    created_realtime_ns: int
    expires_realtime_ns: int
    used_realtime_ns: int | None = None
    used_key_sha256: str | None = None
    revoked_realtime_ns: int | None = None

    def state(self, now_ns: int) -> str:
        """Return `revoked`, `used`, `expired` or `valid`."""
        if self.revoked_realtime_ns is not None:
            return "revoked"
        if self.role == AGENT and self.used_realtime_ns is not None:
            return "used"
        return "expired" if self.expires_realtime_ns <= now_ns else "valid"


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """One client certificate as stored; times are realtime ns."""

    serial: str
    subject: str
    role: str
    key_sha256: str
    token_id: str | None
    issued_realtime_ns: int
    expires_realtime_ns: int
    revoked_realtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Revoked:
    """What a revocation ended."""

    tokens: int
    certificates: int


def add_token(connection: Connection, token: TokenRow) -> None:
    """Store a token that was just made."""
    connection.execute(insert(JoinToken), as_row(token))


def redeem_token(
    connection: Connection, *, token_id: str, secret_sha256: str, key_sha256: str, now_ns: int
) -> TokenRow:
    """Turn a token into the right to one certificate and return it.

    An agent's token serves one public key: that key may ask again, because the answer may have been lost on
    its way, and any other key is refused. Tokens of people serve until they expire.

    Raises:
        TokenRefusedError: unknown, expired, revoked, or used by another key. Which of them is not said to
            somebody who does not know the secret.
    """
    row = connection.execute(
        select(*JoinToken.__table__.columns).where(JoinToken.token_id == token_id).with_for_update()
    ).first()
    if row is None or not hmac.compare_digest(row.secret_sha256, secret_sha256):
        raise TokenRefusedError("the join token is not known here")
    token = TokenRow(**row._mapping)
    if token.revoked_realtime_ns is not None:
        raise TokenRefusedError("the join token was revoked; ask for a new one")
    if token.expires_realtime_ns <= now_ns:
        raise TokenRefusedError("the join token has expired; ask for a new one")
    if token.role == AGENT and token.used_key_sha256 not in {None, key_sha256}:
        raise TokenRefusedError("the join token was used by another agent; each agent needs one of its own")
    connection.execute(
        update(JoinToken)
        .where(JoinToken.token_id == token_id)
        .values(used_realtime_ns=now_ns, used_key_sha256=key_sha256)
    )
    return token


def add_certificate(connection: Connection, certificate: CertificateRow) -> None:
    """Store a certificate that is about to be handed out.

    Raises:
        TokenRefusedError: another key holds a certificate for this subject that is neither expired nor revoked.
    """
    holder = connection.execute(
        select(Certificate.key_sha256).where(
            Certificate.subject == certificate.subject,
            Certificate.key_sha256 != certificate.key_sha256,
            Certificate.revoked_realtime_ns.is_(None),
            Certificate.expires_realtime_ns > certificate.issued_realtime_ns,
        )
    ).first()
    if holder is not None and certificate.role == AGENT:
        raise TokenRefusedError(
            f"agent {certificate.subject} has a certificate under another key; revoke that one first:"
            f" harness token revoke {certificate.subject}"
        )
    connection.execute(insert(Certificate), as_row(certificate))


def certificates(connection: Connection, *, now_ns: int) -> list[CertificateRow]:
    """Return the certificates that are valid, or were until a month ago, newest first."""
    rows = connection.execute(
        select(*Certificate.__table__.columns)
        .where(Certificate.expires_realtime_ns > now_ns - EXPIRED_KEPT_NS)
        .order_by(Certificate.issued_realtime_ns.desc(), Certificate.serial)
    )
    return [CertificateRow(**row._mapping) for row in rows]


def tokens(connection: Connection) -> list[TokenRow]:
    """Return every token, newest first."""
    rows = connection.execute(
        select(*JoinToken.__table__.columns).order_by(
            JoinToken.created_realtime_ns.desc(), JoinToken.token_id
        )
    )
    return [TokenRow(**row._mapping) for row in rows]


def revoke(connection: Connection, name: str, *, now_ns: int) -> Revoked:
    """Revoke a token with the certificates made from it, a certificate by serial, or all of a subject.

    Raises:
        UnknownCredentialError: nothing has this id.
    """
    known = connection.execute(select(JoinToken.token_id).where(JoinToken.token_id == name)).first()
    mine = or_(Certificate.serial == name, Certificate.subject == name, Certificate.token_id == name)
    issued = connection.execute(select(Certificate.serial).where(mine)).first()
    if known is None and issued is None:
        raise UnknownCredentialError(
            f"no token, certificate or subject is called {name!r}; `harness token list` names them"
        )
    ended_tokens = connection.execute(
        update(JoinToken)
        .where(JoinToken.token_id == name, JoinToken.revoked_realtime_ns.is_(None))
        .values(revoked_realtime_ns=now_ns)
    ).rowcount
    return Revoked(ended_tokens, revoke_certificates(connection, [name], now_ns=now_ns))


def revoke_certificates(connection: Connection, names: Sequence[str], *, now_ns: int) -> int:
    """Revoke the certificates with these serials, subjects or tokens; return how many were valid."""
    mine = or_(Certificate.serial.in_(names), Certificate.subject.in_(names), Certificate.token_id.in_(names))
    return connection.execute(
        update(Certificate)
        .where(mine, Certificate.revoked_realtime_ns.is_(None))
        .values(revoked_realtime_ns=now_ns)
    ).rowcount
