"""Who may call what: one table of roles, enforced on every RPC before its handler runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from cryptography import x509
from harness_store import credentials
from harness_store.database import Store

AGENT, SUBMITTER, VIEWER = "agent", "submitter", "viewer"
_PEOPLE = frozenset({SUBMITTER, VIEWER})

RPC_ROLES: Mapping[str, frozenset[str]] = {
    "/harness.v1.Fleet/Session": frozenset({AGENT}),
    "/harness.v1.Fleet/PushSamples": frozenset({AGENT}),
    "/harness.v1.Fleet/Enroll": frozenset({AGENT, SUBMITTER, VIEWER}),
    "/harness.v1.Jobs/Submit": frozenset({SUBMITTER}),
    "/harness.v1.Jobs/CancelJob": frozenset({SUBMITTER}),
    "/harness.v1.Jobs/RetryJob": frozenset({SUBMITTER}),
    "/harness.v1.Jobs/Recompute": frozenset({SUBMITTER}),
    "/harness.v1.Jobs/GetJob": _PEOPLE,
    "/harness.v1.Jobs/ListJobs": _PEOPLE,
    "/harness.v1.Jobs/WatchJob": _PEOPLE,
    "/harness.v1.Jobs/ListAgents": _PEOPLE,
    "/harness.v1.Jobs/Results": _PEOPLE,
    "/harness.v1.Jobs/Samples": _PEOPLE,
    "/harness.v1.Datasets/Import": frozenset({SUBMITTER}),
    "/harness.v1.Datasets/Drop": frozenset({SUBMITTER}),
    "/harness.v1.Datasets/List": _PEOPLE,
    "/harness.v1.Datasets/Show": _PEOPLE,
    "/harness.v1.Datasets/Rows": _PEOPLE,
    "/harness.v1.Verdicts/Record": frozenset({SUBMITTER}),
    "/harness.v1.Verdicts/Use": frozenset({SUBMITTER}),
    "/harness.v1.Verdicts/KeepJudgements": frozenset({SUBMITTER}),
    "/harness.v1.Verdicts/FindJudgements": _PEOPLE,
    "/harness.v1.Verdicts/Describe": _PEOPLE,
    "/harness.v1.Verdicts/Answers": _PEOPLE,
    "/harness.v1.Verdicts/List": _PEOPLE,
}
"""An RPC that is not named here is refused to everybody."""

MAX_PARSED = 20_000
"""Certificates whose serial is remembered; parsing one takes 50 us."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end, as its certificate says."""

    subject: str
    role: str
    serial: str


class Roster:
    """The certificates that are valid now, read from the store every few seconds."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[str, credentials.CertificateRow] = {}

    def load(self) -> None:
        """Read them again; safe on any thread."""
        with self._store.read() as connection:
            rows = credentials.certificates(connection, now_ns=time.time_ns())
        self._rows = {row.serial: row for row in rows}

    def add(self, row: credentials.CertificateRow) -> None:
        """Take a certificate that was just made."""
        self._rows = {**self._rows, row.serial: row}

    def find(self, serial: str) -> credentials.CertificateRow | None:
        """Return the certificate with this serial, None for one that is not known."""
        return self._rows.get(serial)

    def refusal(self, serial: str) -> str:
        """Return why a certificate does not count, empty when it does."""
        row = self._rows.get(serial)
        if row is None:
            return "the certificate is not known to this fleet"
        if row.revoked_realtime_ns is not None:
            return "the certificate was revoked"
        if row.expires_realtime_ns <= time.time_ns():
            return "the certificate has expired"
        return ""


class Gate(grpc.aio.ServerInterceptor):
    """Admits or refuses every RPC; without a roster (loopback, no TLS) everybody is admitted."""

    def __init__(self, roster: Roster | None) -> None:
        self._roster = roster
        self._serials: dict[bytes, str] = {}

    async def caller(self, context: Any) -> Caller | None:
        """Return who calls, None where there is no TLS; a certificate that does not count ends the call."""
        if self._roster is None:
            return None
        pem = next(iter(context.auth_context().get("x509_pem_cert", ())), b"")
        if not pem:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a client certificate is needed")
        serial = self._serial(pem)
        if self._roster.find(serial) is None:
            # It may have been issued by another coordinator of this fleet a moment ago.
            await asyncio.to_thread(self._roster.load)
        refusal, row = self._roster.refusal(serial), self._roster.find(serial)
        if refusal or row is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, refusal)
            raise AssertionError("abort raises")
        return Caller(row.subject, row.role, serial)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of one call."""
        handler = await continuation(handler_call_details)
        if self._roster is None or handler is None:
            return handler
        return self._guarded(handler, handler_call_details.method)

    def _guarded(self, handler: Any, method: str) -> Any:
        async def admit(context: Any) -> Caller:
            caller = await self.caller(context)
            assert caller is not None  # noqa: S101 - there is a roster
            if caller.role not in RPC_ROLES.get(method, frozenset()):
                await context.abort(
                    grpc.StatusCode.PERMISSION_DENIED,
                    f"a certificate with the role {caller.role} may not call {method.rpartition('/')[2]}",
                )
            return caller

        async def one(request: Any, context: Any) -> Any:
            caller = await admit(context)
            inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
            return await inner(self._requests(request, caller, handler), context)

        async def many(request: Any, context: Any) -> AsyncIterator[Any]:
            caller = await admit(context)
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            async for response in inner(self._requests(request, caller, handler), context):
                if self._refusal(caller):
                    break
                yield response
            # Long streams outlive certificates: one that ended meanwhile ends them.
            if refusal := self._refusal(caller):
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, refusal)

        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return make(
            many if handler.response_streaming else one,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _requests(self, request: Any, caller: Caller, handler: Any) -> Any:
        return self._while_valid(request, caller) if handler.request_streaming else request

    async def _while_valid(self, requests: AsyncIterator[Any], caller: Caller) -> AsyncIterator[Any]:
        async for request in requests:
            if self._refusal(caller):
                return
            yield request

    def _refusal(self, caller: Caller) -> str:
        return self._roster.refusal(caller.serial) if self._roster is not None else ""

    def _serial(self, pem: bytes) -> str:
        serial = self._serials.get(pem)
        if serial is None:
            if len(self._serials) >= MAX_PARSED:
                self._serials.clear()
            serial = f"{x509.load_pem_x509_certificate(pem).serial_number:x}"
            self._serials[pem] = serial
        return serial
