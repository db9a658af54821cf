"""A stand-in for an inference engine: OpenAI's streaming HTTP with made-up answers, and faults on demand.

Run as a file: standin_server.py SETTINGS_JSON, with the entries of the adapter `stub` and a port (0 picks one
and prints it). `replies` scripts what a judge says, a list of {"when": text in the last message, "say": answer}, of
which the first that fits counts; a request without `stream` gets one JSON answer, as judges are asked. Needs nothing
but the standard library. What it answers comes from no model.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

CRASH_CODE = 70
DEFAULTS: dict[str, Any] = {
    "port": 0, "load_s": 0.0, "first_token_s": 0.01, "token_s": 0.002, "tokens": 8, "reasoning_tokens": 0,
    "reply": "", "slots": 0, "burn": False, "fault": "", "fault_every": 1, "fault_s": 1.0, "start_fault": "",
    "metrics_prefix": "stub", "replies": [],
}  # fmt: skip


class StandInServer:
    """Answers HTTP/1.1 requests on one asyncio loop."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._set = {**DEFAULTS, **settings}
        self._key = os.environ.get("HARNESS_ENGINE_KEY", "")
        self._ready_s = time.monotonic() + self._set["load_s"]
        self._slots = asyncio.Semaphore(self._set["slots"] or 1_000_000)
        self._requests = 0
        self._running = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it closes."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                request_line, *lines = head.split("\r\n")
                method, path, _ = request_line.split(" ", 2)
                headers = {
                    k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                if not await self._answer(method, path, headers, body, writer):
                    break
        writer.close()

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        if path == "/health":
            ready = time.monotonic() >= self._ready_s and self._set["start_fault"] != "never-ready"
            return await _reply(writer, 200 if ready else 503, {"status": "ok" if ready else "loading"})
        if path == "/metrics":
            return await _reply_text(writer, self._metrics())
        if self._key and headers.get("authorization") != f"Bearer {self._key}":
            return await _reply(writer, 401, {"error": {"message": "wrong or missing key"}})
        if path == "/v1/models":
            return await _reply(
                writer, 200, {"object": "list", "data": [{"id": "stand-in", "object": "model"}]}
            )
        if (method, path) != ("POST", "/v1/chat/completions"):
            return await _reply(writer, 404, {"error": {"message": f"there is no {path}"}})
        try:
            request = json.loads(body)
            messages = list(request["messages"])
        except (ValueError, KeyError, TypeError) as error:
            return await _reply(writer, 400, {"error": {"message": f"not a chat request: {error}"}})
        self._requests += 1
        fault = self._set["fault"] if self._requests % self._set["fault_every"] == 0 else ""
        if fault in ("429", "500"):
            extra = {"Retry-After": f"{self._set['fault_s']:g}"} if fault == "429" else {}
            return await _reply(writer, int(fault), {"error": {"message": f"stand-in fault {fault}"}}, extra)
        async with self._slots:
            self._running += 1
            try:
                if not request.get("stream"):
                    return await self._complete(request, messages, fault, writer)
                return await self._stream(request, messages, fault, writer)
            finally:
                self._running -= 1

    async def _complete(
        self, request: dict[str, Any], messages: list[Any], fault: str, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer in one piece, as judges are asked; `cut` and `prose` are the faults of judges."""
        await self._pass(self._set["first_token_s"] + (self._set["fault_s"] if fault == "slow" else 0.0))
        if fault == "cut":
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
            )
            await writer.drain()
            return False
        asked = str(messages[-1].get("content", ""))
        said = next((r["say"] for r in self._set["replies"] if r["when"] in asked), self._set["reply"])
        if fault == "prose":
            said = "Both of them are quite good, in their own way."
        words = len(said.split())
        prompt = sum(len(str(message.get("content", "")).split()) for message in messages)
        usage = {"prompt_tokens": prompt, "completion_tokens": words, "total_tokens": prompt + words}
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        return await _reply(writer, 200, {"object": "chat.completion", "choices": [choice], "usage": usage})

    def _metrics(self) -> str:
        prefix = self._set["metrics_prefix"]
        labels = '{engine="0",model_name="stand-in"}'
        return (
            f"# TYPE {prefix}:num_requests_running gauge\n{prefix}:num_requests_running{labels} {self._running}.0\n"
            f"# TYPE {prefix}:kv_cache_usage_perc gauge\n{prefix}:kv_cache_usage_perc{labels} {self._running / 100}\n"
        )

    async def _stream(
        self, request: dict[str, Any], messages: list[Any], fault: str, writer: asyncio.StreamWriter
    ) -> bool:
        settings = self._set
        words = settings["reply"].split() or [f"word{n + 1}" for n in range(settings["tokens"])]
        thoughts = [f"thought{n + 1}" for n in range(settings["reasoning_tokens"])]
        limit = int(request.get("max_tokens") or 1_000_000)
        pieces = [("reasoning_content", text) for text in thoughts] + [("content", text) for text in words]
        finish = "length" if len(pieces) > limit else "stop"
        pieces = pieces[:limit]
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        _event(writer, _chunk({"role": "assistant", "content": ""}))
        await writer.drain()
        await self._pass(settings["first_token_s"] + (settings["fault_s"] if fault == "slow" else 0.0))
        for index, (kind, text) in enumerate(pieces):
            if index:
                await self._pass(settings["token_s"])
            if index == (len(pieces) + 1) // 2:
                if fault == "crash":
                    sys.stderr.write("stand-in fault: out of memory, this engine ends now\n")
                    os._exit(CRASH_CODE)
                if fault == "stall":
                    await asyncio.sleep(1e6)
                if fault == "cut":
                    return False
                if fault == "error-event":
                    _event(writer, {"error": {"message": "stand-in fault in the stream", "code": 500}})
                    return await _end(writer)
            _event(writer, _chunk({kind: text if index in (0, len(thoughts)) else f" {text}"}))
            await writer.drain()
        _event(writer, _chunk({}, finish))
        if fault != "no-usage" and request.get("stream_options", {}).get("include_usage"):
            counted = 0 if fault == "wrong-usage" else len(pieces)
            prompt = sum(len(str(message.get("content", "")).split()) for message in messages)
            usage = {"prompt_tokens": prompt, "completion_tokens": counted, "total_tokens": prompt + counted}
            _event(writer, {"object": "chat.completion.chunk", "choices": [], "usage": usage})
        return await _end(writer)

    async def _pass(self, seconds: float) -> None:
        if not self._set["burn"]:
            await asyncio.sleep(seconds)
            return
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:  # noqa: ASYNC110 - it is meant to burn
            await asyncio.sleep(0)


def _chunk(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "stand-in", "object": "chat.completion.chunk", "model": "stand-in", "choices": [choice]}


def _event(writer: asyncio.StreamWriter, payload: dict[str, Any]) -> None:
    data = b"data: " + json.dumps(payload).encode() + b"\n\n"
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


async def _end(writer: asyncio.StreamWriter) -> bool:
    data = b"data: [DONE]\n\n"
    writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
    await writer.drain()
    return True


async def _reply(
    writer: asyncio.StreamWriter, status: int, payload: dict[str, Any], headers: dict[str, str] | None = None
) -> bool:
    data = json.dumps(payload).encode()
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = (
        f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{extra}\r\n"
    )
    writer.write(head.encode() + data)
    await writer.drain()
    return True


async def _reply_text(writer: asyncio.StreamWriter, text: str) -> bool:
    data = text.encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    await writer.drain()
    return True


async def serve(settings: dict[str, Any]) -> int:
    """Serve on loopback until SIGTERM."""
    if settings.get("start_fault") == "exit":
        sys.stderr.write("loading the stand-in model\nstand-in fault: the weights do not fit into memory\n")
        return 1
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    stand_in = StandInServer(settings)
    server = await asyncio.start_server(stand_in.handle, "127.0.0.1", settings.get("port", 0), backlog=1024)
    sys.stdout.write(f"stand-in engine on port {server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()
    return 0


if __name__ == "__main__":
    # Run as a file, this folder is on the module path, and it holds an `openai.py`.
    sys.path[:] = [folder for folder in sys.path if folder != str(Path(__file__).resolve().parent)]
    code = asyncio.run(serve(json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}")))
    os._exit(code)  # open streams must not hold up the end
