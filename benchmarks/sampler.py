"""What sampling costs and how punctual it is, on a stand-in NVML, with zeus and codecarbon beside it.

    python -m benchmarks.sampler [--seconds S] [--peers PYTHON]

PYTHON is the interpreter of an environment that has `zeus`, `codecarbon` and `psutil`; without it their rows say why
they are empty. Each tool runs in a process of its own and the CPU time of its whole process tree is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from harness_agent.clock import MonotonicClock
from harness_agent.sample_blocks import SampleBlock
from harness_agent.sampler import Sampler
from harness_backends.telemetry.nvidia import NvidiaProvider
from harness_backends.telemetry.process_tree import ProcessTree

from benchmarks.machine import machine, markdown_table
from tests.standins.build import BUILD, build_library
from tests.standins.play import Stage, random_steps
from tests.standins.stage import Control, nvml_on_stage

REPOSITORY = Path(__file__).resolve().parents[1]
_OURS = """
import sys, time
from harness_agent.discovery import discover
from harness_agent.sampler import Sampler
sampler = Sampler(discover(["nvidia"], with_host=False).sources, lambda block: None, 20.0)
sampler.start()
print("running", flush=True)
sys.stdin.read()
"""
_OURS_IDLE = _OURS.replace("20.0)", "20.0, is_idle=lambda: True)")
_ZEUS = """
import sys
from zeus.monitor import PowerMonitor
if __name__ == "__main__":
    monitor = PowerMonitor(gpu_indices=list(range(8)), update_period=0.05)
    print("running", flush=True)
    sys.stdin.read()
"""
_CODECARBON = """
import logging, sys
from codecarbon import OfflineEmissionsTracker
tracker = OfflineEmissionsTracker(
    country_iso_code="FRA", measure_power_secs=0.05, save_to_file=False, log_level=logging.ERROR
)
tracker.start()
print("running", flush=True)
sys.stdin.read()
"""
_START_UP = """
import time, psutil
from harness_agent.learning import discover_learned
from harness_agent.sampler import Sampler
import threading
came = threading.Event()
found = discover_learned(["nvidia"])
sampler = Sampler(found.sources, lambda block: came.set())
sampler.start()
while not any(counts.readings for counts in sampler.counts.values()):
    time.sleep(0.001)
print(time.time() - psutil.Process().create_time())
sampler.stop()
"""


class _Punctual(MonotonicClock):
    """Notes how late each wake-up was."""

    def __init__(self) -> None:
        self.late_ns: list[int] = []

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        """Sleep as the real clock does."""
        super().wait_until(t_ns, stop)
        self.late_ns.append(self.now_ns() - t_ns)


class _Simulated:
    """The stand-in's time, moved on by whoever waits, until it is used up."""

    def __init__(self, control: Control, end_s: float) -> None:
        self._control, self._end_ns = control, round(end_s * 1e9)
        self.now_ns = control.now_ns

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        """Let the simulated time pass."""
        self._control.set_time_s(t_ns * 1e-9)
        if t_ns >= self._end_ns:
            stop.set()


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each run")
    parser.add_argument("--peers", default="", help="interpreter that has zeus and codecarbon")
    told = parser.parse_args()
    build_library("libnvidia-ml.so.1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        rows = [
            ["8 GPUs at 20 Hz, CPU of one core", *cost(sys.executable, _OURS, told.seconds, path), "<= 1 %"],
            ["- while no run is on", *cost(sys.executable, _OURS_IDLE, told.seconds, path), "-"],
            ["- zeus PowerMonitor, same", *peer(told.peers, _ZEUS, told.seconds, path), "-"],
            ["- codecarbon at 0.05 s, same", *peer(told.peers, _CODECARBON, told.seconds, path), "-"],
            ["1 GPU at 1 kHz", *punctuality(told.seconds, path), "p99 < 1 ms"],
            ["1 GPU, one hour simulated", *memory(path), "flat, none lost"],
            ["start of process to first reading", *start_up(path), "< 2 s"],
        ]
    print(f"On {machine()}:\n")
    print(markdown_table(("what", "figure", "more", "target"), rows))


