"""Sensor to joules with no server: the sampler polls a stand-in, `harness integrate` is held against the truth."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from harness_agent.learning import learn
from harness_agent.sample_blocks import SampleBlock
from harness_agent.sample_files import merge, write_samples
from harness_agent.sampler import Sampler
from harness_backends.telemetry.amd import AmdProvider
from harness_backends.telemetry.nvidia import NvidiaProvider
from harness_backends.telemetry.source import Provider
from harness_cli.integrate import integrate

from tests.standins.play import Stage, random_steps
from tests.standins.stage import Control, amdsmi_on_stage, nvml_on_stage

CURVE = random_steps(21, 120)
SAMPLED_S = 60.0


class StageClock:
    """The stand-in's own time, moved on by whoever waits, until it is used up."""

    def __init__(self, control: Control, end_s: float) -> None:
        self._control = control
        self._end_ns = round(end_s * 1e9)
        self.now_ns = control.now_ns

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        self._control.set_time_s(t_ns * 1e-9)
        if t_ns >= self._end_ns:
            stop.set()


def _sample(control: Control, make: Callable[[Callable[[], int]], Provider], path: Path, seed: int) -> None:
    control.set_time_s(5.0)
    sources = learn(make(control.now_ns).discover()[0], clock=StageClock(control, 1e6)).sources
    blocks: list[SampleBlock] = []
    clock = StageClock(control, control.now_ns() * 1e-9 + SAMPLED_S)
    sampler = Sampler(sources, blocks.append, clock=clock, seed=seed)
    sampler.run()
    sampler.stop()
    write_samples(path, merge(blocks))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("put", "make"), [(nvml_on_stage, NvidiaProvider), (amdsmi_on_stage, AmdProvider)], ids=["nvidia", "amd"]
)
def test_windows_of_a_second_are_true_to_a_tenth_of_a_percent(
    put: Callable[..., object], make: Callable[..., Provider], seed: int, tmp_path: Path
) -> None:
    samples, windows = tmp_path / "samples.csv", tmp_path / "windows.csv"
    phase_s = 0.1 * np.random.default_rng(seed).random()
    stage = Stage(CURVE, settings={"counter_phase_s": phase_s, "power_phase_s": phase_s})
    with put(stage, tmp_path / "stage") as control:  # type: ignore[attr-defined]
        _sample(control, make, samples, seed)
    starts_s = np.arange(8.0, 5.0 + SAMPLED_S - 3.0, 1.037)
    with windows.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "start_ns", "end_ns"])
        writer.writerows([[i, round(s * 1e9), round((s + 1) * 1e9)] for i, s in enumerate(starts_s)])
    arguments = [str(samples), "--windows", str(windows), "--inside", "linear", "--format", "json"]
    ran = CliRunner().invoke(integrate, arguments)
    assert ran.exit_code == 0, ran.output
    rows = json.loads(ran.stdout)["windows"]
    true_j = np.array([CURVE.energy_j(s, s + 1) for s in starts_s])
    joules = np.array([row["joules"] for row in rows])
    assert np.median(np.abs(joules - true_j) / true_j) <= 0.001
    inside = [row["joules_low"] <= true <= row["joules_high"] for row, true in zip(rows, true_j, strict=True)]
    assert np.mean(inside) >= 0.98
