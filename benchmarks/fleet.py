"""Fleet: many simulated agents over real gRPC into one coordinator, on SQLite or PostgreSQL.

Agents are simulated by processes of this program that speak the real protocol: sessions with heartbeats, a stream of
sample batches each, tasks answered the moment they are leased. What is measured is the coordinator: samples and task
completions a second, its CPU, how long an acknowledgement takes, its memory. Beside each figure stands the bare
store, fed the same rows by one process without any network, in the same run.

    python -m benchmarks.fleet [--agents N] [--processes N] [--seconds S] [--every S | --all-running] [--url postgresql://...]

`--all-running` sends samples as agents do that all have a run: a message a second. The runs themselves (tasks held,
their results, provisional joules) are not simulated.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from harness_coordinator.matching import Device, Requirement, Selector
from harness_coordinator.scheduler import AgentView, Group, plan
from harness_proto.v1 import fleet_pb2, fleet_pb2_grpc, jobs_pb2_grpc, telemetry_pb2
from harness_store import segments
from harness_store.database import open_store

from benchmarks.coordinator import SimulatedAgent, cpu_seconds, submission
from benchmarks.machine import machine, markdown_table

SOURCES = 8
HZ = 20
HEARTBEAT_S = 5.0
"""Of agents with runs; one that holds nothing beats half as often."""
LONGEST_UNANSWERED_S = 10.0
"""As agents do, the simulated ones let samples come together until the last message is acknowledged."""
SETTLE_S = 5.0
"""From the last agent's joining to the first sample: a thousand that join at once are another matter."""
WORKERS = 4
MODELS = ("H200", "A100", "L40S", "RTX 4090")
BLOCKS_A_COMMIT = 512
BOOT, CLOCK = "b" * 36, "c" * 36
CONNECTED = "connected\n"
"""What a process of simulated agents prints when all of its agents have sessions."""


