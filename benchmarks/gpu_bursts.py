"""Loads whose times are known, in a process of their own: `python -m benchmarks.gpu_bursts FILE.parquet`.

Each burst is a row: part, start_ns and end_ns (CLOCK_MONOTONIC, the device idle before and synchronised after) and the
energy counter read at both, which is all that a tool that reads it at the edges of a query has.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BEAT_PERIOD_S, BEAT_ON_S, BEATS = 0.1, 0.025, 450
SINGLE_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
REPEATS = 14
REST_S, STEADY_S = 8.0, 15.0
GAP_S = 0.55
"""Five ticks of a 100 ms counter at least, so that some lie wholly between two bursts."""

Burst = tuple[str, int, int, float, float]


class Load:
    """A matrix product on the first GPU, in bursts."""

    def __init__(self) -> None:
        """Make matrices that fill the device, and warm it up."""
        import pynvml
        import torch

        self._torch, self._nvml = torch, pynvml
        pynvml.nvmlInit()
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        self._left = torch.randn(4096, 4096, dtype=torch.bfloat16, device="cuda")
        self._right = torch.randn_like(self._left)
        self._out = torch.empty_like(self._left)
        self.bursts: list[Burst] = []
        for _ in range(3):
            self._work_until(time.monotonic_ns() + 50_000_000)

    def burst(self, part: str, seconds: float) -> None:
        """Work for so long and keep when, and what the counter said before and after."""
        before_j = self._counter_j()
        start_ns = time.monotonic_ns()
        self._work_until(start_ns + int(seconds * 1e9))
        end_ns = time.monotonic_ns()
        self.bursts.append((part, start_ns, end_ns, before_j, self._counter_j()))

    def burst_at(self, part: str, due_s: float, seconds: float) -> None:
        """Work for so long from a moment on, to some microseconds; without counter reads, which take too long."""
        while (left_s := due_s - time.monotonic()) > 0:
            if left_s > 0.002:
                time.sleep(left_s - 0.001)
        start_ns = time.monotonic_ns()
        self._work_until(start_ns + int(seconds * 1e9))
        self.bursts.append((part, start_ns, time.monotonic_ns(), float("nan"), float("nan")))

    def _work_until(self, end_ns: int) -> None:
        while time.monotonic_ns() < end_ns:
            for _ in range(4):
                self._torch.matmul(self._left, self._right, out=self._out)
            self._torch.cuda.synchronize()

    def _counter_j(self) -> float:
        return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) * 1e-3


def main(path: Path) -> None:
    """Run all parts and write the bursts."""
    load, chance = Load(), random.Random(7)
    time.sleep(REST_S)
    begin_s = time.monotonic() + 0.1
    for beat in range(BEATS):
        load.burst_at("beats", begin_s + beat * BEAT_PERIOD_S, BEAT_ON_S)
    time.sleep(REST_S)
    lengths = list(SINGLE_S) * REPEATS
    chance.shuffle(lengths)
    for seconds in lengths:
        load.burst("singles", seconds)
        time.sleep(GAP_S + 0.3 * chance.random())
    time.sleep(REST_S)
    load.burst("steady", STEADY_S)
    time.sleep(REST_S)
    names = ("part", "start_ns", "end_ns", "counter_start_j", "counter_end_j")
    columns = zip(*load.bursts, strict=True)
    pq.write_table(pa.table(dict(zip(names, map(list, columns), strict=True))), path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
