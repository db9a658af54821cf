"""A certificate for this machine: had once with a join token, renewed before its end, kept where only we read it.

The token carries the fleet's authority, so already the first connection is to the right coordinator or to none.
The private key is made here and never leaves the machine.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from harness_proto.v1 import fleet_pb2, fleet_pb2_grpc

from harness_agent.errors import EnrolmentError

COORDINATOR_NAME = "coordinator.joule-harness"
"""What every coordinator's certificate says, whatever its address: the fleet's authority vouches for the rest."""
TOKEN_PREFIX = "jht1"  # noqa: S105 - the name of the format
CALL_TIMEOUT_S = 30.0
RENEW_WHEN_LEFT = 1 / 3
"""Of a certificate's life; with 90 days there are 30 to reach the coordinator once."""

KEY, CERTIFICATE, CA = "key.pem", "certificate.pem", "ca.pem"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The certificate in a folder, with its key and the authority it was signed by; PEM."""

    folder: Path
    key: bytes
    certificate: bytes
    ca: bytes
    begins: datetime.datetime
    ends: datetime.datetime

    @classmethod
    def load(cls, folder: Path) -> Credentials | None:
        """Read them; None when this machine was never enrolled.

        Raises:
            EnrolmentError: a file is absent or damaged, or the key can be read by others.
        """
        if not (folder / CERTIFICATE).exists():
            return None
        try:
            mode = (folder / KEY).stat().st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise EnrolmentError(
                    f"{folder / KEY} can be read by others (mode {stat.S_IMODE(mode):o}); run: chmod 600 {folder / KEY}"
                )
            key, pem, ca = ((folder / name).read_bytes() for name in (KEY, CERTIFICATE, CA))
            certificate = x509.load_pem_x509_certificate(pem)
        except (OSError, ValueError) as error:
            raise EnrolmentError(
                f"The certificate in {folder} cannot be used ({error}); remove the folder and enrol again."
            ) from None
        return cls(folder, key, pem, ca, certificate.not_valid_before_utc, certificate.not_valid_after_utc)

    def expired(self) -> bool:
        """Whether its time is over."""
        return _now() >= self.ends

    def renewal_due_s(self) -> float:
        """Return the seconds until it should be renewed, negative when that is past."""
        due = self.ends - (self.ends - self.begins) * RENEW_WHEN_LEFT
        return (due - _now()).total_seconds()

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return what a gRPC channel needs for mutual TLS."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)


def tls_options() -> list[tuple[str, Any]]:
    """Return the channel options that go with `channel_credentials`."""
    return [("grpc.ssl_target_name_override", COORDINATOR_NAME)]


def authority_of(token: str) -> bytes:
    """Return the fleet's authority that a join token names, in PEM.

    Raises:
        EnrolmentError: it is no token, or was cut short.
    """
    parts = token.strip().split(".")
    try:
        if len(parts) != 4 or parts[0] != TOKEN_PREFIX:
            raise ValueError
        padded = parts[3] + "=" * (-len(parts[3]) % 4)
        authority = x509.load_der_x509_certificate(base64.urlsafe_b64decode(padded))
    except (ValueError, binascii.Error):
        raise EnrolmentError(
            "The join token is not whole; copy the full line that `harness token create` printed."
        ) from None
    return authority.public_bytes(serialization.Encoding.PEM)


def enrol(folder: Path, address: str, token: str, *, agent_id: str = "", name: str = "") -> Credentials:
    """Turn a join token into a certificate in `folder`.

    The key is written before the token is spent: when the answer is lost, the same call gives the certificate.

    Args:
        folder: made when absent, for its owner only.
        address: HOST:PORT where the coordinator takes join tokens.
        token: the line that `harness token create` printed.
        agent_id: of an agent; empty for a person.
        name: the agent's name, or the person's.

    Raises:
        EnrolmentError: the token is refused, or nobody answers.
    """
    ca = authority_of(token)
    key = _own_key(folder)
    request = fleet_pb2.EnrollRequest(
        join_token=token.strip(), agent_name=name, csr_pem=_request(key, agent_id, name)
    )
    credentials = grpc.ssl_channel_credentials(ca)
    with grpc.secure_channel(address, credentials, options=tls_options()) as channel:
        try:
            reply = fleet_pb2_grpc.FleetStub(channel).Enroll(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            raise EnrolmentError(_explained(error, address)) from None
    return _keep(folder, reply.certificate_pem, ca)


def renewal_request(credentials: Credentials) -> fleet_pb2.EnrollRequest:
    """Return the request that renews a certificate, to be sent over a channel that it secures."""
    key = serialization.load_pem_private_key(credentials.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise EnrolmentError(f"The key in {credentials.folder} is of another kind; enrol again.")
    return fleet_pb2.EnrollRequest(csr_pem=_request(key, "", ""))


def keep_renewed(credentials: Credentials, reply: fleet_pb2.EnrollResponse) -> Credentials:
    """Store a renewed certificate in the place of the old one."""
    return _keep(credentials.folder, reply.certificate_pem, credentials.ca)


def renew(credentials: Credentials, address: str) -> Credentials:
    """Renew a certificate at the coordinator.

    Raises:
        EnrolmentError: it is refused, or nobody answers.
    """
    with grpc.secure_channel(address, credentials.channel_credentials(), options=tls_options()) as channel:
        try:
            stub = fleet_pb2_grpc.FleetStub(channel)
            reply = stub.Enroll(renewal_request(credentials), timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            raise EnrolmentError(_explained(error, address)) from None
    return keep_renewed(credentials, reply)


def _explained(error: grpc.RpcError, address: str) -> str:
    details = (error.details() if isinstance(error, grpc.Call) else None) or str(error)
    code = error.code() if isinstance(error, grpc.Call) else None
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"Nobody at {address} takes join tokens of this fleet: {details}"
    return f"The coordinator at {address} gives no certificate: {details}"


def _own_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    path = folder / KEY
    with contextlib.suppress(OSError, ValueError):
        present = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if isinstance(present, ec.EllipticCurvePrivateKey):
            return present
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, pem, 0o600)
    return key


def _request(key: ec.EllipticCurvePrivateKey, agent_id: str, name: str) -> bytes:
    common = x509.NameAttribute(NameOID.COMMON_NAME, (name or agent_id or "renewal")[:64])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([common]))
    if agent_id:
        uri = x509.UniformResourceIdentifier(f"urn:joule-harness:agent:{agent_id}")
        builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _keep(folder: Path, certificate: bytes, ca: bytes) -> Credentials:
    _write(folder / CA, ca, 0o644)
    _write(folder / CERTIFICATE, certificate, 0o644)
    kept = Credentials.load(folder)
    if kept is None:
        raise EnrolmentError(f"The certificate could not be kept in {folder}.")
    return kept


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all; never readable by others than `mode` says, not for a moment."""
    draft = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise EnrolmentError(f"{path}: cannot be written: {error.strerror or error}.") from None


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
