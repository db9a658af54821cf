"""Why an AMD GPU throttles, and which processes use it, as each generation tells it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness_backends.telemetry.amd import AmdProvider
from harness_backends.telemetry.amd_throttle import throttle_reason
from harness_backends.telemetry.source import Finding, ListsProcesses, Source, ThrottleReason

from tests.standins.play import Stage, constant
from tests.standins.stage import Control, Play, amdsmi_on_stage, stages_of

MI300 = {"device_name": "AMD Instinct MI300X", "limit_w": 750}
POWER_CAP, THERMAL = ThrottleReason.POWER_CAP, ThrottleReason.THERMAL


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    with stages_of(amdsmi_on_stage, tmp_path / "stage") as begin:
        yield begin


def _open(control: Control) -> tuple[list[Source], list[Finding]]:
    return AmdProvider(control.now_ns).discover()


def _throttle_bits(source: Source, control: Control, t_s: float) -> int:
    """Return what a poll tells at a time when the slow values are due."""
    control.set_time_s(t_s)
    reading = source.read()
    assert reading is not None
    return reading.throttle_bits


@pytest.mark.parametrize(
    ("limits", "expected"), [(1, POWER_CAP), (4, THERMAL), (2 | 16, THERMAL), (1 | 8, POWER_CAP | THERMAL)]
)
def test_mi300_tells_by_its_counts_which_limit_held_it_since_the_last_look(
    limits: int, expected: int, play: Play
) -> None:
    settings = {**MI300, "throttle": limits, "throttle_from_s": 20.0}
    control = play(Stage(constant(640), settings=settings))
    source = _open(control)[0][0]
    assert source.info.facts["throttle_reading"] == "residencies"
    assert _throttle_bits(source, control, 12.0) == 0
    assert _throttle_bits(source, control, 19.0) == 0
    assert _throttle_bits(source, control, 20.5) == expected
    assert _throttle_bits(source, control, 21.1) == expected


def test_a_limit_that_ended_is_told_no_more(play: Play) -> None:
    settings = {**MI300, "throttle": 1, "throttle_from_s": 12.0, "throttle_until_s": 14.0}
    control = play(Stage(constant(640), settings=settings))
    source = _open(control)[0][0]
    assert _throttle_bits(source, control, 13.0) == POWER_CAP
    assert _throttle_bits(source, control, 14.6) == POWER_CAP, (
        "it held in a part of the time since the last look"
    )
    assert _throttle_bits(source, control, 15.2) == 0


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, 0),
        (1 << 0, POWER_CAP),
        (1 << 7, POWER_CAP),
        (1 << 16, ThrottleReason.HARDWARE),
        (1 << 36, THERMAL),
        (1 << 47, THERMAL),
        (1 << 56, ThrottleReason.OTHER),
        (1 << 2 | 1 << 34 | 1 << 57, POWER_CAP | THERMAL | ThrottleReason.OTHER),
    ],
)
def test_bits_of_older_gpus_are_those_of_the_kernels_header(status: int, expected: int, play: Play) -> None:
    assert throttle_reason(status) == expected
    control = play(Stage(constant(200), settings={"generation": "mi200", "throttle": status}))
    source = _open(control)[0][0]
    assert source.info.facts["throttle_reading"] == "bits"
    assert _throttle_bits(source, control, 12.0) == expected


def test_a_gpu_that_tells_only_that_it_throttles_gives_no_reason(play: Play) -> None:
    control = play(Stage(constant(200), settings={"generation": "flag", "throttle": 4}))
    source = _open(control)[0][0]
    assert source.info.facts["throttle_reading"] == "flag"
    assert _throttle_bits(source, control, 12.0) == ThrottleReason.OTHER


def test_a_gpu_without_a_metrics_table_says_that_its_throttling_is_unknown(play: Play) -> None:
    control = play(Stage(constant(640), settings=MI300, statuses=["amdsmi_get_gpu_metrics_info 2"]))
    sources, findings = _open(control)
    assert sources[0].info.facts["throttle_reading"] == "none"
    assert "does not tell why it throttles" in findings[0].detail
    assert _throttle_bits(sources[0], control, 12.0) == 0


def test_a_gpu_lists_its_processes_and_none_of_its_neighbours(play: Play) -> None:
    own = {
        0: {"pid": 41, "process_mib": 900, "idle_pid": 42},
        1: {"pid": 42, "process_mib": 900, "idle_pid": 41},
    }
    sources, findings = _open(play(Stage(constant(640), devices=2, settings=MI300, per_device=own)))
    lists = [source.process_ids() for source in sources if isinstance(source, ListsProcesses)]
    assert lists == [[41], [42]]
    assert "in use by pid 41" in findings[0].detail


def test_processes_of_all_partitions_share_the_package(play: Play) -> None:
    own = {
        index: {"partition": index, "physical": 0, "pid": 50 + index, "process_mib": 1} for index in range(3)
    }
    sources, _ = _open(play(Stage(constant(640), devices=3, settings=MI300, per_device=own)))
    assert [source.process_ids() for source in sources if isinstance(source, ListsProcesses)] == [
        [50, 51, 52]
    ]


@pytest.mark.parametrize(
    ("settings", "statuses", "expected"),
    [
        ({"pid": 7}, (), [7]),  # no memory told of any: who is listed counts
        ({"pid": 7, "process_mib": 5}, ("amdsmi_get_gpu_process_list 10",), []),
        ({}, (), []),
    ],
)
def test_process_lists_that_tell_little_or_nothing(
    settings: dict[str, int], statuses: tuple[str, ...], expected: list[int], play: Play
) -> None:
    source = _open(play(Stage(constant(640), settings={**MI300, **settings}, statuses=statuses)))[0][0]
    assert isinstance(source, ListsProcesses)
    assert source.process_ids() == expected
