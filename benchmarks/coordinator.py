"""Coordinator: samples a second through gRPC into SQLite, tasks leased and completed a second.

A real coordinator process on a SQLite file; a simulated agent in this process speaks the real protocol and answers
every leased task at once: the figure is the coordinator's, not an engine's. Samples stand beside the bare store:
the same rows written by one process straight into SQLite, as many a transaction as the coordinator takes at most.

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
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import psutil
from harness_agent.sample_ranges import join_batches
from harness_coordinator.sample_columns import columns_of
from harness_proto.v1 import fleet_pb2, fleet_pb2_grpc, jobs_pb2, jobs_pb2_grpc, telemetry_pb2, work_pb2
from harness_store import jobs, leases, runs, segments
from harness_store.database import open_store
from harness_store.datasets import QueryRow
from harness_store.generations import NewGeneration
from harness_store.rows import as_row
from harness_store.task_batch import read_batch

from benchmarks.machine import machine, markdown_table
from benchmarks.store import fleet_agent

SAMPLES_A_BATCH = 1000
SOURCES = 8
IN_FLIGHT = 64
"""Messages that wait for their acknowledgement."""
LEASE = 512
BUNDLE = 1024
"""Messages of these tasks in 256 kB, which is what an agent reads from its spool at once."""
BLOCKS_A_COMMIT = 512


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
            bare = bare_tasks(tasks, Path(folder))
            rows.append(await measure_tasks(address, tasks, watched, bare, bundles=True))
            rows.append(await measure_tasks(address, tasks // 4, watched, bare, bundles=False))
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
    payloads = [batch.SerializeToString() for batch in batches]
    # As the agent sends them: all sources of a second in one message.
    messages = [join_batches("bench", payloads[at : at + SOURCES]) for at in range(0, len(batches), SOURCES)]
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def send() -> AsyncIterator[bytes]:
        for message in messages:
            await slots.acquire()
            yield message

    async with grpc.aio.insecure_channel(address) as channel:
        push = channel.stream_stream(
            "/harness.v1.Fleet/PushSamples", response_deserializer=telemetry_pb2.SampleAck.FromString
        )
        cpu_s, started = cpu_seconds(watched), time.perf_counter()
        acknowledged = 0
        async for ack in push(send()):
            newly = min(each.seq for each in ack.acks) - acknowledged
            for _ in range(newly):
                slots.release()
            acknowledged += newly
            if acknowledged == per_source:
                break
        took_s = time.perf_counter() - started
        cpu_s = cpu_seconds(watched) - cpu_s
    rate = len(batches) * SAMPLES_A_BATCH / took_s
    bare = bare_samples(batches, folder)
    return [
        f"samples stored and acknowledged ({SOURCES} ranges of {SAMPLES_A_BATCH} a message)",
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


async def measure_tasks(
    address: str, tasks: int, watched: psutil.Process, bare: float, *, bundles: bool
) -> list[str]:
    """Submit a job and complete its tasks as fast as the coordinator leases them."""
    agent = SimulatedAgent(tasks, f"bench-{bundles}", bundles=bundles)
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
        f"tasks leased, started and completed ({tasks} in one run, {'in bundles' if bundles else 'two messages each'})",
        f"{tasks / took_s:,.0f}",
        f"{cpu_s / took_s:.0%} of a core",
        f"{bare:,.0f}",
        f"{tasks / took_s / bare:.2f}",
    ]


def bare_tasks(tasks: int, folder: Path) -> float:
    """Tasks a second when one process leases and completes them in the store itself, a lease a transaction."""
    store = open_store(f"sqlite:///{folder / 'bare-tasks.db'}")
    rows = [QueryRow(f"q{i}", i, "Say something.") for i in range(tasks)]
    with store.begin() as c:
        fleet_agent(c)
        model = jobs.NewModel("m", "stub", "", '{"id": "m"}')
        job_id = jobs.insert_job(c, jobs.NewJob("b", "b", "{}", [model], time.time_ns()), rows).job_id
        runs.insert_run(
            c, run_id="r1", job_id=job_id, model_id="m", hardware_index=0, agent_id="a1", boot_id="b1",
            device_ids=[], created_realtime_ns=time.time_ns(),
        )  # fmt: skip
    started, done = time.perf_counter(), 0
    while done < tasks:
        now_ns = time.time_ns()
        with store.begin() as c:
            leased = leases.lease_tasks(
                c, job_id=job_id, model_id="m", hardware_index=0, run_id="r1", agent_id="a1", limit=LEASE,
                expires_realtime_ns=now_ns + 20_000_000_000, now_ns=now_ns,
            )  # fmt: skip
        with store.begin() as c:
            batch = read_batch(c, [task.task_id for task in leased], ["r1"], now_ns)
            for task in leased:
                batch.mark_running(batch.tasks[task.task_id])
                batch.complete(batch.tasks[task.task_id])
                new = NewGeneration(
                    task.task_id, task.attempt, "r1", "a1", "b1", task.query_id, warmup=False, counted=True,
                    start_ns=1, end_ns=3, received_realtime_ns=now_ns, first_token_ns=2, prompt_tokens=5,
                    output_tokens=20, response="one two three",
                )  # fmt: skip
                batch.generations.append({**as_row(new), "chunk_ns": None})
            batch.write(c)
        done += len(leased)
    took_s = time.perf_counter() - started
    store.close()
    return tasks / took_s


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
    """Speaks the agent's side: says of every task that it runs and what came of it, the moment it is leased."""

    def __init__(
        self,
        tasks: int,
        name: str = "bench",
        concurrent_left: list[int] | None = None,
        *,
        bundles: bool = True,
    ) -> None:
        """Prepare for `tasks` tasks, or for a share of those that `concurrent_left` counts down for several agents.

        Without `bundles` each message is sent alone, as by agents of the first version.
        """
        self._bundles = bundles
        self._name = name
        self._shared = [tasks] if concurrent_left is None else concurrent_left
        self._seq = 0
        self._acknowledged = 0
        self._jobs: dict[str, str] = {}
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
            elif kind == "no_work":
                self._end(message.no_work.run_id)
            elif kind == "ack":
                self._acknowledged = message.ack.seq
                if self.idle:
                    self.finished.set()

    @property
    def idle(self) -> bool:
        """Whether no task is left and everything told is acknowledged."""
        return self._shared[0] == 0 and self._acknowledged >= self._seq

    def _answer(self, lease: fleet_pb2.LeaseOffer) -> None:
        """Ask for more when half of the lease is started: an agent asks when its queue gets short."""
        self._jobs.setdefault(lease.run_id, lease.settings.job_id)
        half = len(lease.tasks) // 2
        self._finish(lease.run_id, lease.tasks[:half])
        if self._shared[0] > len(lease.tasks) - half:
            self._send(work_request=fleet_pb2.WorkRequest(run_id=lease.run_id, tasks=512))
        self._finish(lease.run_id, lease.tasks[half:])

    def _finish(self, run_id: str, tasks: Sequence[work_pb2.Task]) -> None:
        for task in tasks:
            now_ns = time.monotonic_ns()
            self._keep(
                task_update=fleet_pb2.TaskUpdate(
                    task_id=task.task_id,
                    attempt=task.attempt,
                    run_id=run_id,
                    state=fleet_pb2.TaskUpdate.RUNNING,
                )
            )
            self._keep(
                generation=work_pb2.Generation(
                    task_id=task.task_id,
                    attempt=task.attempt,
                    run_id=run_id,
                    query_id=task.query.query_id,
                    start_ns=now_ns - 2_000_000,
                    first_token_ns=now_ns - 1_000_000,
                    end_ns=now_ns,
                    prompt_tokens=5,
                    output_tokens=20,
                    response="one two three",
                )
            )
        self._shared[0] -= len(tasks)

    def _end(self, run_id: str) -> None:
        """End a run that gets no more tasks, and ask for another."""
        update = fleet_pb2.RunUpdate(
            run_id=run_id,
            job_id=self._jobs.pop(run_id, ""),
            phase=fleet_pb2.RunUpdate.ENDED,
            t_ns=time.monotonic_ns(),
            clock_id="clock",
        )
        self._keep(run_update=update)
        self._send(work_request=fleet_pb2.WorkRequest(tasks=512))

    def _keep(self, **body: object) -> None:
        self._seq += 1
        self._send(seq=self._seq, **body)

    def _send(self, **body: object) -> None:
        self._out.put_nowait(fleet_pb2.AgentMessage(agent_id=self._name, boot_id="boot", **body))  # type: ignore[arg-type]

    async def _messages(self) -> AsyncIterator[fleet_pb2.AgentMessage]:
        """Yield what waits, as the agent does: messages with a number in bundles, of at most 256 kB here as there."""
        bundle = fleet_pb2.MessageBundle()
        while True:
            message = await self._out.get()
            if self._bundles and message.seq:
                bundle.messages.append(message)
                if not self._out.empty() and len(bundle.messages) < BUNDLE:
                    continue
            if bundle.messages:
                yield fleet_pb2.AgentMessage(bundle=bundle)
                bundle = fleet_pb2.MessageBundle()
            if not self._bundles or not message.seq:
                yield message


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds a process has used."""
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
