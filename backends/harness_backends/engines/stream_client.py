"""One client for every engine: sends a query, stamps every chunk on CLOCK_MONOTONIC, returns a typed result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from harness_backends.engines.http_connection import ConnectionBrokenError, ConnectionPool, HttpConnection
from harness_backends.engines.sse import SseParser
from harness_backends.engines.stream_result import FailureKind, StreamFailure, StreamResult

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
_MESSAGE_LIMIT = 500

Message = Mapping[str, Any]


class StreamClient:
    """Keeps connections to one engine and streams answers over them, any number at a time."""

    def __init__(
        self,
        base_url: str,
        body: Mapping[str, object],
        headers: Mapping[str, str] | None = None,
        *,
        keep_alive: bool = True,
    ) -> None:
        """Prepare; connections are made when they are needed.

        Args:
            base_url: what `/chat/completions` is appended to.
            body: every field of a request but `messages`.
            headers: sent with every request.
            keep_alive: use connections for more than one query.
        """
        self._pool = ConnectionPool(f"{base_url.rstrip('/')}/chat/completions", keep_alive=keep_alive)
        self._headers = [
            ("Host", self._pool.authority),
            ("Content-Type", "application/json"),
            ("Accept", "text/event-stream"),
            *(headers or {}).items(),
        ]
        self._body = {**body, "stream": True}
        # Serialised once: mostly only the messages differ between queries.
        self._body_head = _head(self._body)
        self._limit_field = next((name for name in _LIMIT_FIELDS if name in body), _LIMIT_FIELDS[0])
        self._output_limit = body.get(self._limit_field)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    async def ask(
        self,
        messages: Sequence[Message],
        timeout_s: float,
        retries: int = 0,
        *,
        output_limit: int | None = None,
        exact: bool = False,
    ) -> StreamResult:
        """Send a query, and again with growing pauses while the endpoint is busy or broken.

        Args:
            messages: the conversation, each {"role": ..., "content": ...}.
            timeout_s: longest time for one attempt, from its start to its last chunk.
            retries: how many more times to ask after a 429, a 5xx or a failed connection.
            output_limit: this query's own limit of output tokens, where it is below everybody's.
            exact: let the engine go on to that limit even where the answer has ended (llama.cpp and vLLM can).

        Returns:
            The last attempt; its times say nothing of the earlier ones.
        """
        pause_s = FIRST_PAUSE_S
        for remaining in range(retries, -1, -1):
            result = await self.stream(messages, timeout_s, output_limit=output_limit, exact=exact)
            failure = result.failure
            if failure is None or not remaining or failure.kind not in _ASK_AGAIN:
                return result
            wait_s = pause_s * random.uniform(0.5, 1.0)  # noqa: S311
            await asyncio.sleep(min(max(wait_s, failure.retry_after_s or 0.0), LONGEST_PAUSE_S))
            pause_s *= 2
        raise AssertionError("unreachable: the last attempt returns")

    async def stream(
        self,
        messages: Sequence[Message],
        timeout_s: float,
        *,
        output_limit: int | None = None,
        exact: bool = False,
    ) -> StreamResult:
        """Send a query once and read its answer to the end; never raises but on cancellation.

        Args:
            messages: the conversation.
            timeout_s: longest time from start to last chunk.
            output_limit: see `ask`.
            exact: see `ask`.
        """
        limit = self._output_limit if isinstance(self._output_limit, int) else None
        head = self._body_head
        if output_limit is not None:
            limit = output_limit if limit is None else min(limit, output_limit)
            # min_tokens is vLLM's, ignore_eos both engines'.
            more = {"ignore_eos": True, "min_tokens": limit} if exact else {}
            head = _head({**self._body, self._limit_field: limit, **more})
        content = head + json.dumps(list(messages)).encode() + b"}"
        answer = _Answer(limit)
        failure: StreamFailure | None = None
        answer.start_ns = time.monotonic_ns()
        try:
            async with asyncio.timeout(timeout_s):
                await self._exchange(content, answer)
        except TimeoutError:
            failure = StreamFailure(
                FailureKind.TIMEOUT, f"no complete answer within {timeout_s:g} s ({answer.progress()})"
            )
        except _Failed as failed:
            failure = failed.failure
        except ConnectionBrokenError as broken:
            kind = FailureKind.CUT if broken.began else FailureKind.CONNECT
            failure = StreamFailure(kind, f"the connection broke ({answer.progress()}): {broken}")
        except OSError as error:
            failure = StreamFailure(FailureKind.CONNECT, f"{self._pool.host} cannot be reached: {error}")
        # A whole answer ends with its last bytes, not with the bookkeeping after them.
        return answer.result(answer.last_ns if failure is None else time.monotonic_ns(), failure)

    async def _exchange(self, content: bytes, answer: _Answer) -> None:
        parser = SseParser()

        def take(received: bytes, t_ns: int) -> None:
            answer.last_ns = t_ns
            for data in parser.feed(received):
                answer.take(data, t_ns)

        connection = await self._pool.take()
        try:
            status, error_body = await connection.post(self._pool.target, self._headers, content, take)
        except ConnectionBrokenError as broken:
            if broken.began or connection.exchanges == 1:
                raise
            # The server closed an idle connection just as it was used again; on a new one the query stands.
            answer.start_ns = time.monotonic_ns()
            connection = await self._pool.open()
            status, error_body = await connection.post(self._pool.target, self._headers, content, take)
        if status != 200:
            failure = _http_failure(status, connection, error_body)
            self._pool.give_back(connection)
            raise _Failed(failure)
        self._pool.give_back(connection)
        if not answer.finish_reason and not answer.done:
            raise _Failed(StreamFailure(FailureKind.CUT, f"the stream ended early ({answer.progress()})"))


_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")


def _head(body: Mapping[str, object]) -> bytes:
    return json.dumps(body)[:-1].encode() + b', "messages": '


_ASK_AGAIN = frozenset({FailureKind.RATE_LIMITED, FailureKind.SERVER, FailureKind.CONNECT})


class _Failed(Exception):  # noqa: N818 - carries a failure from the stream to the result
    def __init__(self, failure: StreamFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Answer:
    """An answer while it grows."""

    def __init__(self, output_limit: int | None) -> None:
        self._output_limit = output_limit
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}
        self.start_ns = 0
        self.last_ns = 0
        self.chunk_ns: list[int] = []
        self.finish_reason = ""
        self.done = False

    def progress(self) -> str:
        return f"{len(self.chunk_ns)} chunks had arrived"

    def take(self, data: bytes, t_ns: int) -> None:
        if data.startswith(b"[DONE]"):
            self.done = True
            return
        try:
            event = json.loads(data)
            if error := event.get("error"):
                raise _Failed(
                    StreamFailure(FailureKind.SERVER, f"the engine broke off: {_error_text(error)}")
                )
            for choice in event.get("choices") or ():
                self._take_choice(choice, t_ns)
            # Some engines send a running count with every chunk: the last one is the count.
            self._usage = event.get("usage") or self._usage
            self._timings = event.get("timings") or self._timings
        except (ValueError, AttributeError, TypeError) as error:
            shown = data[:120].decode("utf-8", "replace")
            raise _Failed(
                StreamFailure(
                    FailureKind.MALFORMED, f"the stream held no completion chunk: {shown!r} ({error})"
                )
            ) from None

    def _take_choice(self, choice: dict[str, Any], t_ns: int) -> None:
        delta = choice.get("delta") or {}
        text = delta.get("content")
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if text:
            self._text.append(text)
        if reasoning:
            self._reasoning.append(reasoning)
        if text or reasoning or delta.get("tool_calls"):
            self.chunk_ns.append(t_ns)
        if reason := choice.get("finish_reason"):
            self.finish_reason = reason

    def result(self, end_ns: int, failure: StreamFailure | None) -> StreamResult:
        output_tokens, warnings = self._output_tokens()
        details = self._usage.get("prompt_tokens_details") or {}
        return StreamResult(
            start_ns=self.start_ns,
            end_ns=end_ns,
            first_token_ns=self.chunk_ns[0] if self.chunk_ns else None,
            chunk_ns=self.chunk_ns,
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            finish_reason=self.finish_reason,
            prompt_tokens=_count(self._usage.get("prompt_tokens")),
            output_tokens=output_tokens,
            cached_tokens=_count(details.get("cached_tokens")),
            engine_prefill_s=_seconds(self._timings.get("prompt_ms")),
            engine_decode_s=_seconds(self._timings.get("predicted_ms")),
            failure=failure,
            warnings=warnings,
        )

    def _output_tokens(self) -> tuple[int | None, tuple[str, ...]]:
        given = self._usage.get("completion_tokens")
        count = _count(given)
        if given is None or (count is None and not self._usage):
            return None, ()
        if count is None or (count == 0 and self.chunk_ns):
            return None, (f"the usage record says {given!r} output tokens after {len(self.chunk_ns)} chunks",)
        if self._output_limit is not None and count > self._output_limit:
            return None, (f"the usage record says {count} output tokens, more than max_tokens allows",)
        return count, ()


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _seconds(milliseconds: object) -> float | None:
    return milliseconds / 1000.0 if isinstance(milliseconds, int | float) else None


def _http_failure(status: int, connection: HttpConnection, body: bytes) -> StreamFailure:
    message = body[:_MESSAGE_LIMIT].decode("utf-8", "replace").strip()
    with contextlib.suppress(ValueError, AttributeError):
        message = _error_text(json.loads(body).get("error")) or message
    if status == 429:
        kind = FailureKind.RATE_LIMITED
    else:
        kind = FailureKind.SERVER if status >= 500 or status == 408 else FailureKind.REFUSED
    retry_after_s: float | None = None
    with contextlib.suppress(ValueError):
        retry_after_s = float(connection.header("retry-after") or "none")
    return StreamFailure(kind, f"HTTP {status}: {message}", retry_after_s)


def _error_text(error: object) -> str:
    text = error.get("message", error) if isinstance(error, dict) else error
    return str(text)[:_MESSAGE_LIMIT] if text else ""
