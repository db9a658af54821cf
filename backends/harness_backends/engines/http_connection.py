"""HTTP/1.1 connections that hand on body bytes from the event loop's own callback, stamped as they arrive.

h11 speaks the protocol. A general client wakes a task for every chunk through several layers: 150 to 500 us of
CPU a chunk were measured with httpx, beside an engine on the same CPU whose energy is being measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import h11
import httpx

CONNECT_TIMEOUT_S = 10.0
IDLE_CONNECTION_S = 2.0
"""llama.cpp and uvicorn close a connection idle for 5 s; ours must be gone before that."""
MOST_HEAD_BYTES = 65_536

OnBody = Callable[[bytes, int], None]
Headers = Sequence[tuple[str, str]]


class ConnectionBrokenError(Exception):
    """The connection ended before the response did."""

    def __init__(self, message: str, *, began: bool) -> None:
        super().__init__(message)
        self.began = began
        """Whether the response's head had arrived."""


class HttpConnection(asyncio.Protocol):
    """One connection; one exchange at a time."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._on_body: OnBody | None = None
        self._response: h11.Response | None = None
        self._error_body: list[bytes] = []
        self.idle_since_s = 0.0
        self.exchanges = 0

    async def post(self, target: str, headers: Headers, content: bytes, on_body: OnBody) -> tuple[int, bytes]:
        """Send a POST and hand on its 200 response's body until it is whole.

        Args:
            target: path and query.
            headers: all headers but Content-Length.
            content: the request's body.
            on_body: called from the event loop with each piece and its time of arrival (CLOCK_MONOTONIC, ns);
                what it raises ends the exchange and is raised here.

        Returns:
            The status, and for statuses other than 200 the body.

        Raises:
            ConnectionBrokenError: the connection ended early, or what came is not HTTP.
        """
        transport = self._transport
        if transport is None:
            raise ConnectionBrokenError("the connection is closed", began=False)
        self.exchanges += 1
        self._on_body, self._response, self._error_body = on_body, None, []
        self._done = asyncio.get_running_loop().create_future()
        request = h11.Request(
            method="POST", target=target, headers=[*headers, ("Content-Length", str(len(content)))]
        )
        head = self._http.send(request) or b""
        body = self._http.send(h11.Data(data=content)) or b""
        self._http.send(h11.EndOfMessage())
        transport.write(head + body)
        try:
            await self._done
        except BaseException:
            # Also on cancellation: closing tells the engine to stop generating.
            self.close()
            raise
        response: h11.Response | None = self._response
        status = 0 if response is None else response.status_code
        return status, b"".join(self._error_body)

    def header(self, name: str) -> str:
        """Return a header of the last response, empty where it has none."""
        wanted = name.lower().encode()
        found = [value for key, value in (self._response.headers if self._response else ()) if key == wanted]
        return found[0].decode("latin-1") if found else ""

    def reusable(self) -> bool:
        """Make ready for the next exchange; False when the connection must not be used again."""
        if self._transport is None or self._transport.is_closing() or self._http.our_state is not h11.DONE:
            return False
        try:
            self._http.start_next_cycle()
        except h11.ProtocolError:
            return False
        self.idle_since_s = time.monotonic()
        return True

    @property
    def usable(self) -> bool:
        """Whether an idle connection is still open, as far as this side knows."""
        return (
            self._transport is not None
            and not self._transport.is_closing()
            and time.monotonic() - self.idle_since_s < IDLE_CONNECTION_S
        )

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Stamp what arrived and hand it on."""
        t_ns = time.monotonic_ns()
        if self._done is None or self._done.done():
            self.close()  # bytes nobody asked for
            return
        try:
            self._http.receive_data(data)
            self._take_events(t_ns)
        except h11.RemoteProtocolError as error:
            self._fail(ConnectionBrokenError(f"not HTTP: {error}", began=self._response is not None))
        except Exception as error:  # noqa: BLE001 - raised by `on_body`, belongs to whoever awaits
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits; the end of the stream may also be the end of a body without length."""
        self._transport = None
        if self._done is None or self._done.done():
            return
        try:
            self._http.receive_data(b"")
            self._take_events(time.monotonic_ns())
        except Exception:  # noqa: BLE001, S110 - the loss itself is what is told
            pass
        if not self._done.done():
            why = f": {exc}" if exc else " without finishing its response"
            self._fail(ConnectionBrokenError(f"the server closed it{why}", began=self._response is not None))

    def _take_events(self, t_ns: int) -> None:
        assert self._done is not None  # noqa: S101
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Response):
                self._response = event
            elif isinstance(event, h11.Data):
                if self._response is not None and self._response.status_code == 200 and self._on_body:
                    self._on_body(bytes(event.data), t_ns)
                else:
                    self._error_body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._done.set_result(None)
                return
            elif isinstance(event, h11.ConnectionClosed):
                return

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


class ConnectionPool:
    """Connections to one server, opened as needed and used again while they are fresh."""

    def __init__(self, url: str, *, keep_alive: bool = True) -> None:
        parts = urlsplit(url)
        if parts.hostname is None:
            raise ValueError(f"{url} is no URL of a server")
        self.host = parts.hostname
        self._tls = httpx.create_ssl_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self.authority = parts.netloc.rpartition("@")[2]
        self.target = parts.path + (f"?{parts.query}" if parts.query else "")
        self._keep_alive = keep_alive
        self._idle: list[HttpConnection] = []
        self._closed = False

    async def take(self) -> HttpConnection:
        """Return an idle connection, or open one.

        Raises:
            OSError: the server cannot be reached in time.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        return await self.open()

    async def open(self) -> HttpConnection:
        """Open a connection; errors as for `take`."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await asyncio.get_running_loop().create_connection(
                    HttpConnection, self.host, self._port, ssl=self._tls
                )
        except TimeoutError:
            raise OSError(f"no connection within {CONNECT_TIMEOUT_S:g} s") from None
        return connection

    def give_back(self, connection: HttpConnection) -> None:
        """Keep a connection whose exchange is over, or close it."""
        if self._keep_alive and not self._closed and connection.reusable():
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close what is idle, and what comes back later."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()
