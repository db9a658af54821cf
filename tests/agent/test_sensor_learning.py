from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from harness_agent.learning import CONTINUOUS_HZ, LARGEST_HZ, LearnedSource, learn
from harness_agent.sensor_timing import averaging_s, counter_fault, update_period_s
from harness_backends.telemetry.amd import AmdProvider
from harness_backends.telemetry.host import HostSource
from harness_backends.telemetry.nvidia import NvidiaProvider
from harness_backends.telemetry.rapl import RaplProvider
from harness_backends.telemetry.source import Source

from tests.standins.play import PowerCurve, Stage, constant, random_steps, square
from tests.standins.powercap_tree import FakeZone, two_socket_xeon
from tests.standins.stage import Control, amdsmi_on_stage, nvml_on_stage

LOAD = random_steps(11, 60)
_LEVELS = np.random.default_rng(4).uniform(60.0, 600.0, 200)
RESTLESS = PowerCurve(np.arange(200) * 0.17, _LEVELS)
"""A load that moves all the time, so that a second of it shows how a sensor averages."""


class StageClock:
    """The stand-in's own time, moved on by whoever waits."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.now_ns = control.now_ns

    def wait_until(self, t_ns: int, stop: threading.Event) -> None:
        self._control.set_time_s(t_ns * 1e-9)


Watch = Callable[..., tuple[Source, list[str]]]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    with ExitStack() as stack:

        def look(
            curve: PowerCurve = LOAD,
            vendor: str = "nvidia",
            statuses: tuple[str, ...] = (),
            **settings: object,
        ):
            put = nvml_on_stage if vendor == "nvidia" else amdsmi_on_stage
            control = stack.enter_context(
                put(Stage(curve, settings=settings, statuses=statuses), tmp_path / "stage")
            )
            control.set_time_s(10.0)
            provider = (NvidiaProvider if vendor == "nvidia" else AmdProvider)(control.now_ns)
            learned = learn(provider.discover()[0], clock=StageClock(control))
            return learned.sources[0], [finding.detail for finding in learned.findings]

        yield look


@pytest.mark.parametrize("period_s", [0.02, 0.1, 0.10115, 0.2])
@pytest.mark.parametrize("phase_s", [0.0, 0.013, 0.077])
def test_update_periods_are_found(period_s: float, phase_s: float, watch: Watch) -> None:
    source, told = watch(
        counter_period_s=period_s, counter_phase_s=phase_s, power_phase_s=phase_s, noise_w=0.5
    )
    assert source.info.counter_period_s == pytest.approx(period_s, rel=0.02)
    assert source.info.power_period_s == pytest.approx(0.1, rel=0.02)
    assert "counter changes every" in told[0]
    assert source.info.poll_hz >= 2 / min(period_s, 0.1)
    assert source.info.poll_hz <= LARGEST_HZ


def test_poll_rate_tells_every_change_of_the_usual_sensor(watch: Watch) -> None:
    source, _ = watch()
    assert source.info.poll_hz == pytest.approx(25, rel=0.03)


def test_a_tick_that_repeats_its_value_does_not_double_the_period() -> None:
    t_s = np.arange(0, 2, 0.002)
    ticks = np.floor(t_s / 0.1)
    values = ticks.copy()
    values[(ticks == 5) | (ticks == 12)] -= 1
    assert update_period_s(t_s, values) == pytest.approx(0.1, rel=0.01)


def test_idle_power_that_never_changes_leaves_its_period_unknown(watch: Watch) -> None:
    source, told = watch(constant(60))
    assert math.isnan(source.info.power_period_s)
    assert source.info.counter_period_s == pytest.approx(0.1, rel=0.02)
    assert source.info.averaging_s == 0.025
    assert "power changes" not in told[0]


def test_average_and_instant_readings_are_told_apart(watch: Watch) -> None:
    old_call = ("nvmlDeviceGetFieldValues 3",)
    slow, _ = watch(
        RESTLESS, statuses=old_call, architecture=8, device_name="NVIDIA L40S", average_window_s=1.0
    )
    assert slow.info.averaging_s == 1.0
    assert not any("behaves like" in note for note in slow.info.notes)


def test_a_reading_that_is_not_averaged_as_published_is_noted(watch: Watch) -> None:
    surprising, _ = watch(
        RESTLESS,
        statuses=("nvmlDeviceGetFieldValues 3",),
        device_name="NVIDIA A100",
        power_window_s=1.0,
    )
    assert surprising.info.averaging_s > 0.4
    assert "behaves like an average" in surprising.info.notes[-1]


@pytest.mark.parametrize(("window_s", "low", "high"), [(0.025, 0.1, 0.1), (0.1, 0.1, 0.1), (1.0, 0.4, 3.0)])
def test_the_averaging_window_is_found_where_nothing_is_published(
    window_s: float, low: float, high: float, watch: Watch
) -> None:
    source, _ = watch(RESTLESS, vendor="amd", power_window_s=window_s)
    assert low * 0.98 <= source.info.averaging_s <= high * 1.02


def test_averaging_stays_unknown_where_the_load_does_not_move() -> None:
    t_s = np.arange(0, 2, 0.002)
    energy_j = np.floor(t_s / 0.1) * 10.0
    assert math.isnan(averaging_s(t_s, np.full(len(t_s), 100.0), energy_j, 0.1))


@pytest.mark.parametrize("vendor", ["nvidia", "amd"])
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"freeze_s": 5.0}, "stands still"),
        ({"counter_gain": 0.001}, "J where the power"),
        ({"reset_s": 10.5}, "backwards"),
    ],
    ids=["frozen", "tiny", "backward"],
)
def test_counter_frozen_tiny_or_backward_is_not_used(
    vendor: str, fault: dict[str, float], told: str, watch: Watch
) -> None:
    source, findings = watch(vendor=vendor, **fault)
    assert told in findings[1]
    assert (source.info.has_energy, source.info.energy_source) == (False, "power")
    assert "The energy counter is not used" in source.info.notes[-1]
    reading = source.read()
    assert reading is not None
    assert math.isnan(reading.energy_j)
    assert reading.power_w > 0


def test_counter_and_power_of_one_gpu_that_disagree_by_less_are_both_kept(watch: Watch) -> None:
    """187 J against 327 J: which one is right is decided with the bounds of the whole run, not in a second."""
    source, _ = watch(square(80, 300, 0.37), counter_gain=187 / 327)
    assert source.info.has_energy
    reading = source.read()
    assert reading is not None
    assert reading.energy_j > 0
    assert reading.power_w > 0


def test_counter_without_power_cannot_be_doubted() -> None:
    t_s = np.linspace(0, 1, 100)
    assert counter_fault(t_s, np.full(100, np.nan), np.zeros(100)) == ""


def test_a_gpu_lost_while_it_is_watched_is_left_to_the_sampler(watch: Watch) -> None:
    source, _ = watch(statuses=("* 15 10.3",))
    assert isinstance(source, LearnedSource)
    assert source.info.has_energy


def test_rapl_that_changes_at_every_poll_is_polled_no_faster_than_it_pays(tmp_path: Path) -> None:
    two_socket_xeon(tmp_path)
    zone = FakeZone(tmp_path / "intel-rapl:0")
    stop = threading.Event()

    def count() -> None:
        begin_s = time.monotonic()
        while not stop.is_set():
            zone.set_energy_j((time.monotonic() - begin_s) * 100)

    counting = threading.Thread(target=count)
    counting.start()
    try:
        learned = learn([*RaplProvider(tmp_path).discover()[0], HostSource()], seconds=0.3)
    finally:
        stop.set()
        counting.join()
    running, still = learned.sources[0].info, learned.sources[2].info
    assert 0 < running.counter_period_s < 0.02
    assert running.poll_hz >= CONTINUOUS_HZ
    assert math.isnan(still.counter_period_s)
    assert learned.sources[-1].info.source_id == "host:memory"
    assert len(learned.findings) == 4


def test_a_value_that_changes_at_every_poll_has_the_polls_period_or_less() -> None:
    t_s = np.arange(0, 1, 0.002)
    assert update_period_s(t_s, t_s * 50.0) == pytest.approx(0.002)
