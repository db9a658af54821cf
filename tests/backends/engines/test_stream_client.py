from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine

import pytest
from harness_backends.engines.adapter import Sampling
from harness_backends.engines.messages import BadQueryError, to_messages
from harness_backends.engines.stream_client import StreamClient
from harness_backends.engines.stream_result import FailureKind, StreamResult

from tests.backends.engines.conftest import Running, StartEngine

QUESTION = to_messages("how many words are here", "")


def ask(
    start_engine: StartEngine,
    engine_args: dict[str, object],
    timeout_s: float = 10.0,
    retries: int = 0,
    sampling: Sampling | None = None,
) -> StreamResult:
    async def run() -> StreamResult:
        async with start_engine(engine_args=engine_args, sampling=sampling) as engine:
            return await engine.client.ask(QUESTION, timeout_s, retries)

    return asyncio.run(run())


def with_engine(
    start_engine: StartEngine,
    engine_args: dict[str, object],
    body: Callable[[Running], Coroutine[None, None, None]],
) -> None:
    async def run() -> None:
        async with start_engine(engine_args=engine_args) as engine:
            await body(engine)

    asyncio.run(run())


def test_every_event_of_an_answer_is_stamped_in_order(start_engine: StartEngine) -> None:
    before_ns = time.monotonic_ns()
    result = ask(start_engine, {"tokens": 5, "first_token_s": 0.05, "token_s": 0.01})
    assert result.failure is None
    assert result.text == "word1 word2 word3 word4 word5"
    assert (result.prompt_tokens, result.output_tokens) == (5, 5)
    assert result.finish_reason == "stop"
    assert result.first_token_ns == result.chunk_ns[0]
    assert before_ns < result.start_ns < result.chunk_ns[0]
    assert result.chunk_ns == sorted(result.chunk_ns)
    assert len(result.chunk_ns) == 5
    assert result.chunk_ns[-1] <= result.end_ns <= time.monotonic_ns()
    assert result.chunk_ns[0] - result.start_ns >= 50_000_000
    assert result.end_ns - result.chunk_ns[0] >= 4 * 10_000_000


def test_reasoning_is_kept_apart_and_counts_as_first_token(start_engine: StartEngine) -> None:
    result = ask(start_engine, {"tokens": 2, "reasoning_tokens": 3})
    assert result.reasoning == "thought1 thought2 thought3"
    assert result.text == "word1 word2"
    assert len(result.chunk_ns) == 5
    assert result.output_tokens == 5


def test_the_output_limit_ends_an_answer_as_length(start_engine: StartEngine) -> None:
    result = ask(start_engine, {"tokens": 50}, sampling=Sampling(max_output_tokens=4))
    assert result.finish_reason == "length"
    assert result.output_tokens == 4


def test_tokens_are_never_counted_from_chunks(start_engine: StartEngine) -> None:
    result = ask(start_engine, {"fault": "no-usage"})
    assert result.failure is None
    assert len(result.chunk_ns) == 8
    assert result.prompt_tokens is None
    assert result.output_tokens is None


def test_a_usage_record_that_cannot_be_true_is_refused_and_told(start_engine: StartEngine) -> None:
    result = ask(start_engine, {"fault": "wrong-usage"})
    assert result.failure is None
    assert result.output_tokens is None
    assert result.warnings == ("the usage record says 0 output tokens after 8 chunks",)


@pytest.mark.parametrize(
    ("fault", "kind", "told", "chunks"),
    [
        ("429", FailureKind.RATE_LIMITED, "HTTP 429: stand-in fault 429", 0),
        ("500", FailureKind.SERVER, "HTTP 500", 0),
        ("cut", FailureKind.CUT, "4 chunks had arrived", 4),
        ("error-event", FailureKind.SERVER, "the engine broke off: stand-in fault in the stream", 4),
        ("crash", FailureKind.CUT, "4 chunks had arrived", 4),
    ],
)
def test_a_failed_answer_keeps_its_times_and_says_why(
    start_engine: StartEngine, fault: str, kind: FailureKind, told: str, chunks: int
) -> None:
    result = ask(start_engine, {"fault": fault})
    assert result.failure is not None
    assert result.failure.kind is kind
    assert result.failure.retryable
    assert told in result.failure.message
    assert len(result.chunk_ns) == chunks
    assert (result.first_token_ns is None) == (chunks == 0)
    assert result.end_ns > result.start_ns


