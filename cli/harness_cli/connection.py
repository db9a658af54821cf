"""The way to a coordinator or a database: options, environment, and plain words when nobody answers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
import grpc
from harness_agent.enrolment import Credentials, renew, tls_options
from harness_agent.errors import EnrolmentError
from harness_coordinator.settings import DEFAULT_LISTEN, MAX_MESSAGE_BYTES
from harness_proto.v1 import datasets_pb2_grpc, jobs_pb2_grpc, verdicts_pb2_grpc

from harness_cli.failure import Failure, bad_input, unreachable, work_failed
from harness_cli.state_directory import home_directory

CALL_TIMEOUT_S = 30.0
F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S")


def coordinator_option(command: F) -> F:
    """Add `--coordinator`."""
    return click.option(
        "--coordinator",
        envvar="HARNESS_COORDINATOR",
        default=DEFAULT_LISTEN,
        show_default=True,
        metavar="HOST:PORT",
        help="The coordinator to talk to. [env: HARNESS_COORDINATOR]",
    )(command)


def database_option(command: F) -> F:
    """Add `--db`."""
    return click.option(
        "--db",
        "database_url",
        envvar="HARNESS_DB",
        metavar="URL",
        help="Read this database directly, for example sqlite:///harness.db. [env: HARNESS_DB]",
    )(command)


def administrator_options(command: F) -> F:
    """Add `--db` and `--state-dir`: whoever can write the coordinator's database administers the fleet."""
    with_folder = click.option(
        "--state-dir",
        type=click.Path(path_type=Path),
        help="The coordinator's state directory; default: the one of `harness coordinator run`.",
    )(command)
    return click.option(
        "--db",
        "database_url",
        envvar="HARNESS_DB",
        metavar="URL",
        help="The coordinator's database; default: harness.db in its state directory. [env: HARNESS_DB]",
    )(with_folder)


def check_addresses(coordinators: str) -> None:
    """Refuse what is not HOST:PORT, or several with commas between.

    Raises:
        Failure: it is something else.
    """
    for address in coordinators.split(","):
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise bad_input(f"--coordinator takes HOST:PORT, not {address!r}")


def credentials_folder(address: str) -> Path:
    """Return where this person's certificate for a coordinator is kept; HARNESS_TLS_DIR moves all of them."""
    named = os.environ.get("HARNESS_TLS_DIR")
    if named:
        root = Path(named)
    else:
        base = os.environ.get("XDG_CONFIG_HOME")
        root = (
            Path(base) if base else home_directory("HARNESS_TLS_DIR to a folder for certificates") / ".config"
        )
        root = root / "joule-harness" / "tls"
    return root / address.replace(":", "_").replace("/", "_")


def open_channel(address: str, options: list[tuple[str, Any]]) -> grpc.Channel:
    """Open a channel with this person's certificate, renewed when due; without one only to loopback.

    Raises:
        Failure: there is no usable certificate for a coordinator on a network.
    """
    try:
        credentials = Credentials.load(credentials_folder(address))
        if credentials is not None and credentials.expired():
            raise EnrolmentError(
                f"Your certificate for {address} ended on {credentials.ends:%Y-%m-%d}; ask for a join token"
                " and run: harness login"
            )
        if credentials is not None and credentials.renewal_due_s() <= 0:
            with contextlib.suppress(EnrolmentError):  # the next command tries again
                credentials = renew(credentials, address)
    except EnrolmentError as error:
        raise unreachable(str(error)) from None
    if credentials is not None:
        secured = credentials.channel_credentials()
        return grpc.secure_channel(address, secured, options=[*options, *tls_options()])
    host = address.rpartition(":")[0].strip("[]")
    if host not in {"localhost", "::1"} and not host.startswith("127."):
        raise unreachable(
            f"You have no certificate for the coordinator at {address}; ask its administrator for a join token"
            f" (harness token create --role submitter) and run: harness login --coordinator {address}"
        )
    return grpc.insecure_channel(address, options=options)


@contextlib.contextmanager
def jobs_stub(address: str) -> Iterator[jobs_pb2_grpc.JobsStub]:
    """Open a channel to the coordinator's Jobs service; gRPC errors become plain failures."""
    with _stub(address, jobs_pb2_grpc.JobsStub) as stub:
        yield stub


@contextlib.contextmanager
def datasets_stub(address: str) -> Iterator[datasets_pb2_grpc.DatasetsStub]:
    """Open a channel to the coordinator's Datasets service; gRPC errors become plain failures."""
    with _stub(address, datasets_pb2_grpc.DatasetsStub) as stub:
        yield stub


@contextlib.contextmanager
def verdicts_stub(address: str) -> Iterator[verdicts_pb2_grpc.VerdictsStub]:
    """Open a channel to the coordinator's Verdicts service; gRPC errors become plain failures."""
    with _stub(address, verdicts_pb2_grpc.VerdictsStub) as stub:
        yield stub


@contextlib.contextmanager
def _stub(address: str, kind: Callable[[grpc.Channel], S]) -> Iterator[S]:
    if ":" not in address:
        raise bad_input(f"--coordinator takes HOST:PORT, not {address!r}")
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.enable_http_proxy", 0),
    ]
    with open_channel(address, options) as channel:
        try:
            yield kind(channel)
        except grpc.RpcError as error:
            raise explain(error, address) from error


def explain(error: grpc.RpcError, address: str) -> Failure:
    """Return the failure that a gRPC error means to the person at the terminal."""
    code = error.code() if isinstance(error, grpc.Call) else None
    details = (error.details() if isinstance(error, grpc.Call) else None) or str(error)
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        login = "" if credentials_folder(address).exists() else "; if it uses TLS, run `harness login` first"
        return unreachable(
            f"No coordinator answers at {address}; start one with `harness coordinator run`,"
            f" or name another with --coordinator{login}"
        )
    if code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
        return unreachable(f"The coordinator at {address} does not allow this: {details}")
    if code in {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    }:
        return bad_input(details)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return work_failed(f"The coordinator at {address} is older and cannot do this; upgrade it")
    return work_failed(f"The coordinator at {address} failed: {details}")
