"""Store: samples stored, compacted and read a second, bytes a sample, tasks leased and completed a second.

Samples are those of simulated GPUs polled 20 times a second at dithered times: power in milliwatts and a counter
in millijoules that both tick every 100 ms, memory, temperature, utilisation, clock. They arrive as one block a
source and second. Beside them stands the least that any program would do: the same payloads inserted by the bare
database driver into a table without indexes but its key, as many rows to a transaction.

    python -m benchmarks.store [--seconds S] [--tasks N] [--url postgresql://...]
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness_store import fleet, jobs, leases, results, runs, segments
from harness_store.database import Store, open_store
from harness_store.datasets import QueryRow
from harness_store.generations import NewGeneration, record_generation
from harness_store.measurements import NewMeasurement, RunEnergyRows, replace_run_energy
from harness_store.models import ARROW_ZSTD, SampleSegment, Task
from harness_store.sample_columns import normalise, pack
from numpy.typing import NDArray
from sqlalchemy import func, select

from benchmarks.machine import machine, markdown_table

SOURCES = 8
HZ = 20
BLOCKS_A_COMMIT = 64
TASKS_A_LEASE = 64
S = 1_000_000_000

Row = tuple[str, str, str]


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=3000, help="of samples of 8 GPUs")
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--url", default="", help="an empty database; default: a SQLite file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = chosen.url or f"sqlite:///{Path(folder) / 'store.db'}"
        store = open_store(url)
        blocks = simulated_blocks(chosen.seconds)
        rows = measure_samples(store, blocks, Path(folder))
        rows += measure_tasks(store, chosen.tasks)
        print(f"On {machine()}, {store.dialect}:\n")
        print(markdown_table(("what", "figure", "beside it"), rows))
        store.close()


def simulated_blocks(seconds: int) -> list[segments.NewBlock]:
    """Return a block a second of each source, in the order they would arrive."""
    blocks: list[segments.NewBlock] = []
    sources = [_simulated_source(np.random.default_rng(i), seconds * HZ) for i in range(SOURCES)]
    for second in range(seconds):
        piece = slice(second * HZ, (second + 1) * HZ)
        for i, columns in enumerate(sources):
            block = {name: values[piece] for name, values in columns.items()}
            blocks.append(segments.NewBlock("a1", "b1", f"nvidia:GPU-{i}:gpu", "c1", second + 1, block))
    return blocks


def _simulated_source(chance: np.random.Generator, count: int) -> dict[str, NDArray[Any]]:
    t_ns = (np.arange(count) * S // HZ + chance.integers(0, S // HZ, count)).astype(np.int64)
    ticks = t_ns // (S // 10)
    level_w = np.repeat(chance.uniform(80, 650, ticks[-1] // 7 + 2), 7)[: ticks[-1] + 1]
    power_w = np.round((level_w + chance.normal(0, 3, len(level_w))) * 1000) / 1000
    energy_j = np.round(np.cumsum(power_w) * 0.1 * 1000) / 1000
    return {
        "t_ns": t_ns,
        "half_width_ns": chance.integers(20_000, 90_000, count),
        "energy_j": energy_j[ticks],
        "power_w": power_w[ticks],
        "power_avg_w": np.round(np.convolve(power_w, np.ones(10) / 10, "same") * 1000)[ticks] / 1000,
        "memory_used_bytes": np.full(count, 81_604_378_624.0) + 2**21 * (ticks // 300),
        "temperature_c": (45 + (level_w / 40).astype(int))[ticks].astype(np.float32),
        "utilisation": chance.integers(0, 101, len(level_w))[ticks].astype(np.float32) / np.float32(100),
        "sm_clock_mhz": (1980 - 15 * chance.integers(0, 8, len(level_w)))[ticks].astype(np.float32),
        "throttle_bits": np.zeros(count, np.int64),
    }


def measure_samples(store: Store, blocks: Sequence[segments.NewBlock], folder: Path) -> list[Row]:
    """Store, compact and read samples."""
    samples = sum(len(b.columns["t_ns"]) for b in blocks)
    groups = [blocks[i : i + BLOCKS_A_COMMIT] for i in range(0, len(blocks), BLOCKS_A_COMMIT)]
    bare_s = _bare(store, groups, folder)
    stored_s = _timed(lambda: [_append(store, group) for group in groups])
    made, compact_s = _compact_all(store)
    with store.read() as c:
        size = c.execute(
            select(func.sum(func.length(SampleSegment.payload))).where(SampleSegment.codec == ARROW_ZSTD)
        ).scalar_one()
        rows = c.execute(
            select(func.sum(SampleSegment.row_count)).where(SampleSegment.codec == ARROW_ZSTD)
        ).scalar_one()
        start = time.perf_counter()
        read = sum(
            len(segments.read_columns(c, agent_id="a1", source_id=source, clock_id="c1")["t_ns"])
            for source in sorted({b.source_id for b in blocks})
        )
        read_s = time.perf_counter() - start
    assert read == samples, "samples were lost"
    packed = sum(len(pack(normalise(b.columns))) for b in blocks[:100]) / sum(
        len(b.columns["t_ns"]) for b in blocks[:100]
    )
    return [
        (
            f"samples stored a second (blocks of {HZ}, {BLOCKS_A_COMMIT} blocks a commit, with 1 Hz roll-up)",
            _rate(samples, stored_s),
            f"bare driver, same payloads: {_rate(samples, bare_s)} ({bare_s / stored_s:.0%} of its speed)",
        ),
        ("samples compacted a second", _rate(int(rows), compact_s), f"{made} segments"),
        ("samples read a second", _rate(read, read_s), ""),
        (
            "bytes a sample, ten columns, after compaction",
            f"{int(size) / int(rows):.1f}",
            f"{packed:.0f} before",
        ),
    ]


def _compact_all(store: Store) -> tuple[int, float]:
    """Compact every block; return how many segments were made and the seconds it took."""
    made, start = 0, time.perf_counter()
    for everything in (False, True):
        more = True
        while more:
            with store.begin() as c:
                done = segments.compact(c, everything=everything)
            made, more = made + done.segments, done.more
    return made, time.perf_counter() - start


def measure_tasks(store: Store, tasks: int) -> list[Row]:
    """Submit a job, lease and complete its tasks, read its results."""
    start = time.perf_counter()
    with store.begin() as c:
        fleet_agent(c)
        rows = [QueryRow(f"q{i}", i, f"What is {i} + 1?", reference=str(i + 1)) for i in range(tasks)]
        model = jobs.NewModel("m0", "stub", "", '{"id": "m0"}')
        job = jobs.NewJob("bench", "bench", "{}", [model], time.time_ns(), energy="measured")
        job_id = jobs.insert_job(c, job, rows).job_id
        runs.insert_run(
            c, run_id="r1", job_id=job_id, model_id="m0", hardware_index=0, agent_id="a1", boot_id="b1",
            device_ids=["gpu-0"], created_realtime_ns=time.time_ns(),
        )  # fmt: skip
    submit_s = time.perf_counter() - start
    half = tasks // 2
    together_s = _timed(lambda: _run_tasks(store, job_id, half, alone=False))
    few = min(2000, tasks - half)
    alone_s = _timed(lambda: _run_tasks(store, job_id, few, alone=True))
    with store.begin() as c:
        energy = RunEnergyRows("r1", final=True)
        done = (
            c.execute(select(Task.task_id).where(Task.job_id == job_id, Task.state == "done")).scalars().all()
        )
        energy.queries = [
            NewMeasurement(t, 1, "g", "primary", "gpu", "counter", "counter-shape", "tokens", 1.0)
            for t in done
        ]
        start = time.perf_counter()
        replace_run_energy(c, energy, now_ns=time.time_ns())
        measured_s = time.perf_counter() - start
    with store.read() as c:
        start = time.perf_counter()
        table = results.results_table(c, job_id)
        results_s = time.perf_counter() - start
        poll_s = _timed(lambda: leases.ready_groups(c, time.time_ns()))
    return [
        ("tasks submitted a second", _rate(tasks, submit_s), ""),
        (f"tasks leased and completed a second ({TASKS_A_LEASE} a commit)", _rate(half, together_s), ""),
        ("tasks leased and completed a second (each completion committed alone)", _rate(few, alone_s), ""),
        ("energy rows written a second", _rate(len(done), measured_s), ""),
        ("result rows read a second", _rate(table.num_rows, results_s), f"{table.num_rows} rows"),
        ("one look for ready tasks", f"{poll_s * 1e3:.1f} ms", f"{tasks - half - few} are ready"),
    ]


def fleet_agent(connection: Any) -> None:
    """Register the agent that does everything here."""
    fleet.register_agent(
        connection, agent_id="a1", name="bench", boot_id="b1", clock_id="c1", version="0", hostname="bench",
        host_json="{}", labels_json="{}", engines_json="[]", features_json="[]", coordinator_id="k1", monotonic_ns=1,
        now_ns=time.time_ns(),
    )  # fmt: skip


def _append(store: Store, group: Sequence[segments.NewBlock]) -> None:
    with store.begin() as c:
        segments.append_blocks(c, group)


def _bare(store: Store, groups: Sequence[Sequence[segments.NewBlock]], folder: Path) -> float:
    """Return how long the driver alone takes for the same payloads; packing is done before the clock starts."""
    packed = [
        [(b.agent_id, b.boot_id, b.source_id, b.seq, pack(normalise(b.columns))) for b in group]
        for group in groups
    ]
    key = "agent_id, boot_id, source_id, seq"
    columns = f"(agent_id TEXT, boot_id TEXT, source_id TEXT, seq BIGINT, payload {{}}, PRIMARY KEY ({key}))"
    if store.dialect == "postgresql":
        raw = store.engine.raw_connection()
        cursor = raw.cursor()
        cursor.execute("CREATE TEMP TABLE bare " + columns.format("BYTEA"))
        raw.commit()

        def insert() -> None:
            for rows in packed:
                cursor.executemany("INSERT INTO bare VALUES (%s, %s, %s, %s, %s)", rows)
                raw.commit()

        seconds = _timed(insert)
        raw.close()
        return seconds
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE bare " + columns.format("BLOB"))

    def insert_sqlite() -> None:
        for rows in packed:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO bare VALUES (?, ?, ?, ?, ?)", rows)
            connection.execute("COMMIT")

    seconds = _timed(insert_sqlite)
    connection.close()
    (folder / "bare.db").unlink()
    return seconds


def _run_tasks(store: Store, job_id: str, count: int, *, alone: bool) -> None:
    left = count
    while left > 0:
        now_ns = time.time_ns()
        with store.begin() as c:
            tasks = leases.lease_tasks(
                c, job_id=job_id, model_id="m0", hardware_index=0, run_id="r1", agent_id="a1",
                limit=min(TASKS_A_LEASE, left), expires_realtime_ns=now_ns + 20 * S, now_ns=now_ns,
            )  # fmt: skip
        left -= len(tasks)
        groups = [[t] for t in tasks] if alone else [tasks]
        for group in groups:
            with store.begin() as c:
                for task in group:
                    _finish(c, task, now_ns)


def _finish(connection: Any, task: leases.LeasedTask, now_ns: int) -> None:
    fence = {"task_id": task.task_id, "attempt": task.attempt, "agent_id": "a1", "run_id": "r1"}
    counted = leases.complete(connection, **fence, now_ns=now_ns)
    assert counted, "a leased task could not be completed"
    new = NewGeneration(
        **fence, boot_id="b1", query_id=task.query_id, warmup=False, counted=True, start_ns=1, end_ns=2,
        received_realtime_ns=now_ns, response="42", chunk_ns=list(range(10, 20)), prompt_tokens=10, output_tokens=10,
    )  # fmt: skip
    record_generation(connection, new)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _rate(count: int, seconds: float) -> str:
    rate = count / seconds
    return f"{rate / 1e6:.2f} M" if rate >= 1e6 else f"{rate:,.0f}"


if __name__ == "__main__":
    main()
