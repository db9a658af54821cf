"""The link to the coordinator: dials out, and again whenever it breaks, for as long as the agent lives."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

import grpc
from harness_proto.v1 import fleet_pb2, fleet_pb2_grpc

from harness_agent.backoff import Backoff
from harness_agent.clock_offset import ClockOffsetEstimator
from harness_agent.enrolment import Credentials, keep_renewed, renewal_request, tls_options
from harness_agent.errors import EnrolmentError, RefusedError, UnreachableError
from harness_agent.handler import Handler
from harness_agent.outbox import Outbox
from harness_agent.session import MAX_MESSAGE_BYTES, Session, SessionEndedError

RENEWAL_TIMEOUT_S = 30.0
RENEWAL_RETRY_S = 300.0
"""Between tries to renew a certificate; a short-lived one is tried ten times in what is left of it."""
_NOT_ALLOWED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_log = logging.getLogger(__name__)


class Link:
    """One session after another, with everything unacknowledged sent again in each."""

    def __init__(
        self,
        address: str,
        outbox: Outbox,
        hello: Callable[[], fleet_pb2.Hello],
        handler: Handler,
        *,
        exit_if_unreachable_s: float | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Prepare; `run` connects.

        Args:
            address: HOST:PORT of the coordinator, or several with commas between: coordinators of one database,
                of which the next is tried when one is lost.
            outbox: what is to be sent.
            hello: makes the first message of a session.
            handler: takes what the coordinator asks for.
            exit_if_unreachable_s: give up when no session ever began within this time.
            credentials: this agent's certificate; None: no TLS, which coordinators offer on loopback only.
        """
        self._addresses = address.split(",")
        self._address = self._addresses[0]
        self._credentials = credentials
        self._outbox = outbox
        self._hello = hello
        self._handler = handler
        self._exit_if_unreachable_s = exit_if_unreachable_s
        self._requests: dict[str, int] = {}
        self._session: Session | None = None
        self._told = ""
        self.clock = ClockOffsetEstimator()

    @property
    def connected(self) -> bool:
        """Whether a session is on."""
        return self._session is not None and self._session.welcomed

    def request_work(self, run_id: str, tasks: int) -> None:
        """Ask for tasks; repeated after each reconnection until `request_answered`.

        Args:
            run_id: the run that needs more; empty: any new run.
            tasks: how many there is room for.
        """
        self._requests[run_id] = tasks
        if self._session is not None:
            self._session.request_work(run_id, tasks)

    def request_answered(self, run_id: str) -> None:
        """Forget a request: it was answered, or nobody waits for the answer any more."""
        self._requests.pop(run_id, None)

    def is_requested(self, run_id: str) -> bool:
        """Whether a request waits for its answer."""
        return run_id in self._requests

    def requests(self) -> Mapping[str, int]:
        """Return the requests that wait for an answer."""
        return dict(self._requests)

    def wake(self) -> None:
        """Look for something to send; call it from the event loop."""
        if self._session is not None:
            self._session.wake()

    async def run(self) -> None:
        """Keep a session until cancelled.

        Raises:
            RefusedError: the coordinator does not want this agent, now or ever.
            UnreachableError: no session began within the time allowed.
        """
        renewing = asyncio.create_task(self._keep_certificate())
        try:
            await self._sessions()
        finally:
            renewing.cancel()

    async def _sessions(self) -> None:
        backoff = Backoff()
        started_s = time.monotonic()
        ever = False
        while True:
            reason = await self._one_session()
            if self._session is not None and self._session.welcomed:
                ever = True
                backoff.reset()
            self._session = None
            self._address = self._addresses[(self._addresses.index(self._address) + 1) % len(self._addresses)]
            if reason != self._told:
                _log.warning("%s; trying again until it works", reason)
                self._told = reason
            limit_s = self._exit_if_unreachable_s
            if not ever and limit_s is not None and time.monotonic() - started_s > limit_s:
                raise UnreachableError(f"{reason}; gave up after {limit_s:g} s.")
            await asyncio.sleep(backoff.next_s())

    async def goodbye(self, reason: str, timeout_s: float) -> None:
        """Send what is left, take leave, and wait until the coordinator has it or the time is over."""
        session = self._session
        if session is None or not session.welcomed:
            return
        session.hurry()
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s and self._session is session:
            if not session.has_unacknowledged():
                break
            await asyncio.sleep(0.02)
        await session.say_goodbye(reason, max(0.1, deadline_s - time.monotonic()))

    async def _one_session(self) -> str:
        """Run one session and return why it ended."""
        if self._credentials is not None and self._credentials.expired():
            raise RefusedError(
                f"This agent's certificate ended on {self._credentials.ends:%Y-%m-%d};"
                f" remove {self._credentials.folder} and start the agent with a new join token."
            )
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            # Channels share connections and their backoff otherwise: a new try must be a new try.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        async with self._channel(options) as channel:
            session = Session(channel, self._outbox, self._handler, self.clock, self.requests)
            self._session = session
            try:
                await session.run(self._hello(), self._on_welcome)
            except grpc.aio.AioRpcError as error:
                if error.code() in _NOT_ALLOWED and not session.welcomed:
                    raise RefusedError(
                        f"The coordinator at {self._address} refuses this agent: {error.details()}"
                    ) from None
                if session.welcomed:
                    return f"The coordinator at {self._address} was lost: {error.details()}"
                return f"The coordinator at {self._address} cannot be reached: {error.details()}"
            except SessionEndedError as ended:
                if ended.refused_for_good:
                    raise RefusedError(
                        f"The coordinator at {self._address} refuses this agent: {ended}"
                    ) from None
                return f"The coordinator at {self._address} ended the session: {ended}"
            except Exception as error:  # noqa: BLE001 - an agent without a link is of no use
                _log.exception("the session with the coordinator failed")
                return f"The session with {self._address} failed: {type(error).__name__}: {error}"
            return f"The coordinator at {self._address} ended the session"

    def _channel(self, options: list[tuple[str, int]]) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._address, options=options)
        return grpc.aio.secure_channel(
            self._address, self._credentials.channel_credentials(), options=[*options, *tls_options()]
        )

    async def _keep_certificate(self) -> None:
        """Renew the certificate in its last third; sessions that begin later use the new one."""
        while self._credentials is not None:
            due_s = self._credentials.renewal_due_s()
            if due_s > 0:
                await asyncio.sleep(min(due_s, 3600.0))
                continue
            try:
                async with self._channel([("grpc.use_local_subchannel_pool", 1)]) as channel:
                    stub = fleet_pb2_grpc.FleetStub(channel)
                    request = renewal_request(self._credentials)
                    reply: fleet_pb2.EnrollResponse = await stub.Enroll(  # pyright: ignore[reportGeneralTypeIssues]
                        request, timeout=RENEWAL_TIMEOUT_S
                    )
                self._credentials = keep_renewed(self._credentials, reply)
                _log.info("the certificate was renewed until %s", f"{self._credentials.ends:%Y-%m-%d %H:%M}")
            except (grpc.aio.AioRpcError, EnrolmentError) as error:
                told = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                _log.warning("the certificate could not be renewed, trying again: %s", told)
                await asyncio.sleep(min(RENEWAL_RETRY_S, max(0.2, -due_s / 10)))

    def _on_welcome(self, welcome: fleet_pb2.Welcome) -> None:
        _log.info("connected to the coordinator at %s (version %s)", self._address, welcome.version)
        self._told = ""
        self._handler.welcomed()
