"""The connection against a bare socket server that sends exactly what the test wants."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from harness_backends.engines.http_connection import ConnectionBrokenError, ConnectionPool
from hypothesis import given, settings
from hypothesis import strategies as st

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FIXED = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"


def exchange(pieces: list[bytes], *, close: bool = False, times: int = 1) -> tuple[int, bytes, bytes, int]:
    """Send a POST to a server that answers with these pieces; returns status, body, error body, connections."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\nhello")
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run() -> tuple[int, bytes, bytes, int]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            pool = ConnectionPool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x?y=1")
            body: list[bytes] = []
            stamps: list[int] = []
            status, error = 0, b""
            for _ in range(times):
                body.clear()
                connection = await pool.take()

                def take(data: bytes, t_ns: int) -> None:
                    body.append(data)
                    stamps.append(t_ns)

                status, error = await connection.post(pool.target, [("Host", pool.authority)], b"hello", take)
                pool.give_back(connection)
            pool.close()
            assert stamps == sorted(stamps)
            return status, b"".join(body), error, connections

    return asyncio.run(run())


@given(cuts=st.lists(st.integers(0, len(CHUNKED) + 24), max_size=6))
@settings(max_examples=25, deadline=None)
def test_a_body_is_whole_however_the_network_cuts_it(cuts: list[int]) -> None:
    data = CHUNKED + b"4;ext=1\r\nWiki\r\n5\r\npedia\r\n0\r\nTrailer: x\r\n\r\n"
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges) if a < b]
    status, body, _, _ = exchange(pieces)
    assert (status, body) == (200, b"Wikipedia")


def test_a_connection_is_used_again_after_a_whole_answer() -> None:
    status, body, _, connections = exchange([FIXED], times=3)
    assert (status, body, connections) == (200, b"0123456789", 1)


def test_a_connection_that_the_server_will_close_is_not_used_again() -> None:
    answer = FIXED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert exchange([answer], close=True, times=3)[3] == 3


def test_a_body_without_length_ends_with_the_connection() -> None:
    assert exchange([b"HTTP/1.1 200 OK\r\n\r\nall of it"], close=True)[:2] == (200, b"all of it")


def test_an_interim_answer_is_skipped() -> None:
    assert exchange([b"HTTP/1.1 103 Early Hints\r\n\r\n", FIXED])[:2] == (200, b"0123456789")


def test_an_error_status_keeps_its_body_apart() -> None:
    status, body, error, _ = exchange([b"HTTP/1.1 503 -\r\nContent-Length: 4\r\n\r\nbusy"])
    assert (status, body, error) == (503, b"", b"busy")


@pytest.mark.parametrize(
    ("pieces", "began"),
    [
        ([], False),
        ([b"SSH-2.0-OpenSSH_9.6\r\n\r\n"], False),
        ([CHUNKED, b"zz\r\nnot a length\r\n"], True),
        ([FIXED[:-3]], True),
        ([CHUNKED, b"4\r\nWi"], True),
    ],
)
def test_what_is_not_a_whole_answer_is_an_error_and_never_a_short_body(
    pieces: list[bytes], began: bool
) -> None:
    with pytest.raises(ConnectionBrokenError) as broken:
        exchange(pieces, close=True)
    assert broken.value.began is began
