"""Memory of a coordinator under a steady light load: its resident set over time, and the slope after the warm-up.

A real coordinator; simulated agents that speak the real protocol: sessions with heartbeats, samples every five
seconds, and every few seconds a job whose tasks workers complete in runs of their own, with its summary and its
results asked for. What grows with the store (the pages that SQLite maps, its log) is not the process's own memory:
the anonymous part (`RssAnon` of the kernel) stands beside the whole.

    python -m benchmarks.fleet_memory [--minutes M] [--agents N] [--warm-up MINUTES] [--url postgresql://...]
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import psutil
from harness_coordinator.energy.repetition import t_quantile
from harness_proto.v1 import fleet_pb2_grpc, jobs_pb2, jobs_pb2_grpc
from numpy.typing import NDArray

from benchmarks.coordinator import SimulatedAgent, submission
from benchmarks.fleet import start_coordinator, start_simulator
from benchmarks.machine import machine, markdown_table

EVERY_S = 5
WORKERS = 4
JOB_EVERY_S = 10.0
JOB_TASKS = 100
ENDLESS = 1 << 40
LAGS = 12
"""Readings that hang together, for the slope's error: two minutes of ten-second means."""


@dataclass
class Readings:
    """What the kernel said of the process, every second."""

    t_s: list[float]
    whole: list[float]
    """bytes"""
    anonymous: list[float]
    """bytes"""
    jobs: int = 0


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--warm-up", type=float, default=5.0, help="minutes that the slope leaves out")
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--url", default="", help="an empty database; default: a SQLite file")
    chosen = parser.parse_args()
    if not 0 <= chosen.warm_up < chosen.minutes:
        parser.error("--warm-up must be shorter than --minutes")
    with tempfile.TemporaryDirectory() as folder:
        url = chosen.url or f"sqlite:///{Path(folder) / 'bench.db'}"
        readings = measure(Path(folder), url, chosen.agents, chosen.minutes * 60)
    print(
        f"On {machine()}, {'PostgreSQL' if chosen.url else 'SQLite'}; {chosen.agents} agents of 8 sources at 20 Hz,"
        f" {readings.jobs} jobs of {JOB_TASKS} tasks in {readings.t_s[-1] / 60:.1f} minutes:\n"
    )
    print(markdown_table(("minute", "resident MB", "anonymous MB"), over_time(readings)))
    print()
    after_s = chosen.warm_up * 60
    rows = [
        slope_row(what, readings.t_s, values, after_s)
        for what, values in (("resident", readings.whole), ("anonymous", readings.anonymous))
    ]
    print(markdown_table((f"after {chosen.warm_up:g} minutes", "MB an hour", "95 % interval"), rows))


def measure(folder: Path, url: str, agents: int, seconds: float) -> Readings:
    """Run a coordinator and its agents; read its memory every second."""
    process, address = start_coordinator(folder, url)
    simulators = start_simulator(address, 0, agents, seconds + 60, EVERY_S)
    assert simulators.stdin is not None
    simulators.stdin.write("go\n")
    simulators.stdin.flush()
    try:
        return asyncio.run(_watch(address, psutil.Process(process.pid), simulators, seconds))
    finally:
        simulators.terminate()
        simulators.wait(30)
        process.terminate()
        process.wait(30)


async def _watch(
    address: str, watched: psutil.Process, simulators: subprocess.Popen[str], seconds: float
) -> Readings:
    found = Readings([], [], [])
    async with grpc.aio.insecure_channel(address) as channel:
        fleet = fleet_pb2_grpc.FleetStub(channel)
        left = [ENDLESS]
        workers = [SimulatedAgent(0, f"worker-{i}", left) for i in range(WORKERS)]
        tasks = [asyncio.create_task(worker.serve(fleet)) for worker in workers]
        tasks.append(asyncio.create_task(_submit(jobs_pb2_grpc.JobsStub(channel), found)))
        start = time.perf_counter()
        while (now_s := time.perf_counter() - start) < seconds:
            for task in tasks:
                if task.done():
                    task.result()
                    raise RuntimeError("a session with the coordinator ended")
            if simulators.poll() is not None:
                raise RuntimeError(f"the simulated agents ended with {simulators.returncode}")
            found.t_s.append(now_s)
            found.whole.append(watched.memory_info().rss)
            found.anonymous.append(anonymous_bytes(watched.pid))
            await asyncio.sleep(1.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found


async def _submit(stub: jobs_pb2_grpc.JobsStub, found: Readings) -> None:
    """Submit a job again and again, wait for its end, and read what people read."""
    while True:
        started_s = time.perf_counter()
        job_id = (await stub.Submit(submission(JOB_TASKS))).job_id
        async for detail in stub.WatchJob(jobs_pb2.JobRequest(job_id=job_id)):
            if detail.summary.state != "active":
                break
        async for _ in stub.Results(jobs_pb2.TableRequest(job_id=job_id)):
            pass
        await stub.ListJobs(jobs_pb2.ListJobsRequest(limit=20))
        found.jobs += 1
        await asyncio.sleep(max(0.0, started_s + JOB_EVERY_S - time.perf_counter()))


def anonymous_bytes(pid: int) -> float:
    """Return the resident memory of a process that belongs to no file; NaN where the kernel does not say."""
    status = Path(f"/proc/{pid}/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return float(line.split()[1]) * 1024
    return float("nan")


def over_time(readings: Readings) -> list[list[str]]:
    """Return a row for each minute."""
    minutes = np.array(readings.t_s) // 60
    rows: list[list[str]] = []
    for minute in np.unique(minutes):
        mine = minutes == minute
        rows.append(
            [f"{minute:.0f}"]
            + [f"{np.mean(np.array(v)[mine]) / 1e6:.1f}" for v in (readings.whole, readings.anonymous)]
        )
    return rows


def slope_row(what: str, t_s: list[float], values: list[float], after_s: float) -> list[str]:
    """Return a slope in MB an hour with its interval."""
    slope, half = slope_an_hour(np.array(t_s), np.array(values) / 1e6, after_s)
    return [what, f"{slope:+.2f}", f"{slope - half:+.2f} .. {slope + half:+.2f}"]


def slope_an_hour(
    t_s: NDArray[np.float64], values: NDArray[np.float64], after_s: float
) -> tuple[float, float]:
    """Return the least-squares slope of ten-second means an hour, and half its 95 % interval.

    Readings that follow each other are alike, so the error is Newey and West's (1987) with `LAGS` lags, with
    Student's quantile for what is left of the degrees of freedom.
    """
    bins = (t_s[t_s >= after_s] // 10).astype(int)
    mean = np.array([values[t_s >= after_s][bins == b].mean() for b in np.unique(bins)])
    hours = (np.unique(bins) + 0.5) * 10 / 3600
    if len(mean) < 2 * LAGS:
        return float("nan"), float("nan")
    x = hours - hours.mean()
    slope = float(x @ mean / (x @ x))
    score = x * (mean - mean.mean() - slope * x)
    middle = float(score @ score)
    for lag in range(1, LAGS + 1):
        middle += 2 * (1 - lag / (LAGS + 1)) * float(score[lag:] @ score[:-lag])
    error = float(np.sqrt(max(middle, 0.0)) / (x @ x))
    freedom = max(len(mean) / LAGS - 2, 1.0)
    return slope, t_quantile(0.975, freedom) * error


if __name__ == "__main__":
    main()
