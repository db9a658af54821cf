"""Coordinator: samples a second through gRPC into SQLite, tasks leased and completed a second.

A real coordinator process on a SQLite file; a simulated agent in this process speaks the real protocol and answers
every leased task at once: the figure is the coordinator's, not an engine's. Samples stand beside the bare store:
the same rows written by one process straight into SQLite, sixteen batches a transaction.

    python -m benchmarks.coordinator [--tasks N] [--samples N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import psutil
from harness_coordinator.sample_columns import columns_of
from harness_proto.v1 import fleet_pb2, fleet_pb2_grpc, jobs_pb2, jobs_pb2_grpc, telemetry_pb2, work_pb2
from harness_store import segments
from harness_store.database import open_store

from benchmarks.machine import machine, markdown_table

SAMPLES_A_BATCH = 1000
SOURCES = 8
IN_FLIGHT = 64
BLOCKS_A_COMMIT = 16


def main() -> None:
    """Run both measurements and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--samples", type=int, default=2_000_000)
    chosen = parser.parse_args()
    rows = asyncio.run(measure(chosen.tasks, chosen.samples))
    print(f"On {machine()}:\n")
    print(
        markdown_table(("what", "a second", "coordinator CPU", "bare store in the same run", "ratio"), rows)
    )


async def measure(tasks: int, samples: int) -> list[list[str]]:
    """Start a coordinator, measure, stop it."""
    with tempfile.TemporaryDirectory() as folder:
        process, address = start_coordinator(Path(folder))
        try:
            watched = psutil.Process(process.pid)
            rows = [await measure_samples(address, samples, watched, Path(folder))]
            rows.append(await measure_tasks(address, tasks, watched))
        finally:
            process.terminate()
            process.wait(20)
    return rows


