"""Added latency: time to first token and total time seen by the harness's client against a bare socket client.

The same engine process (the stand-in, whose pace is exact) is asked in turn by both clients, one query at a time and
interleaved, so that noise of the machine meets both alike. The bare client writes the request and reads lines from a
plain blocking socket: nothing can be added by it.

    python -m benchmarks.query_latency [--queries N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import tempfile
import time
from pathlib import Path

import numpy as np
from harness_backends.engines.adapter import EngineRequest, Sampling
from harness_backends.engines.process import EngineProcess, free_port
from harness_backends.engines.registry import load_engine
from harness_backends.engines.stream_client import StreamClient

from benchmarks.interval import median_with_interval
from benchmarks.machine import machine, markdown_table

FIRST_CONTENT = re.compile(rb'"content": ?"[^"]')
MESSAGES = [{"role": "user", "content": "Say eight words."}]


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", type=int, default=200)
    rows = asyncio.run(measure(parser.parse_args().queries))
    print(f"On {machine()}:\n")
    heading = ("what", "bare socket, median ms", "harness, median ms", "added to a pair, median ms [95 %]")
    print(markdown_table(heading, rows))


async def measure(queries: int) -> list[list[str]]:
    """Ask both ways in turn; return a row for the first token and one for the whole answer."""
    port = free_port()
    request = EngineRequest(
        model_id="stand-in",
        source="",
        engine_args={"tokens": 8, "first_token_s": 0.02, "token_s": 0.005},
        sampling=Sampling(),
        concurrency=1,
        port=port,
    )
    plan = load_engine("stub").prepare(request)
    with tempfile.TemporaryDirectory() as folder:
        engine = await EngineProcess.start(plan, Path(folder))
        try:
            await engine.wait_ready(30.0)
            bare: list[tuple[float, float]] = []
            ours: list[tuple[float, float]] = []
            async with StreamClient(
                plan.base_url, plan.body, plan.headers, keep_alive=plan.keep_alive
            ) as client:
                for _ in range(queries):
                    bare.append(await asyncio.to_thread(ask_bare, port, plan.body))
                    result = await client.stream(MESSAGES, 30.0)
                    assert result.failure is None
                    assert result.first_token_ns is not None
                    first_ms = (result.first_token_ns - result.start_ns) / 1e6
                    ours.append((first_ms, (result.end_ns - result.start_ns) / 1e6))
        finally:
            await engine.stop()
    before, after = np.array(bare), np.array(ours)
    return [
        [
            what, f"{np.median(before[:, i]):.2f}", f"{np.median(after[:, i]):.2f}",
            median_with_interval(after[:, i] - before[:, i], "{:+.2f}"),
        ]
        for i, what in enumerate(("time to first token", "whole answer of 8 tokens"))
    ]  # fmt: skip


def ask_bare(port: int, body: object) -> tuple[float, float]:
    """Ask over a plain blocking socket; return milliseconds to the first content and to the last byte."""
    content = json.dumps({**dict(body), "messages": MESSAGES, "stream": True}).encode()  # type: ignore[call-overload]
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    first_ns = 0
    started_ns = time.monotonic_ns()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + content)
        received = b""
        while data := connection.recv(65536):
            now_ns = time.monotonic_ns()
            received += data
            if not first_ns and FIRST_CONTENT.search(received):
                first_ns = now_ns
            if b"[DONE]" in received:
                return (first_ns - started_ns) / 1e6, (now_ns - started_ns) / 1e6
    raise RuntimeError(f"the answer was cut: {received[-200:]!r}")


if __name__ == "__main__":
    main()
