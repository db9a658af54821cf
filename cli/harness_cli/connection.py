"""The way to a coordinator or a database: options, environment, and plain words when nobody answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click
import grpc
from harness_coordinator.settings import DEFAULT_LISTEN, MAX_MESSAGE_BYTES
from harness_proto.v1 import jobs_pb2_grpc

from harness_cli.failure import Failure, bad_input, unreachable, work_failed

CALL_TIMEOUT_S = 30.0
F = TypeVar("F", bound=Callable[..., Any])


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


@contextlib.contextmanager
def jobs_stub(address: str) -> Iterator[jobs_pb2_grpc.JobsStub]:
    """Open a channel to the coordinator's Jobs service; gRPC errors become plain failures."""
    if ":" not in address:
        raise bad_input(f"--coordinator takes HOST:PORT, not {address!r}")
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.enable_http_proxy", 0),
    ]
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            yield jobs_pb2_grpc.JobsStub(channel)
        except grpc.RpcError as error:
            raise explain(error, address) from error


def explain(error: grpc.RpcError, address: str) -> Failure:
    """Return the failure that a gRPC error means to the person at the terminal."""
    code = error.code() if isinstance(error, grpc.Call) else None
    details = (error.details() if isinstance(error, grpc.Call) else None) or str(error)
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        return unreachable(
            f"No coordinator answers at {address}; start one with `harness coordinator run`,"
            " or name another with --coordinator"
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