def cost(python: str, code: str, seconds: float, folder: Path) -> list[str]:
    """Run a tool on eight GPUs; return percent of one core, and the memory and processes of its tree."""
    script = folder / "tool.py"
    script.write_text(code)
    with subprocess.Popen(
        [python, str(script)],
        env=_environment(folder, 8),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        said = child.stdout.readline()
        while said and said != "running\n":
            said = child.stdout.readline()
        if not said:
            return ["-", "it did not start"]
        tree = ProcessTree()
        _settle()
        tree.track([child.pid])
        begin_s = time.monotonic()
        time.sleep(seconds)
        cpu_s, wall_s = tree.cpu_time_s(), time.monotonic() - begin_s
        members = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
        resident = sum(member.memory_info().rss for member in members)
        for member in reversed(members):
            member.kill()
    return [f"{100 * cpu_s / wall_s:.2f} %", f"{resident / 2**20:.0f} MiB in {len(members)} process(es)"]


def peer(python: str, code: str, seconds: float, folder: Path) -> list[str]:
    """Run somebody else's tool the same way, where an interpreter that has it is named."""
    if not python:
        return ["-", "not run: no --peers interpreter given"]
    return cost(python, code, seconds, folder)


def punctuality(seconds: float, folder: Path) -> list[str]:
    """Poll one GPU a thousand times a second; return the lateness of the wake-ups and the rate."""
    clock = _Punctual()
    with nvml_on_stage(Stage(random_steps(1, 600)), folder / "fast"):
        sampler = Sampler(NvidiaProvider().discover()[0], lambda _block: None, 1000.0, clock=clock)
        begin_s, begin_cpu_s = time.monotonic(), time.process_time()
        sampler.start()
        time.sleep(seconds)
        wall_s, cpu_s = time.monotonic() - begin_s, time.process_time() - begin_cpu_s
        counts = next(iter(sampler.counts.values()))
        polls, skipped = counts.polls, counts.skipped_polls
        sampler.stop()
    late_us = np.array(clock.late_ns) / 1000
    p50, p99 = np.percentile(late_us, [50, 99])
    more = (
        f"{polls / wall_s:.0f} polls/s, {skipped} skipped, {100 * cpu_s / wall_s:.1f} % CPU, p50 {p50:.0f} us"
    )
    return [f"p99 {p99:.0f} us late", more]


def memory(folder: Path) -> list[str]:
    """Sample a simulated hour; return how the process grew after its first ten minutes, and what was lost."""
    process, sizes, kept = psutil.Process(), [0, 0], [0]
    with nvml_on_stage(Stage(random_steps(1, 3700)), folder / "hour") as control:
        control.set_time_s(0.5)

        def sink(block: SampleBlock) -> None:
            kept[0] += len(block)
            sizes[control.now_ns() > 600e9] = process.memory_info().rss

        sampler = Sampler(
            NvidiaProvider(control.now_ns).discover()[0], sink, 20.0, clock=_Simulated(control, 3600.5)
        )
        sampler.run()
        polls = next(iter(sampler.counts.values())).polls
        sampler.stop()
    growth_kib = (sizes[1] - sizes[0]) / 1024
    return [f"grew {growth_kib:.0f} KiB in 50 min", f"{polls} polls, {polls - kept[0]} lost"]


def start_up(folder: Path) -> list[str]:
    """Return the time from the start of a process to its first reading, sensors learned, best of three."""
    environment = _environment(folder, 8)
    taken_s = [
        float(
            subprocess.run(
                [sys.executable, "-c", _START_UP], env=environment, capture_output=True, check=True
            ).stdout
        )
        for _ in range(3)
    ]
    return [
        f"{min(taken_s):.2f} s",
        f"of three: {json.dumps([round(s, 2) for s in taken_s])}, 1.0 s of it learning",
    ]


def _environment(folder: Path, devices: int) -> dict[str, str]:
    stage = Stage(random_steps(1, 600), devices=devices, settings={"device_name": "NVIDIA A100-SXM4-80GB"})
    described = stage.write(folder / f"stage{devices}")
    return os.environ | {
        "LD_LIBRARY_PATH": str(BUILD),
        "HARNESS_STANDIN": str(described),
        "PYTHONPATH": str(REPOSITORY),
    }


def _settle() -> None:
    """Let the tool's start-up work end: it is not what is measured."""
    time.sleep(3)


if __name__ == "__main__":
    main()
