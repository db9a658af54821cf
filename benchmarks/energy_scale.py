"""How fast and how lean: a million queries over ten million samples, and a fleet attributed live."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import QueryColumns, SampleColumns, SourceTraits
from harness_coordinator.energy.streaming import StreamingAttributor

from benchmarks.energy_rows import Row
from tests.coordinator.energy.rig import batched_queries, counter_samples, dithered_polls, ns

SAMPLES, QUERIES = 10_000_000, 1_000_000
FLEET_SOURCES = 200 * 8
SIMULATED_SOURCES = 12
ADVANCE_EVERY_S = 2.0


def scale_rows() -> Iterator[Row]:
    """The batch row, measured in a process of its own, and the live row."""
    command = [sys.executable, "-m", "benchmarks.energy_scale", "--batch"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[1]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=root)
    cpu_s, gib = (float(x) for x in answer.stdout.split())
    yield Row(
        f"{QUERIES:,} queries over {SAMPLES:,} samples, tick lock, shape, alpha, bounds",
        "under 10 s on one core, under 2 GiB",
        f"{cpu_s:.1f} s of one core, {gib:.2f} GiB at most, input included",
        "",
        cpu_s < 10 and gib < 2,
    )
    cores, each_us = _fleet()
    yield Row(
        "live: 200 agents × 8 GPUs × 20 Hz, 32 queries in flight on each",
        "one core",
        f"{cores:.2f} cores ({each_us:.0f} µs a source and second)",
        "",
        cores <= 1,
    )


def batch() -> tuple[float, float]:
    """Time of one core (s) and largest memory (GiB) of the scale row."""
    rng = np.random.default_rng(1)
    polls_s = np.cumsum(rng.uniform(0.02, 0.06, SAMPLES))
    length_s = float(polls_s[-1])
    start_s = np.sort(rng.uniform(20, length_s - 20, QUERIES))
    duration_s = rng.uniform(0.5, 6, QUERIES)
    grid_s = np.arange(0, length_s + 0.2, 0.1)
    in_flight = np.searchsorted(start_s, grid_s) - np.searchsorted(np.sort(start_s + duration_s), grid_s)
    power_w = 90 + np.where(in_flight > 0, 110 + 15 * in_flight, 0) * (
        1 + 0.05 * rng.standard_normal(len(grid_s))
    )
    energy_j = np.append(0, np.cumsum(power_w[:-1] * 0.1))[(polls_s / 0.1).astype(np.int64)]
    samples = SampleColumns(ns(polls_s), energy_j, np.zeros(0))
    queries = QueryColumns(
        ns(start_s),
        ns(start_s + 0.1 * duration_s),
        ns(start_s + duration_s),
        rng.integers(50, 1500, QUERIES).astype(float),
        rng.integers(8, 300, QUERIES).astype(float),
    )
    run = int(ns(np.array(15.0))), int(ns(np.array(length_s - 5)))
    idle = [(int(ns(np.array(1.0))), run[0])]
    del polls_s, start_s, duration_s, grid_s, in_flight, power_w, energy_j
    began = time.process_time()
    measure_source(SourceTraits("scale"), samples, queries, run, idle)
    return time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _fleet() -> tuple[float, float]:
    """Cores that a fleet needs, and microseconds per source and second."""
    rng = np.random.default_rng(2)
    seconds = spent = 0.0
    for _ in range(SIMULATED_SOURCES):
        run = batched_queries(rng, 600, 32)
        samples = counter_samples(rng, run.truth, dithered_polls(rng, run.length_s, 0.05))
        queries = run.queries()
        order = np.argsort(queries.end_ns)
        start_ns, end_ns = queries.start_ns[order], queries.end_ns[order]
        earliest_open = np.minimum.accumulate(start_ns[::-1])[::-1]
        live = StreamingAttributor(
            SourceTraits("live"), alpha=0.24, baseline_w=90.0, origin_ns=int(ns(np.array(0.5)))
        )
        given = polled = 0
        for t_s in np.arange(ADVANCE_EVERY_S, run.length_s, ADVANCE_EVERY_S):
            now = int(ns(np.array(t_s)))
            upto, ended = int(np.searchsorted(samples.t_ns, now)), int(np.searchsorted(end_ns, now))
            block = SampleColumns(samples.t_ns[polled:upto], samples.energy_j[polled:upto], np.zeros(0))
            rows = order[given:ended]
            new = QueryColumns(
                queries.start_ns[rows],
                queries.first_token_ns[rows],
                queries.end_ns[rows],
                queries.prompt_tokens[rows],
                queries.output_tokens[rows],
            )
            watermark = min(now, int(earliest_open[ended])) if ended < len(order) else now
            began = time.process_time()
            live.add_samples(block)
            live.add_queries(rows, new)
            live.advance(watermark)
            spent += time.process_time() - began
            polled, given = upto, ended
        seconds += run.length_s
    return spent / seconds * FLEET_SOURCES, spent / seconds * 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", action="store_true")
    if parser.parse_args().batch:
        print(*batch())
