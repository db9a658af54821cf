from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
from harness_backends.telemetry.nvidia import NvidiaProvider
from harness_backends.telemetry.nvidia_source import NvidiaSource
from harness_backends.telemetry.source import Finding, Source, SourceGone, ThrottleReason

from tests.standins.build import BUILD, build_library
from tests.standins.play import PowerCurve, Stage, constant, ramp, random_steps, square
from tests.standins.stage import Control, Play, nvml_on_stage, stages_of


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    with stages_of(nvml_on_stage, tmp_path / "stage") as begin:
        yield begin


def _open(control: Control) -> tuple[list[Source], list[Finding]]:
    return NvidiaProvider(control.now_ns).discover()


def _poll(source: Source, control: Control, times_s: np.ndarray, column: str) -> np.ndarray:
    values = []
    for t_s in times_s:
        control.set_time_s(float(t_s))
        reading = source.read()
        assert reading is not None
        values.append(getattr(reading, column))
    return np.array(values)


@pytest.mark.parametrize(
    "curve",
    [constant(200), square(80, 400, 0.7, 0.3), ramp(60, 600, 30), random_steps(3, 60)],
    ids=["flat", "square", "ramp", "steps"],
)
def test_the_stand_in_publishes_the_integral_of_its_curve(curve: PowerCurve, play: Play) -> None:
    control = play(Stage(curve))
    _open(control)
    for start_s, end_s in ((0.0, 5.0), (3.21, 17.89), (12.0, 12.05)):
        grid = np.linspace(start_s, end_s, 200_001)
        powers = np.array([curve.energy_j(a, a + 1e-6) / 1e-6 for a in grid[:: len(grid) // 2000]])
        rough_j = powers.mean() * (end_s - start_s)
        assert control.true_energy_j(start_s, end_s) == pytest.approx(
            curve.energy_j(start_s, end_s), rel=1e-9
        )
        assert control.true_energy_j(start_s, end_s) == pytest.approx(rough_j, rel=0.02)


def test_gpu_is_described_by_what_it_answers(play: Play) -> None:
    control = play(
        Stage(constant(300), devices=2, settings={"device_name": "NVIDIA H200", "driver_version": "580.95"})
    )
    sources, findings = _open(control)
    assert [source.info.source_id for source in sources] == [
        "nvidia:GPU-00000000-0000-4000-8000-000000000000:gpu",
        "nvidia:GPU-00000000-0000-4000-8000-000000000001:gpu",
    ]
    info = sources[0].info
    assert (info.device_name, info.scope, info.energy_source) == ("NVIDIA H200", "gpu", "counter")
    assert info.has_energy
    assert info.has_power
    assert info.max_power_w == 700
    assert info.averaging_s == 0.025
    assert info.memory_total_bytes == 81920 * 2**20
    assert info.facts["driver"] == "580.95"
    assert info.facts["architecture"] == "Hopper"
    assert info.facts["pci"] == "00000000:01:00.0"
    assert all(finding.available for finding in findings)
    assert "instant (field 186), average of 1 s (field 185)" in findings[0].detail


def test_counter_and_power_follow_the_curve(play: Play) -> None:
    control = play(Stage(random_steps(1, 120)))
    source = _open(control)[0][0]
    times_s = np.arange(20.0, 100.0, 0.02)
    energy_j = _poll(source, control, times_s, "energy_j")
    assert energy_j[-1] - energy_j[0] == pytest.approx(control.true_energy_j(20.0, 99.98), abs=2 * 0.1 * 400)
    steps = np.flatnonzero(np.diff(energy_j))
    assert np.diff(times_s[steps]).mean() == pytest.approx(0.1, rel=0.01)
    power_w = _poll(source, control, np.array([50.0]), "power_w")
    assert power_w[0] == pytest.approx(control.true_energy_j(49.975, 50.0) / 0.025, abs=0.001)
    average_w = _poll(source, control, np.array([50.0]), "power_avg_w")
    assert average_w[0] == pytest.approx(control.true_energy_j(49.0, 50.0), abs=0.001)


def test_slow_values_come_twice_a_second_and_are_absent_between(play: Play) -> None:
    control = play(
        Stage(constant(100), settings={"memory_used_mib": 2048, "utilisation": 37, "throttle": 0x24})
    )
    source = _open(control)[0][0]
    times_s = np.arange(20.0, 30.0, 0.05)
    memory = _poll(source, control, times_s, "memory_used_bytes")
    assert 18 <= np.isfinite(memory).sum() <= 21
    assert set(memory[np.isfinite(memory)]) == {2048 * 2**20}
    control.set_time_s(40.0)
    reading = source.read()
    assert reading is not None
    assert (reading.temperature_c, reading.utilisation, reading.sm_clock_mhz) == (41, 0.37, 1410)
    assert reading.throttle_bits == ThrottleReason.POWER_CAP | ThrottleReason.THERMAL


def test_one_call_a_poll_fetches_power_and_counter(play: Play) -> None:
    control = play(Stage(constant(100)))
    source = _open(control)[0][0]
    control.set_time_s(20.0)
    source.read()
    before = control.calls
    for t_s in np.linspace(20.01, 20.4, 100):
        control.set_time_s(float(t_s))
        source.read()
    assert control.calls - before == 100


@pytest.mark.parametrize(
    ("architecture", "name", "averaging_s"),
    [(8, "NVIDIA L40S", 1.0), (7, "NVIDIA A100-SXM4-80GB", 0.025), (5, "Tesla V100", 0.01)],
)
def test_driver_without_power_fields_falls_back_to_the_old_call(
    architecture: int, name: str, averaging_s: float, play: Play
) -> None:
    stage = Stage(
        square(100, 300, 4.0),
        settings={"architecture": architecture, "device_name": name},
        statuses=["nvmlDeviceGetFieldValues 13"],
    )
    control = play(stage)
    source = _open(control)[0][0]
    assert source.info.averaging_s == averaging_s
    assert source.info.facts["power_reading"] == "nvmlDeviceGetPowerUsage"
    control.set_time_s(24.51)
    reading = source.read()
    assert reading is not None
    window_s = 1.0 if averaging_s == 1.0 else 0.025
    assert reading.power_w == pytest.approx(
        control.true_energy_j(24.5 - window_s, 24.5) / window_s, abs=0.001
    )
    assert math.isnan(reading.power_avg_w)
    assert reading.energy_j == pytest.approx(control.true_energy_j(0, 24.5), abs=0.01)


def test_gpu_without_counter_is_a_power_source(play: Play) -> None:
    control = play(Stage(constant(150), statuses=["field:83 3", "nvmlDeviceGetTotalEnergyConsumption 3"]))
    source = _open(control)[0][0]
    assert (source.info.energy_source, source.info.has_energy) == ("power", False)
    reading = source.read()
    assert reading is not None
    assert math.isnan(reading.energy_j)
    assert reading.power_w == 150


def test_nvml_that_answers_not_supported_is_no_source_and_says_so(play: Play) -> None:
    refused = [
        "nvmlDeviceGetFieldValues 3",
        "nvmlDeviceGetPowerUsage 3",
        "nvmlDeviceGetTotalEnergyConsumption 3",
    ]
    sources, findings = _open(play(Stage(constant(150), statuses=refused)))
    assert sources == []
    assert not findings[0].available
    assert "NOT_SUPPORTED for both power and energy" in findings[0].detail


def test_power_that_turns_not_supported_is_absent_not_zero(play: Play) -> None:
    control = play(Stage(constant(150), statuses=["field:186 3 20", "field:83 3 20"]))
    source = _open(control)[0][0]
    control.set_time_s(21.0)
    reading = source.read()
    assert reading is not None
    assert math.isnan(reading.power_w)
    assert math.isnan(reading.energy_j)
    assert reading.power_avg_w == 150


def test_superchip_whose_gpu_scope_refuses_is_read_as_a_module(play: Play) -> None:
    refused = ["field:185:0 3", "field:186:0 3", "nvmlDeviceGetPowerUsage 3"]
    control = play(Stage(constant(450), settings={"device_name": "NVIDIA GH200 480GB"}, statuses=refused))
    sources, findings = _open(control)
    by_scope = {source.info.scope: source.info for source in sources}
    assert by_scope["module"].has_power
    assert not by_scope["module"].has_energy
    assert "includes the CPU" in by_scope["module"].notes[0]
    assert by_scope["gpu"].has_energy
    assert by_scope["gpu"].contained_in == by_scope["module"].source_id
    assert {finding.subject for finding in findings} == {"gpu 0", "gpu 0 module"}
    reading = next(source for source in sources if source.info.scope == "module").read()
    assert reading is not None
    assert reading.power_w == 450


def test_mig_does_not_crash_the_start_and_is_board_level_only(play: Play) -> None:
    control = play(
        Stage(constant(200), settings={"mig": 1}, statuses=["nvmlDeviceGetComputeRunningProcesses_v3 4"])
    )
    sources, findings = _open(control)
    assert "whole board" in findings[0].detail
    control.set_time_s(20.0)
    reading = sources[0].read()
    assert reading is not None
    assert math.isnan(reading.utilisation)
    assert reading.power_w == 200


@pytest.mark.parametrize("status", [15, 16, 9])
def test_gpu_lost_in_the_middle_is_gone_with_a_reason(status: int, play: Play) -> None:
    control = play(Stage(constant(200), statuses=[f"* {status} 30"]))
    source = _open(control)[0][0]
    control.set_time_s(29.9)
    assert source.read() is not None
    control.set_time_s(30.1)
    with pytest.raises(SourceGone, match=r"GPU|driver"):
        source.read()


def test_one_lost_gpu_does_not_hide_the_others(play: Play) -> None:
    sources, findings = _open(play(Stage(constant(200), devices=3, per_device={1: {"status": ["* 15"]}})))
    assert len(sources) == 2
    assert [finding.available for finding in findings] == [True, False, True]
    assert "lost" in findings[1].detail


@pytest.mark.parametrize(
    ("status", "told", "fix"),
    [
        (4, "refuses this user", "usermod"),
        (9, "not loaded", "modprobe"),
        (18, "different versions", "reboot"),
        (999, "NVML says", "smi"),
    ],
)
def test_driver_that_refuses_to_start_says_why_and_what_to_do(
    status: int, told: str, fix: str, play: Play
) -> None:
    sources, findings = _open(play(Stage(constant(200), statuses=[f"init {status}"])))
    assert sources == []
    assert told in findings[0].detail
    assert fix in findings[0].fix


def test_driver_reload_shows_as_a_counter_that_goes_back(play: Play) -> None:
    control = play(Stage(constant(100), settings={"reset_s": 30.0}))
    source = _open(control)[0][0]
    energy_j = _poll(source, control, np.array([29.95, 30.45]), "energy_j")
    assert energy_j[0] == pytest.approx(2990.0)
    assert energy_j[1] == pytest.approx(40.0)
    assert math.isnan(source.info.counter_wrap_j)


def test_processes_on_the_gpu_are_named(play: Play) -> None:
    control = play(Stage(constant(100), settings={"pid": 4321, "process_mib": 512}))
    sources, findings = _open(control)
    assert isinstance(sources[0], NvidiaSource)
    assert [(p.pid, p.memory_bytes) for p in sources[0].processes()] == [(4321, 512 * 2**20)]
    assert "in use by pid 4321" in findings[0].detail


_DOCTOR = (
    "from harness_backends.telemetry.nvidia import NvidiaProvider as P; print(*P().discover()[1], sep='\\n')"
)


@pytest.mark.parametrize("with_library", [True, False])
def test_library_is_found_by_the_dynamic_linker_or_its_absence_explained(
    with_library: bool, tmp_path: Path
) -> None:
    if not with_library and find_library("nvidia-ml"):
        pytest.skip("a real NVIDIA driver is installed here")
    build_library("libnvidia-ml.so.1")
    stage = Stage(constant(250)).write(tmp_path)
    environment = os.environ | {
        "HARNESS_STANDIN": str(stage),
        "LD_LIBRARY_PATH": str(BUILD if with_library else tmp_path),
    }
    ran = subprocess.run(
        [sys.executable, "-c", _DOCTOR], env=environment, capture_output=True, text=True, check=True
    )
    if with_library:
        assert "available=True" in ran.stdout
    else:
        assert "available=False" in ran.stdout
        assert "install the NVIDIA driver" in ran.stdout
