"""A fleet with TLS as real processes, and certificates for whoever a test plays."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from harness_agent.enrolment import Credentials, enrol, tls_options
from harness_cli.token import seconds
from harness_coordinator.authority import Authority
from harness_coordinator.tokens import new_token
from harness_proto import v1 as wire
from harness_store import credentials
from harness_store.database import open_store

from tests.end_to_end.harness_processes import Harness, wait_for

# Every service of the wire, found by walking its modules: a new one must not be forgotten here.
SERVICES = {
    name: service
    for module in pkgutil.iter_modules(wire.__path__)
    if module.name.endswith("_pb2")
    for name, service in importlib.import_module(
        f"{wire.__name__}.{module.name}"
    ).DESCRIPTOR.services_by_name.items()
}
ALL_RPCS = [f"/harness.v1.{name}/{m.name}" for name, service in SERVICES.items() for m in service.methods]


class SecureFleet(Harness):
    """A harness whose coordinator was initialised with a certificate authority."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        database: str = "",
        authority_from: Path | None = None,
    ) -> None:
        super().__init__(folder, {**(environment or {}), "HARNESS_TLS_DIR": str(folder / "people")})
        self.enrolment = ""
        self.database = database or self.database
        shared = ("--authority-from", str(authority_from)) if authority_from else ()
        self.administer("coordinator", "init", *shared)

    def administer(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as the administrator on the coordinator's machine."""
        extra = () if arguments[1] == "init" else ("--db", self.database)
        return self.call(*arguments, "--state-dir", str(self.folder / "co"), *extra, check=check)

    def start_coordinator(self, listen: str = "127.0.0.1:0", *extra: str) -> None:
        """Start the coordinator and learn both its addresses."""
        if self.enrolment:
            extra = (*extra, "--listen-enrolment", self.enrolment)
        super().start_coordinator(listen, *extra)
        line = wait_for(lambda: self._said("coordinator", "join tokens at "), "it takes join tokens")
        self.enrolment = line.partition("join tokens at ")[2].partition(",")[0]

    def token(self, role: str, ttl: str = "1h") -> str:
        """Make a join token as `harness token create` does, without a process of its own."""
        authority = Authority.load(self.folder / "co" / "tls")
        made = new_token(authority.ca_der, role=role, ttl_s=seconds(ttl))
        store = open_store(self.database)
        with store.begin() as connection:
            credentials.add_token(connection, made.row)
        store.close()
        return made.text

    def agent_certificate(self, agent_id: str = "", token: str = "") -> tuple[str, Credentials]:
        """Enrol an agent that a test plays; return its id and certificate."""
        agent_id = agent_id or str(uuid.uuid4())
        folder = self.folder / "played" / uuid.uuid4().hex
        return agent_id, enrol(folder, self.enrolment, token or self.token("agent"), agent_id=agent_id)

    def person_certificate(self, role: str) -> Credentials:
        """Enrol a person that a test plays."""
        folder = self.folder / "played" / uuid.uuid4().hex
        return enrol(folder, self.enrolment, self.token(role), name=f"a-{role}")

    def log_in(self, role: str = "submitter") -> None:
        """Give the command line that tests call a certificate."""
        file = self.folder / "person-token"
        file.write_text(self.token(role))
        self.run(
            "login", "--token-file", str(file), "--name", "tester", "--enrolment", self.enrolment, check=True
        )

    def join(self, name: str, *extra: str) -> None:
        """Start an agent that joins with a token of its own."""
        file = self.folder / f"{name}-token"
        file.write_text(self.token("agent"))
        self.start_agent(name, "--join-token-file", str(file), "--enrolment", self.enrolment, *extra)


@contextmanager
def channel_of(address: str, certificate: Credentials | None) -> Iterator[grpc.Channel]:
    """Open a channel with a certificate, or without TLS."""
    options: list[tuple[str, Any]] = [*tls_options(), ("grpc.use_local_subchannel_pool", 1)]
    if certificate is None:
        with grpc.insecure_channel(address, options=options) as channel:
            yield channel
    else:
        secured = certificate.channel_credentials()
        with grpc.secure_channel(address, secured, options=options) as channel:
            yield channel


def call(channel: grpc.Channel, method: str, request: bytes = b"") -> grpc.StatusCode:
    """Call any RPC with one raw message and return how it ended; OK as soon as anything is answered."""
    return call_and_hear(channel, method, request)[0]


def call_and_hear(channel: grpc.Channel, method: str, request: bytes = b"") -> tuple[grpc.StatusCode, str]:
    """Do the same and return what was said, too."""
    service, name = method.removeprefix("/harness.v1.").split("/")
    descriptor = SERVICES[service].methods_by_name[name]
    kind = {
        (False, False): channel.unary_unary,
        (True, False): channel.stream_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }[descriptor.client_streaming, descriptor.server_streaming]
    stub: Callable[..., Any] = kind(method, request_serializer=None, response_deserializer=None)
    sent = iter([request]) if descriptor.client_streaming else request
    try:
        answer = stub(sent, timeout=10, wait_for_ready=False)
        if descriptor.server_streaming:
            next(answer, None)
            answer.cancel()
    except grpc.RpcError as error:
        return (
            (error.code(), error.details() or "")
            if isinstance(error, grpc.Call)
            else (grpc.StatusCode.UNKNOWN, "")
        )
    return grpc.StatusCode.OK, ""
