"""Enrolment: a join token and a request become a certificate; a certificate near its end becomes a new one."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections import OrderedDict
from typing import Any

import grpc
from cryptography import x509
from harness_proto.v1 import fleet_pb2, fleet_pb2_grpc
from harness_store import credentials, events
from harness_store.errors import StoreError, TokenRefusedError
from sqlalchemy import Connection

from harness_coordinator.authority import Authority, AuthorityError, Issued, key_sha256, read_request
from harness_coordinator.roles import Caller, Roster
from harness_coordinator.tokens import secret_sha256, split_token
from harness_coordinator.write_queue import WriteQueue

MAX_REQUEST_BYTES = 64 * 1024
MAX_TOGETHER = 32
"""Enrolments in progress; each costs a signature and a transaction."""

PEER_BURST, PEER_PER_S = 30, 0.5
FLEET_BURST, FLEET_PER_S = 200, 20.0
"""Thirty boxes behind one address join at once; who guesses gets a try in two seconds, at 256 bits."""
PEERS_KEPT = 4096

_AGENT_URI = re.compile(r"urn:joule-harness:agent:([0-9a-f-]{36})")
_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_log = logging.getLogger(__name__)


class RateLimit:
    """Token buckets: one for each peer's address and one for all."""

    def __init__(self) -> None:
        self._peers: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._fleet: tuple[float, float] | None = None

    def admits(self, peer: str, now_s: float) -> bool:
        """Take one try of a peer; False when it has none left."""
        mine = self._peers.pop(peer, (float(PEER_BURST), now_s))
        left = _refilled(mine, now_s, PEER_BURST, PEER_PER_S)
        ours = _refilled(self._fleet or (float(FLEET_BURST), now_s), now_s, FLEET_BURST, FLEET_PER_S)
        admitted = left >= 1 and ours >= 1
        self._peers[peer] = (left - admitted, now_s)
        self._fleet = (ours - admitted, now_s)
        if len(self._peers) > PEERS_KEPT:
            self._peers.popitem(last=False)
        return admitted


class Enrolment:
    """Decides who gets a certificate."""

    def __init__(
        self, authority: Authority, writes: WriteQueue, roster: Roster, certificate_days: float
    ) -> None:
        self._certificate_days = certificate_days
        self._authority = authority
        self._writes = writes
        self._roster = roster

    async def join(self, request: fleet_pb2.EnrollRequest) -> fleet_pb2.EnrollResponse:
        """Turn a join token into a certificate.

        Raises:
            TokenRefusedError: the token does not give it.
            AuthorityError: the request cannot be signed.
        """
        csr = read_request(request.csr_pem)
        parts = split_token(request.join_token)
        if parts is None:
            raise TokenRefusedError("this is no join token; `harness token create` makes one")

        def store(connection: Connection) -> tuple[Issued, credentials.CertificateRow]:
            issued_for = _key_of(csr)
            token = credentials.redeem_token(
                connection,
                token_id=parts[0],
                secret_sha256=secret_sha256(parts[1]),
                key_sha256=issued_for,
                now_ns=time.time_ns(),
            )
            subject = _subject(csr, token.role, request.agent_name)
            return self._issue(connection, csr, token.role, subject, token.token_id)

        return await self._answer(store)

    async def renew(self, request: fleet_pb2.EnrollRequest, caller: Caller) -> fleet_pb2.EnrollResponse:
        """Give the holder of a valid certificate a new one: same subject, same role, same key.

        Raises:
            TokenRefusedError: the request is for another key.
            AuthorityError: the request cannot be signed.
        """
        csr = read_request(request.csr_pem)
        present = self._roster.find(caller.serial)
        if present is None or _key_of(csr) != present.key_sha256:
            raise TokenRefusedError("a certificate is renewed for its own key only")
        return await self._answer(
            lambda c: self._issue(c, csr, caller.role, caller.subject, present.token_id)
        )

    async def _answer(self, store: Any) -> fleet_pb2.EnrollResponse:
        issued, row = await self._writes.run(store)
        self._roster.add(row)
        return fleet_pb2.EnrollResponse(certificate_pem=issued.pem, ca_pem=self._authority.ca_pem)

    def _issue(
        self,
        connection: Connection,
        csr: x509.CertificateSigningRequest,
        role: str,
        subject: str,
        token_id: str | None,
    ) -> tuple[Issued, credentials.CertificateRow]:
        issued = self._authority.sign_client(csr, role, subject, self._certificate_days)
        row = credentials.CertificateRow(
            serial=issued.serial,
            subject=subject,
            role=role,
            key_sha256=issued.key_sha256,
            token_id=token_id,
            issued_realtime_ns=issued.issued_realtime_ns,
            expires_realtime_ns=issued.expires_realtime_ns,
        )
        credentials.add_certificate(connection, row)
        events.add(
            connection,
            kind="certificate_issued",
            agent_id=subject if role == credentials.AGENT else None,
            detail=f"{role} {subject}, serial {issued.serial}",
        )
        return issued, row


class EnrolmentService(fleet_pb2_grpc.FleetServicer):
    """The only service that a caller without a certificate reaches: Enroll, and nothing else."""

    def __init__(self, enrolment: Enrolment) -> None:
        self._enrolment = enrolment
        self._limit = RateLimit()

    async def Enroll(  # noqa: N802 - the name is the wire's
        self, request: fleet_pb2.EnrollRequest, context: grpc.aio.ServicerContext
    ) -> fleet_pb2.EnrollResponse:
        """Give a certificate for a join token."""
        peer = context.peer().rpartition(":")[0]
        if not self._limit.admits(peer, time.monotonic()):
            return await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many enrolments from this address; wait a minute"
            )
        return await answer(self._enrolment.join(request), context, peer)


async def answer(issuing: Any, context: Any, peer: str) -> fleet_pb2.EnrollResponse:
    """Return the certificate, or end the call with the reason."""
    try:
        return await issuing
    except (StoreError, AuthorityError) as error:
        _log.warning("an enrolment from %s was refused: %s", peer, error)
        code = (
            grpc.StatusCode.PERMISSION_DENIED
            if isinstance(error, TokenRefusedError)
            else grpc.StatusCode.INVALID_ARGUMENT
        )
        return await context.abort(code, str(error))


def _subject(csr: x509.CertificateSigningRequest, role: str, name: str) -> str:
    """Return whom a certificate is for: an agent names its id in the request, a person goes by name."""
    if role == credentials.AGENT:
        try:
            names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        except (x509.ExtensionNotFound, ValueError):
            uris = []
        matches = [match for uri in uris if (match := _AGENT_URI.fullmatch(uri))]
        if len(matches) != 1:
            raise AuthorityError("an agent's certificate request names its agent id, and this one does not")
        try:
            return str(uuid.UUID(matches[0][1]))
        except ValueError:
            raise AuthorityError("the agent id in the certificate request is none") from None
    if not _PERSON.fullmatch(name) or _AGENT_URI.fullmatch(f"urn:joule-harness:agent:{name}"):
        raise AuthorityError(
            "a person's name in a certificate has 1 to 63 letters, digits, dots, dashes, underscores or @"
        )
    return name


def _key_of(csr: x509.CertificateSigningRequest) -> str:
    return key_sha256(csr.public_key())


def _refilled(bucket: tuple[float, float], now_s: float, burst: float, per_s: float) -> float:
    left, at_s = bucket
    return min(burst, left + (now_s - at_s) * per_s)