def start_coordinator(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a coordinator process on a free port and a fresh SQLite file."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "harness_cli.main", "coordinator", "run", "--listen", "127.0.0.1:0"),
            *("--state-dir", str(folder / "state"), "--db", f"sqlite:///{folder / 'bench.db'}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, line.partition("listening on ")[2].partition(",")[0]


async def measure_samples(address: str, samples: int, watched: psutil.Process, folder: Path) -> list[str]:
    """Push sample batches with a bounded number unacknowledged; time until the last acknowledgement."""
    per_source = max(1, samples // SAMPLES_A_BATCH // SOURCES)
    batches = [sample_batch(s, seq) for seq in range(1, per_source + 1) for s in range(SOURCES)]
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def send() -> AsyncIterator[telemetry_pb2.SampleBatch]:
        for batch in batches:
            await slots.acquire()
            yield batch

    async with grpc.aio.insecure_channel(address) as channel:
        stub = fleet_pb2_grpc.FleetStub(channel)
        cpu_s, started = cpu_seconds(watched), time.perf_counter()
        acknowledged = 0
        async for _ in stub.PushSamples(send()):
            slots.release()
            acknowledged += 1
            if acknowledged == len(batches):
                break
        took_s = time.perf_counter() - started
        cpu_s = cpu_seconds(watched) - cpu_s
    rate = len(batches) * SAMPLES_A_BATCH / took_s
    bare = bare_samples(batches, folder)
    return [
        f"samples stored and acknowledged ({SAMPLES_A_BATCH} a batch, {SOURCES} sources)",
        f"{rate:,.0f}",
        f"{cpu_s / took_s:.0%} of a core",
        f"{bare:,.0f}",
        f"{rate / bare:.2f}",
    ]


def bare_samples(batches: list[telemetry_pb2.SampleBatch], folder: Path) -> float:
    """Samples a second when one process appends the same blocks to the store itself."""
    store = open_store(f"sqlite:///{folder / 'bare.db'}")
    blocks = [
        segments.NewBlock(
            agent_id=b.agent_id,
            boot_id=b.boot_id,
            source_id=b.source_id,
            clock_id=b.clock_id,
            seq=b.seq,
            columns=columns_of(b),
        )
        for b in batches
    ]
    started = time.perf_counter()
    for at in range(0, len(blocks), BLOCKS_A_COMMIT):
        with store.begin() as connection:
            segments.append_blocks(connection, blocks[at : at + BLOCKS_A_COMMIT])
    took_s = time.perf_counter() - started
    store.close()
    return len(blocks) * SAMPLES_A_BATCH / took_s


def sample_batch(source: int, seq: int) -> telemetry_pb2.SampleBatch:
    """Return a second of 1 kHz polls: a counter that ticks and a power that moves."""
    start = seq * SAMPLES_A_BATCH
    t = np.arange(start, start + SAMPLES_A_BATCH)
    return telemetry_pb2.SampleBatch(
        agent_id="bench",
        boot_id="boot",
        clock_id="clock",
        source_id=f"gpu{source}",
        seq=seq,
        t_ns=t * 1_000_000,
        half_width_ns=np.full(SAMPLES_A_BATCH, 20_000),
        energy_j=np.floor(t / 100) * 30.0,
        power_w=300 + 20 * np.sin(t / 500),
    )


async def measure_tasks(address: str, tasks: int, watched: psutil.Process) -> list[str]:
    """Submit a job and complete its tasks as fast as the coordinator leases them."""
    agent = SimulatedAgent(tasks)
    async with grpc.aio.insecure_channel(address) as channel:
        session = asyncio.create_task(agent.serve(fleet_pb2_grpc.FleetStub(channel)))
        await agent.welcomed.wait()
        cpu_s, started = cpu_seconds(watched), time.perf_counter()
        await jobs_pb2_grpc.JobsStub(channel).Submit(submission(tasks))
        submitted_s = time.perf_counter() - started
        await agent.finished.wait()
        took_s = time.perf_counter() - started - submitted_s
        cpu_s = cpu_seconds(watched) - cpu_s
        session.cancel()
        await asyncio.gather(session, return_exceptions=True)
    return [
        f"tasks leased and completed ({tasks} in one run)",
        f"{tasks / took_s:,.0f}",
        f"{cpu_s / took_s:.0%} of a core",
        "-",
        "-",
    ]


async def submission(tasks: int) -> AsyncIterator[jobs_pb2.SubmitRequest]:
    """Yield a job of `tasks` queries on the stand-in engine."""
    job = {
        "name": "bench",
        "dataset": {"path": "bench.jsonl"},
        "models": [{"id": "m", "engine": "stub", "device": "cpu"}],
        "concurrency": 256,
        "energy": "off",
    }
    yield jobs_pb2.SubmitRequest(submission_id=uuid.uuid4().hex, job_json=json.dumps(job))
    for at in range(0, tasks, 500):
        rows = [
            jobs_pb2.DatasetRow(query_id=f"q{i}", text="Say something.")
            for i in range(at, min(at + 500, tasks))
        ]
        yield jobs_pb2.SubmitRequest(rows=rows)


class SimulatedAgent:
    """Speaks the agent's side and answers every task the moment it is leased."""

    def __init__(self, tasks: int, name: str = "bench", concurrent_left: list[int] | None = None) -> None:
        """Prepare for `tasks` tasks, or for a share of those that `concurrent_left` counts down for several agents."""
        self._name = name
        self._shared = [tasks] if concurrent_left is None else concurrent_left
        self._seq = 0
        self._acknowledged = 0
        self._out: asyncio.Queue[fleet_pb2.AgentMessage] = asyncio.Queue()
        self.welcomed = asyncio.Event()
        self.finished = asyncio.Event()

    async def serve(self, stub: fleet_pb2_grpc.FleetStub) -> None:
        """Hold the session until cancelled; `finished` is set when the last result is acknowledged."""
        engine = fleet_pb2.EngineInfo(name="stub", available=True)
        host = telemetry_pb2.HostInfo(hostname="bench", cpu_brand="bench")
        hello = fleet_pb2.Hello(
            agent_id=self._name,
            name=self._name,
            boot_id="boot",
            clock_id="clock",
            engines=[engine],
            host=host,
        )
        self._send(hello=hello)
        self._send(work_request=fleet_pb2.WorkRequest(tasks=512))
        async for message in stub.Session(self._messages()):
            kind = message.WhichOneof("body")
            if kind == "welcome":
                self.welcomed.set()
            elif kind == "lease":
                self._answer(message.lease)
            elif kind == "ack":
                self._acknowledged = message.ack.seq
                if self.idle:
                    self.finished.set()

    @property
    def idle(self) -> bool:
        """Whether no task is left and everything told is acknowledged."""
        return self._shared[0] == 0 and self._acknowledged >= self._seq

    def _answer(self, lease: fleet_pb2.LeaseOffer) -> None:
        for task in lease.tasks:
            now_ns = time.monotonic_ns()
            self._keep(
                generation=work_pb2.Generation(
                    task_id=task.task_id,
                    attempt=task.attempt,
                    run_id=lease.run_id,
                    query_id=task.query.query_id,
                    start_ns=now_ns - 2_000_000,
                    first_token_ns=now_ns - 1_000_000,
                    end_ns=now_ns,
                    prompt_tokens=5,
                    output_tokens=20,
                    response="one two three",
                )
            )
            self._shared[0] -= 1
        if self._shared[0]:
            self._send(work_request=fleet_pb2.WorkRequest(run_id=lease.run_id, tasks=512))

    def _keep(self, **body: object) -> None:
        self._seq += 1
        self._send(seq=self._seq, **body)

    def _send(self, **body: object) -> None:
        self._out.put_nowait(fleet_pb2.AgentMessage(agent_id=self._name, boot_id="boot", **body))  # type: ignore[arg-type]

    async def _messages(self) -> AsyncIterator[fleet_pb2.AgentMessage]:
        while True:
            yield await self._out.get()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds a process has used."""
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
