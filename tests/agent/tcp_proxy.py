"""A TCP proxy that can go silent without closing, as a cut cable or a sleeping access point does."""

from __future__ import annotations

import asyncio
import contextlib
import threading


class TcpProxy:
    """Forwards bytes between an agent and its coordinator until told to freeze."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._frozen = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.port = 0
        ready = threading.Event()

        async def serve() -> None:
            server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await self._stop.wait()
            server.close()

        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(serve()), daemon=True)
        self._thread.start()
        assert ready.wait(5.0)

    def freeze(self) -> None:
        """Swallow everything from now on; connections stay open."""
        self._frozen.set()

    def thaw(self) -> None:
        """Forward again, on new connections; bytes swallowed meanwhile are lost, so old ones are cut."""
        self._loop.call_soon_threadsafe(lambda: [writer.transport.abort() for writer in self._writers])
        self._frozen.clear()

    def close(self) -> None:
        """Stop listening."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5.0)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pipe(reader, far_writer), self._pipe(far_reader, writer))
        self._writers -= {writer, far_writer}

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not self._frozen.is_set():
                    writer.write(data)
            writer.close()
