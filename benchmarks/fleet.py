"""Fleet: many simulated agents over real gRPC into one coordinator, on SQLite or PostgreSQL.

Agents are simulated by processes of this program that speak the real protocol: sessions with heartbeats, a stream of
sample batches each, tasks answered the moment they are leased. What is measured is the coordinator: samples and task
completions a second, its CPU, how long an acknowledgement takes, its memory. Beside each figure stands the bare
store, fed the same rows by one process without any network, in the same run.

    python -m benchmarks.fleet [--agents N] [--processes N] [--seconds S] [--every S] [--url postgresql://...]
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
WORKERS = 4
MODELS = ("H200", "A100", "L40S", "RTX 4090")
BLOCKS_A_COMMIT = 512
BOOT, CLOCK = "b" * 36, "c" * 36


def main() -> None:
    """Measure and print a Markdown table; `--simulate` is one process of agents."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument(
        "--every", type=int, default=5, help="seconds in a message: 5 from idle agents, 1 during runs"
    )
    parser.add_argument("--tasks", type=int, default=8000)
    parser.add_argument("--url", default="", help="an empty database; default: a SQLite file")
    parser.add_argument("--simulate", nargs=4, metavar=("ADDRESS", "FIRST", "COUNT", "PID"))
    chosen = parser.parse_args()
    if chosen.simulate:
        address, first, count, pid = chosen.simulate
        print(
            json.dumps(
                asyncio.run(
                    simulate(
                        address,
                        int(first),
                        int(count),
                        chosen.seconds,
                        chosen.every,
                        psutil.Process(int(pid)),
                    )
                )
            )
        )
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
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.fleet", "--seconds", str(chosen.seconds)),
                    *("--every", str(chosen.every)),
                    *("--simulate", address, str(i * per), str(per), str(process.pid)),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            for i in range(chosen.processes)
        ]
        before = watched.memory_info().rss
        told = [json.loads(s.communicate(timeout=chosen.seconds * 6 + 120)[0]) for s in simulators]
        took_s = max(t["seconds"] for t in told)
        cpu = sum(t["cpu"] for t in told) / len(told)
        samples = sum(t["samples"] for t in told)
        late_s = sorted(late for t in told for late in t["ack_s"])
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
                "acknowledgement of a message, p50 / p99",
                f"{late_s[len(late_s) // 2] * 1e3:.0f} / {late_s[int(len(late_s) * 0.99)] * 1e3:.0f} ms",
                "",
                "",
            ],
        ]
        rows.append(asyncio.run(task_row(address, chosen.tasks, watched)))
    finally:
        process.terminate()
        process.wait(30)
    return rows


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


async def simulate(
    address: str, first: int, count: int, seconds: float, every: int, watched: psutil.Process
) -> dict[str, Any]:
    """Be `count` agents for a while; return samples acknowledged and how long acknowledgements took."""
    rows = HZ * every
    t_ns = np.arange(rows) * (1_000_000_000 // HZ)
    columns = {
        "half_width_ns": np.full(rows, 20_000, "<u4").tobytes(),
        "energy_j": (np.arange(rows) * 15.0).tobytes(),
        "power_w": (300 + 20 * np.sin(np.arange(rows))).tobytes(),
    }
    late_s: list[float] = []
    stored = 0
    connected, ready = 0, asyncio.Event()
    start = cpu_s = 0.0

    async def agent(number: int) -> None:
        nonlocal stored, connected, start, cpu_s
        agent_id = f"bench-{number:030d}"
        async with grpc.aio.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            stub = fleet_pb2_grpc.FleetStub(channel)
            session = stub.Session(_control(agent_id, seconds))
            await session.read()
            reading = asyncio.create_task(_drain(session))
            connected += 1
            if connected == count:
                start, cpu_s = time.perf_counter(), cpu_seconds(watched)
                ready.set()
            await ready.wait()
            sent: dict[int, float] = {}

            async def batches() -> AsyncIterator[telemetry_pb2.SampleBatch]:
                for second in range(1, int(seconds) + 1, every):
                    # Agents are out of step, as those of a real fleet are.
                    due = start + second - 1 + (number % 1000) / 1000 * every
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    times = (second * 1_000_000_000 + t_ns).tobytes()
                    ranges = [
                        telemetry_pb2.SampleRange(
                            boot_id=BOOT, clock_id=CLOCK, source_id=f"nvidia:GPU-{source:036d}:gpu",
                            seq_first=second, rows=[HZ] * every, t_ns=times, **columns,
                        )
                        for source in range(SOURCES)
                    ]  # fmt: skip
                    sent[second + every - 1] = time.perf_counter()
                    yield telemetry_pb2.SampleBatch(agent_id=agent_id, ranges=ranges)

            async for ack in stub.PushSamples(batches()):
                for last in [seq for seq in sent if seq <= ack.acks[0].seq]:
                    late_s.append(time.perf_counter() - sent.pop(last))
                    stored += HZ * every * len(ack.acks)
            reading.cancel()

    await asyncio.gather(*(agent(first + i) for i in range(count)))
    return {
        "samples": stored,
        "seconds": time.perf_counter() - start,
        "cpu": (cpu_seconds(watched) - cpu_s) / (time.perf_counter() - start),
        "ack_s": late_s,
    }


async def _control(agent_id: str, seconds: float) -> AsyncIterator[fleet_pb2.AgentMessage]:
    yield fleet_pb2.AgentMessage(
        hello=fleet_pb2.Hello(agent_id=agent_id, name=agent_id, boot_id="b", clock_id="c")
    )
    until = time.perf_counter() + seconds * 5
    while time.perf_counter() < until:
        beat = fleet_pb2.Heartbeat(sent_monotonic_ns=time.monotonic_ns())
        yield fleet_pb2.AgentMessage(heartbeat=beat)
        await asyncio.sleep(HEARTBEAT_S)


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