def main() -> None:
    """Measure and print a Markdown table; `--simulate` is one process of agents."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--every", type=int, default=20, help="seconds in a message: 20 from idle agents, 1 during runs"
    )
    pace.add_argument(
        "--all-running", action="store_const", const=1, dest="every", help="the same as --every 1"
    )
    parser.add_argument("--tasks", type=int, default=8000)
    parser.add_argument("--url", default="", help="an empty database; default: a SQLite file")
    parser.add_argument("--simulate", nargs=3, metavar=("ADDRESS", "FIRST", "COUNT"))
    chosen = parser.parse_args()
    if chosen.simulate:
        address, first, count = chosen.simulate
        told = asyncio.run(simulate(address, int(first), int(count), chosen.seconds, chosen.every))
        print(json.dumps(told))
        return
    rows = [scheduler_row()]
    with tempfile.TemporaryDirectory() as folder:
        rows += fleet_rows(chosen, Path(folder))
    print(f"On {machine()}, {'PostgreSQL' if chosen.url else 'SQLite'}:\n")
    print(markdown_table(("what", "figure", "coordinator", "bare store in the same run"), rows))


def scheduler_row() -> list[str]:
    """Time one decision for 100,000 ready tasks and 1,000 agents."""
    agents = [
        AgentView(
            agent_id=f"a{i}", name=f"box{i}", labels={"rack": f"r{i % 20}"}, engines=frozenset({"vllm"}),
            devices=(Device("gpu", "nvidia", MODELS[i % 4], False, True, False, 1e11),),
            loaded_model="", runs=(), wants_new_run=True, wants_tasks={}, draining=False,
        )
        for i in range(1000)
    ]  # fmt: skip
    groups = [
        Group(
            key=(f"job{i}", "m", 0), ready=1000, concurrency=8, priority=i % 3, submitted_s=i,
            requirement=Requirement(
                "vllm", Selector("nvidia", MODELS[i % 4], labels={"rack": f"r{i % 5}"}), "measured"
            ),
        )
        for i in range(100)
    ]  # fmt: skip
    took_s = []
    for _ in range(5):
        start = time.perf_counter()
        decided = plan(groups, agents, 1000.0)
        took_s.append(time.perf_counter() - start)
    assert decided.leases, "nothing was leased"
    what = "one decision: 100,000 ready tasks, 1,000 agents that ask"
    return [what, f"{sorted(took_s)[2] * 1e3:.1f} ms", f"{len(decided.leases)} leases", "-"]


def fleet_rows(chosen: argparse.Namespace, folder: Path) -> list[list[str]]:
    """Run a coordinator with all agents at the pace of their sensors, then tasks as fast as they go."""
    url = chosen.url or f"sqlite:///{folder / 'bench.db'}"
    process, address = start_coordinator(folder, url)
    watched = psutil.Process(process.pid)
    try:
        per = chosen.agents // chosen.processes
        simulators = [
            start_simulator(address, i * per, per, chosen.seconds, chosen.every)
            for i in range(chosen.processes)
        ]
        for simulator in simulators:
            assert simulator.stdout is not None
            assert simulator.stdout.readline() == CONNECTED, "the simulated agents did not connect"
        time.sleep(SETTLE_S)
        before = watched.memory_info().rss
        cpu_s, start = cpu_seconds(watched), time.perf_counter()
        for simulator in simulators:
            assert simulator.stdin is not None
            simulator.stdin.write("go\n")
            simulator.stdin.flush()
        # Over the time in which they send: the end of their sessions and processes is no part of it.
        time.sleep(chosen.seconds)
        cpu = (cpu_seconds(watched) - cpu_s) / (time.perf_counter() - start)
        told = [json.loads(s.communicate(timeout=chosen.seconds * 6 + 120)[0]) for s in simulators]
        took_s = max(t["seconds"] for t in told)
        samples = sum(t["samples"] for t in told)
        late_s = np.array([late for t in told for late in t["ack_s"]])
        unpunctual_s = np.array([late for t in told for late in t["sent_late_s"]])
        simulating = sum(t["cpu_s"] for t in told) / took_s
        rss = watched.memory_info().rss
        bare = bare_samples(folder, chosen.url, chosen.every)
        rate = samples / took_s
        rows = [
            [
                f"samples stored a second, {per * chosen.processes} agents x {SOURCES} sources x {HZ} Hz,"
                f" a message every {chosen.every} s (asked: {per * chosen.processes * SOURCES * HZ:,})",
                f"{rate:,.0f}",
                f"{cpu:.0%} of a core, memory {before / 1e6:.0f} -> {rss / 1e6:.0f} MB",
                f"{bare:,.0f} (ratio {rate / bare:.2f})",
            ],
            [
                "acknowledgement of a message after it was due, p50 / p99 / worst",
                " / ".join(f"{q * 1e3:.0f}" for q in np.quantile(late_s, (0.5, 0.99, 1.0))) + " ms",
                "",
                "",
            ],
            [
                "the simulated agents themselves: a message sent after it was due, p50 / p99",
                " / ".join(f"{q * 1e3:.0f}" for q in np.quantile(unpunctual_s, (0.5, 0.99))) + " ms",
                f"simulators: {simulating:.0%} of a core",
                "",
            ],
        ]
        rows.append(asyncio.run(task_row(address, chosen.tasks, watched)))
    finally:
        process.terminate()
        process.wait(30)
    return rows


def start_simulator(
    address: str, first: int, count: int, seconds: float, every: int
) -> subprocess.Popen[str]:
    """Start a process of agents; it says when all are connected and begins when it is told to."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.fleet", "--seconds", str(seconds), "--every", str(every)),
            *("--simulate", address, str(first), str(count)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def start_coordinator(folder: Path, url: str) -> tuple[subprocess.Popen[str], str]:
    """Start a coordinator process on a free port."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "harness_cli.main", "coordinator", "run", "--listen", "127.0.0.1:0"),
            *("--state-dir", str(folder / "state"), "--db", url),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, line.partition("listening on ")[2].partition(",")[0]


async def simulate(address: str, first: int, count: int, seconds: float, every: int) -> dict[str, Any]:
    """Be `count` agents for a while; return samples acknowledged and how long acknowledgements took."""
    late_s: list[float] = []
    sent_late_s: list[float] = []
    stored = connected = 0
    start = 0.0
    everybody, go = asyncio.Event(), asyncio.Event()

    @functools.lru_cache(maxsize=64)
    def ranges(second: int, seconds: int) -> bytes:
        """Return what all agents measure alike, serialised once: the generator shares the machine."""
        return telemetry_pb2.SampleBatch(ranges=sample_ranges(second, seconds)).SerializeToString()

    async def agent(number: int) -> None:
        nonlocal stored, connected
        agent_id = f"bench-{number:030d}"
        async with grpc.aio.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            session = fleet_pb2_grpc.FleetStub(channel).Session(_control(agent_id, seconds, every))
            await session.read()
            reading = asyncio.create_task(_drain(session))
            connected += 1
            if connected == count:
                everybody.set()
            await go.wait()
            waiting: dict[int, float] = {}
            answered = asyncio.Event()
            stored_until = 0
            named = telemetry_pb2.SampleBatch(agent_id=agent_id).SerializeToString()

            async def batches() -> AsyncIterator[bytes]:
                # Agents are out of step, as those of a real fleet are.
                begin = start + (number % 1000) / 1000 * every
                first = 1
                while first <= int(seconds):
                    due = begin + first - 1
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    if waiting:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(answered.wait(), LONGEST_UNANSWERED_S)
                    else:
                        sent_late_s.append(time.perf_counter() - due)
                    gathered = 1 + int((time.perf_counter() - due) / every)
                    count = min(gathered * every, int(seconds) + 1 - first)
                    waiting[first + count - 1] = due
                    answered.clear()
                    yield named + ranges(first, count)
                    first += count

            push = channel.stream_stream(
                "/harness.v1.Fleet/PushSamples", response_deserializer=telemetry_pb2.SampleAck.FromString
            )
            async for ack in push(batches()):
                for last in [seq for seq in waiting if seq <= ack.acks[0].seq]:
                    late_s.append(time.perf_counter() - waiting.pop(last))
                answered.set()
                stored += HZ * (ack.acks[0].seq - stored_until) * len(ack.acks)
                stored_until = ack.acks[0].seq
            reading.cancel()

    agents = asyncio.gather(*(agent(first + i) for i in range(count)))
    await asyncio.wait({agents, asyncio.create_task(everybody.wait())}, return_when=asyncio.FIRST_COMPLETED)
    print(CONNECTED, end="", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    start, cpu_s = time.perf_counter(), time.process_time()
    go.set()
    await agents
    return {
        "samples": stored,
        "seconds": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu_s,
        "ack_s": late_s,
        "sent_late_s": sent_late_s,
    }


def sample_ranges(second: int, every: int) -> list[telemetry_pb2.SampleRange]:
    """Return some seconds of all sources of an agent, as it joins them."""
    rows = HZ * every
    t_ns = second * 1_000_000_000 + np.arange(rows) * (1_000_000_000 // HZ)
    return [
        telemetry_pb2.SampleRange(
            boot_id=BOOT, clock_id=CLOCK, source_id=f"nvidia:GPU-{source:036d}:gpu",
            seq_first=second, rows=[HZ] * every, t_ns=t_ns.tobytes(),
            half_width_ns=np.full(rows, 20_000, "<u4").tobytes(),
            energy_j=(np.arange(rows) * 15.0).tobytes(),
            power_w=(300 + 20 * np.sin(np.arange(rows))).tobytes(),
        )
        for source in range(SOURCES)
    ]  # fmt: skip


async def _control(agent_id: str, seconds: float, every: int) -> AsyncIterator[fleet_pb2.AgentMessage]:
    yield fleet_pb2.AgentMessage(
        hello=fleet_pb2.Hello(agent_id=agent_id, name=agent_id, boot_id="b", clock_id="c")
    )
    yield fleet_pb2.AgentMessage(work_request=fleet_pb2.WorkRequest(tasks=64))
    until = time.perf_counter() + seconds * 5
    while time.perf_counter() < until:
        # With a fifth of jitter, as agents have it, and with what a heartbeat of an idle agent carries.
        await asyncio.sleep(HEARTBEAT_S * (1 if every == 1 else 2) * random.uniform(0.8, 1.2))
        beat = fleet_pb2.Heartbeat(
            sent_monotonic_ns=time.monotonic_ns(),
            clock_offset_ns=time.time_ns() - time.monotonic_ns(),
            clock_offset_error_ns=2e5,
            spool_bytes=1 << 20,
        )
        yield fleet_pb2.AgentMessage(heartbeat=beat)


async def _drain(session: Any) -> None:
    while await session.read() is not grpc.aio.EOF:
        pass


def bare_samples(folder: Path, url: str, every: int) -> float:
    """Samples a second when one process appends such blocks of a thousand agents to the store itself."""
    store = open_store(url or f"sqlite:///{folder / 'bare.db'}")
    rows = HZ * every
    columns = {
        "t_ns": np.arange(rows) * 50_000_000, "half_width_ns": np.full(rows, 20_000, "<u4"),
        "energy_j": np.arange(rows) * 15.0, "power_w": np.full(rows, 300.0),
    }  # fmt: skip
    blocks = [
        segments.NewBlock(
            f"bare-{i // SOURCES % 1000:030d}", BOOT, f"nvidia:GPU-{i % SOURCES:036d}:gpu", CLOCK,
            1 + i // (SOURCES * 1000) * every, columns, (HZ,) * every,
        )
        for i in range(SOURCES * 1000 * 4)
    ]  # fmt: skip
    start = time.perf_counter()
    for at in range(0, len(blocks), BLOCKS_A_COMMIT):
        with store.begin() as connection:
            segments.append_blocks(connection, blocks[at : at + BLOCKS_A_COMMIT])
    took_s = time.perf_counter() - start
    store.close()
    return len(blocks) * rows / took_s


async def task_row(address: str, tasks: int, watched: psutil.Process) -> list[str]:
    """Complete a job's tasks as fast as the coordinator leases them to a few agents that answer at once."""
    left = [tasks]
    agents = [SimulatedAgent(tasks, f"worker-{i}", left) for i in range(WORKERS)]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = fleet_pb2_grpc.FleetStub(channel)
        sessions = [asyncio.create_task(agent.serve(stub)) for agent in agents]
        for agent in agents:
            await agent.welcomed.wait()
        await jobs_pb2_grpc.JobsStub(channel).Submit(submission(tasks))
        cpu_s, start = cpu_seconds(watched), time.perf_counter()
        while not all(agent.idle for agent in agents):  # noqa: ASYNC110 - several must be so at once
            await asyncio.sleep(0.005)
        took_s = time.perf_counter() - start
        cpu_s = cpu_seconds(watched) - cpu_s
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)
    what = f"tasks leased and completed a second ({tasks} by {WORKERS} agents)"
    return [what, f"{tasks / took_s:,.0f}", f"{cpu_s / took_s:.0%} of a core", "-"]


if __name__ == "__main__":
    main()
