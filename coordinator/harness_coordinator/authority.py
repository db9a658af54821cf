"""The fleet's own certificate authority: makes itself, the coordinator's certificate, and those of clients.

Keys are elliptic (P-256), which every TLS library that gRPC is built with takes. All cryptography is done by the
`cryptography` package.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

COORDINATOR_NAME = "coordinator.joule-harness"
"""In every coordinator's certificate: agents ask for a coordinator of their fleet, whatever its address is."""

CA_DAYS = 3650
SERVER_DAYS = 825
SERVER_RENEW_DAYS = 365
"""A coordinator that starts with less than this left makes itself a new certificate."""
BACKDATED = datetime.timedelta(minutes=10)
"""Machines whose clocks are a little behind must take a fresh certificate; at most a tenth of its life."""
MIN_RSA_BITS = 2048
ROLE_URI = "urn:joule-harness:{role}:{subject}"

CA, CA_KEY, SERVER, SERVER_KEY = "ca.pem", "ca-key.pem", "server.pem", "server-key.pem"


class AuthorityError(Exception):
    """The authority's files are absent, damaged, or readable by others; or a request is not signable."""


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """What a TLS server needs, in PEM."""

    key: bytes
    chain: bytes
    ca: bytes


@dataclass(frozen=True, slots=True)
class Issued:
    """A client certificate that was just signed."""

    pem: bytes
    serial: str
    key_sha256: str
    issued_realtime_ns: int
    expires_realtime_ns: int


class Authority:
    """The CA of one fleet, in one folder that only its owner reads."""

    def __init__(self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._folder = folder
        self.certificate = certificate
        self._key = key

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Whether `harness coordinator init` was run for this folder."""
        return (folder / CA).exists() or (folder / CA_KEY).exists()

    @classmethod
    def create(cls, folder: Path, name: str = "joule-harness fleet") -> Authority:
        """Make a new authority.

        Raises:
            AuthorityError: there is one already, or the folder cannot be written.
        """
        if cls.exists(folder):
            raise AuthorityError(f"{folder} holds a certificate authority already; it was left as it is")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = _now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(folder, CA_KEY, _key_pem(key), private=True)
        _write(folder, CA, certificate.public_bytes(serialization.Encoding.PEM), private=False)
        return cls(folder, certificate, key)

    @classmethod
    def copy(cls, source: Path, folder: Path) -> Authority:
        """Take over the authority of another coordinator of the same fleet.

        Raises:
            AuthorityError: `source` holds none, or `folder` holds one already.
        """
        authority = cls.load(source)
        if cls.exists(folder):
            raise AuthorityError(f"{folder} holds a certificate authority already; it was left as it is")
        _write(folder, CA_KEY, private_bytes(source / CA_KEY), private=True)
        _write(folder, CA, (source / CA).read_bytes(), private=False)
        return cls(folder, authority.certificate, authority._key)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """Read an authority.

        Raises:
            AuthorityError: a file is absent, damaged, or its key can be read by others than its owner.
        """
        try:
            certificate = x509.load_pem_x509_certificate((folder / CA).read_bytes())
            key = serialization.load_pem_private_key(private_bytes(folder / CA_KEY), password=None)
        except OSError as error:
            raise AuthorityError(f"{error.filename}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise AuthorityError(f"{folder}: the certificate authority is damaged: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise AuthorityError(f"{folder}: {CA_KEY} is not the key of {CA}")
        return cls(folder, certificate, key)

    @property
    def ca_pem(self) -> bytes:
        """The authority's own certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def ca_der(self) -> bytes:
        """The same in DER, for join tokens."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def server_files(self, hosts: Sequence[str] = ()) -> ServerFiles:
        """Return the coordinator's key and certificate; they are made when absent or near their end.

        Args:
            hosts: further names and addresses in the certificate; those of an older one are kept.

        Raises:
            AuthorityError: they are damaged, or the key can be read by others.
        """
        path = self._folder / SERVER
        known: list[str] = []
        if path.exists():
            try:
                present = x509.load_pem_x509_certificate(path.read_bytes())
            except ValueError as error:
                raise AuthorityError(f"{path} is damaged ({error}); remove it and start again") from None
            known = _hosts_of(present)
            left = present.not_valid_after_utc - _now()
            if left > datetime.timedelta(days=SERVER_RENEW_DAYS) and set(hosts) <= set(known):
                key = private_bytes(self._folder / SERVER_KEY)
                return ServerFiles(key, path.read_bytes(), self.ca_pem)
        key, chain = self._new_server(list(dict.fromkeys([*default_hosts(), *known, *hosts])))
        _write(self._folder, SERVER_KEY, key, private=True)
        _write(self._folder, SERVER, chain, private=False)
        return ServerFiles(key, chain, self.ca_pem)

    def sign_client(
        self, csr: x509.CertificateSigningRequest, role: str, subject: str, days: float
    ) -> Issued:
        """Sign a client's request: only its public key is taken from it, the rest is ours."""
        now = _now()
        life = datetime.timedelta(days=days)
        until = min(now + life, self.certificate.not_valid_after_utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])]))
            .issuer_name(self.certificate.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - min(BACKDATED, life / 10))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.UniformResourceIdentifier(ROLE_URI.format(role=role, subject=subject))]
                ),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            pem=certificate.public_bytes(serialization.Encoding.PEM),
            serial=f"{certificate.serial_number:x}",
            key_sha256=key_sha256(csr.public_key()),
            issued_realtime_ns=int(now.timestamp() * 1e9),
            expires_realtime_ns=int(until.timestamp() * 1e9),
        )

    def _new_server(self, hosts: Sequence[str]) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        now = _now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, COORDINATOR_NAME)]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(now + datetime.timedelta(days=SERVER_DAYS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _key_pem(key), certificate.public_bytes(serialization.Encoding.PEM)


def read_request(csr_pem: bytes) -> x509.CertificateSigningRequest:
    """Parse a certificate signing request and check that its sender has the key.

    Raises:
        AuthorityError: it is no request, its signature is wrong, or its key is weak.
    """
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        signed = csr.is_signature_valid
        key = csr.public_key()
    except Exception as error:  # noqa: BLE001 - whatever the parser says of bytes from outside
        raise AuthorityError(f"the certificate request cannot be read: {type(error).__name__}") from None
    strong = (isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= 256) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS
    )
    if not signed or not strong:
        raise AuthorityError("the certificate request is not signed by its own key, or the key is weak")
    return csr


def key_sha256(key: object) -> str:
    """Return the fingerprint of a public key."""
    der = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def private_bytes(path: Path) -> bytes:
    """Read a private file.

    Raises:
        AuthorityError: others than its owner can read it.
    """
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise AuthorityError(
            f"{path} can be read by others (mode {stat.S_IMODE(mode):o}); run: chmod 600 {path}"
        )
    return path.read_bytes()


def default_hosts() -> list[str]:
    """Return the names that every coordinator's certificate carries."""
    return [COORDINATOR_NAME, "localhost", "127.0.0.1", "::1", socket.gethostname()]


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _hosts_of(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    ]


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(folder: Path, name: str, data: bytes, *, private: bool) -> None:
    """Write a file whole or not at all; a private one is never readable by others, not for a moment."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = folder / f"{name}.new"
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / name)
    except OSError as error:
        raise AuthorityError(f"{folder / name}: cannot be written: {error.strerror}") from None


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