def test_a_stalled_answer_ends_at_the_timeout(start_engine: StartEngine) -> None:
    result = ask(start_engine, {"fault": "stall"}, timeout_s=0.5)
    assert result.failure is not None
    assert result.failure.kind is FailureKind.TIMEOUT
    assert 0.5e9 <= result.end_ns - result.start_ns < 3e9
    assert "within 0.5 s (4 chunks had arrived)" in result.failure.message


def test_a_busy_endpoint_is_asked_again_and_the_times_are_of_the_last_attempt(
    start_engine: StartEngine,
) -> None:
    async def body(engine: Running) -> None:
        first = await engine.client.stream(QUESTION, 10.0)
        began_ns = time.monotonic_ns()
        second = await engine.client.ask(QUESTION, 10.0, retries=2)
        assert first.failure is None
        assert second.failure is None
        assert second.start_ns - began_ns >= 0.4e9, "the pause that the server asked for"
        assert second.first_token_ns is not None
        assert second.first_token_ns - second.start_ns < 0.3e9

    with_engine(start_engine, {"fault": "429", "fault_every": 2, "fault_s": 0.4}, body)


def test_without_the_key_nobody_is_answered(start_engine: StartEngine) -> None:
    async def body(engine: Running) -> None:
        plan = engine.process.plan
        async with StreamClient(plan.base_url, plan.body) as stranger:
            result = await stranger.stream(QUESTION, 5.0)
        assert result.failure is not None
        assert result.failure.kind is FailureKind.REFUSED
        assert not result.failure.retryable

    with_engine(start_engine, {}, body)


def test_nobody_listening_is_a_result_and_no_exception() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))

        async def run() -> StreamResult:
            async with StreamClient(f"http://127.0.0.1:{held.getsockname()[1]}/v1", {}) as client:
                return await client.stream(QUESTION, 5.0)

        result = asyncio.run(run())
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CONNECT


def test_64_answers_at_a_time_do_not_disturb_one_another(start_engine: StartEngine) -> None:
    async def body(engine: Running) -> None:
        results = await asyncio.gather(*(engine.client.stream(QUESTION, 20.0) for _ in range(64)))
        assert all(result.failure is None for result in results)
        assert {result.text for result in results} == {" ".join(f"word{n}" for n in range(1, 9))}
        overlapping = sum(result.start_ns < results[0].end_ns for result in results)
        assert overlapping > 32

    with_engine(start_engine, {"first_token_s": 0.3}, body)


def test_messages_go_as_they_are_and_text_becomes_one() -> None:
    assert to_messages("hi", "") == [{"role": "user", "content": "hi"}]
    assert to_messages("hi", '[{"role": "system", "content": "x"}]') == [{"role": "system", "content": "x"}]
    for text, messages_json in [("", ""), ("a", "{"), ("a", "[]"), ("a", '[{"role": "user"}]')]:
        with pytest.raises(BadQueryError):
            to_messages(text, messages_json)


def test_a_connection_that_the_server_closed_while_idle_costs_no_query() -> None:
    """llama.cpp's server closes connections without a word: the next query must not fail for it."""
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s"
    )  # fmt: skip
    event = b'data: {"choices": [{"delta": {"content": "ok"}, "finish_reason": "stop"}]}\n\n'
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(0)
        await reader.readuntil(b'"messages"')
        writer.write(answer % (len(event), event))
        await reader.readuntil(b'"messages"')  # the connection is used again: close instead of answering
        writer.transport.abort()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server, StreamClient(url, {}) as client:
            for _ in range(2):
                result = await client.stream(QUESTION, 5.0)
                assert result.failure is None
                assert result.text == "ok"
        assert len(connections) == 2

    asyncio.run(run())
