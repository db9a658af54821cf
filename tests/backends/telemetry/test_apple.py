from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from harness_backends.telemetry.apple import AppleProvider
from harness_backends.telemetry.source import Finding, Reading, Source, SourceGone

from tests.standins.build import HERE

INTERVAL_MS = 40
Play = Callable[..., tuple[list[Source], list[Finding]]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    opened: list[Source] = []

    def begin(**told: object) -> tuple[list[Source], list[Finding]]:
        path = tmp_path / "powermetrics.json"
        path.write_text(json.dumps({"log": str(tmp_path / "truth.jsonl"), **told}))
        monkeypatch.setenv("HARNESS_STANDIN_POWERMETRICS", str(path))
        monkeypatch.setenv("PATH", f"{HERE / 'bin'}{os.pathsep}{os.environ['PATH']}")
        sources, findings = AppleProvider(INTERVAL_MS, (0.05, 0.05), stall_s=0.6).discover()
        opened.extend(sources)
        return sources, findings

    yield begin
    for source in opened:
        source.close()


def _collect(source: Source, count: int, deadline_s: float = 20.0) -> list[Reading]:
    readings: list[Reading] = []
    end = time.monotonic() + deadline_s
    while len(readings) < count:
        assert time.monotonic() < end, f"{len(readings)} of {count} frames before the deadline"
        reading = source.read()
        if reading is None:
            time.sleep(0.005)
        else:
            readings.append(reading)
    return readings


def _truth(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]


def _own_frame(reading: Reading, truth: list[dict[str, float]]) -> dict[str, float]:
    """Return the frame that a reading was made of: no two last equally long, to the nanosecond."""
    (frame,) = [row for row in truth if row["end_ns"] - row["start_ns"] == reading.interval_ns]
    return frame


def test_rails_are_sources_of_their_own_inside_the_soc(play: Play) -> None:
    sources, findings = play()
    inside = {source.info.source_id: source.info.contained_in for source in sources}
    assert inside == {
        "apple:soc": "",
        "apple:cpu": "apple:soc",
        "apple:gpu": "apple:soc",
        "apple:ane": "apple:soc",
    }
    assert all(source.info.energy_source == "frame" for source in sources)
    assert all("StandIn1,1" in finding.detail and finding.available for finding in findings)


def test_every_rail_keeps_its_true_energy(play: Play, tmp_path: Path) -> None:
    ane = [[0.0, 0.0], [0.25, 9.0]]
    sources, _ = play(rails={"cpu": 3.0, "gpu": [[0, 10.0], [0.3, 60.0]], "ane": ane})
    assert {source.info.scope for source in sources} == {"soc", "cpu", "gpu", "ane"}
    for source in sources:
        rail = source.info.scope
        readings = _collect(source, 12)
        truth = _truth(tmp_path)
        late_ns = [reading.t_ns - _own_frame(reading, truth)["end_ns"] for reading in readings]
        assert min(late_ns) > 0
        assert np.median(late_ns) < 30e6, "a busy machine may be late now and then"
        for earlier, later in itertools.pairwise(readings):
            frame = _own_frame(later, truth)
            joules: dict[str, float] = frame["joules"]  # type: ignore[assignment]
            expected_j = sum(joules.values()) if rail == "soc" else joules[rail]
            assert later.energy_j - earlier.energy_j == pytest.approx(expected_j, abs=0.002)
            assert later.power_w == pytest.approx(
                (later.energy_j - earlier.energy_j) / later.interval_ns * 1e9, rel=1e-6
            )


def test_an_ane_load_is_not_lost_on_the_gpu_rail(play: Play) -> None:
    sources, _ = play(rails={"cpu": 0.5, "gpu": 0.01, "ane": 12.0})
    by_scope = {source.info.scope: _collect(source, 3)[-1] for source in sources}
    assert by_scope["ane"].power_w == pytest.approx(12.0, rel=0.05)
    assert by_scope["soc"].power_w == pytest.approx(12.51, rel=0.05)


def test_two_readers_of_one_stdout_both_get_every_frame(play: Play) -> None:
    sources, _ = play()
    children = [child for child in psutil.Process().children() if "powermetrics" in " ".join(child.cmdline())]
    assert len(children) == 1
    stamps = [{reading.t_ns for reading in _collect(source, 8)} for source in sources[:2]]
    shared = stamps[0] & stamps[1]
    assert len(shared) >= 6


def test_a_stream_that_dies_gives_absent_values_and_never_the_last_one_again(
    play: Play, tmp_path: Path
) -> None:
    sources, _ = play(die_after=5, die_times=1)
    source = sources[0]
    readings = _collect(source, 8)
    assert len({reading.t_ns for reading in readings}) == 8
    truth = _truth(tmp_path)
    frames = [_own_frame(reading, truth) for reading in readings]
    holes_ns = [later["start_ns"] - earlier["end_ns"] for earlier, later in itertools.pairwise(frames)]
    # The restart leaves a hole that no frame covers; everywhere else one frame follows on the other.
    assert [hole > 40e6 for hole in holes_ns].count(True) == 1
    assert sorted(holes_ns)[-2] < 1e6
    told_ns = [
        later.t_ns - later.interval_ns - earlier.t_ns for earlier, later in itertools.pairwise(readings)
    ]
    assert told_ns[holes_ns.index(max(holes_ns))] > 40e6
    assert all(reading.power_w == pytest.approx(24.5, rel=0.05) for reading in readings)


def test_a_stream_that_is_dead_beyond_its_restarts_is_gone(play: Play) -> None:
    sources, _ = play(die_after=4, die_times=1)
    first = _collect(sources[0], 1)
    play(refuse="powermetrics: cannot get the sensors")
    with pytest.raises(SourceGone, match="died 10 times in a row: powermetrics: cannot get the sensors"):
        _collect(sources[0], 100)
    assert first[0].energy_j > 0


def test_a_stream_that_falls_silent_is_started_again(play: Play) -> None:
    sources, _ = play(stall_after=4, die_times=1)
    readings = _collect(sources[0], 8)
    steps_ns = np.diff([reading.t_ns for reading in readings])
    assert (steps_ns > 0.5e9).sum() == 1
    assert all(reading.power_w == pytest.approx(24.5, rel=0.05) for reading in readings)


def test_a_broken_frame_is_skipped(play: Play) -> None:
    sources, _ = play(garbage_at=3)
    readings = _collect(sources[0], 8)
    intervals = [later.t_ns - earlier.t_ns for earlier, later in itertools.pairwise(readings)]
    assert sum(interval > 1.6 * INTERVAL_MS * 1e6 for interval in intervals) <= 2


def test_frames_that_come_together_keep_their_distance(play: Play, tmp_path: Path) -> None:
    sources, _ = play(together=3)
    readings = _collect(sources[0], 6)
    _collect(sources[0], 1)  # so that the log has all of the six
    for earlier, later in itertools.pairwise(readings[3:]):
        assert later.t_ns - earlier.t_ns == later.interval_ns
    truth = _truth(tmp_path)
    late_ns = [reading.t_ns - _own_frame(reading, truth)["end_ns"] for reading in readings]
    assert min(late_ns) > 0
    assert np.median(late_ns) < 30e6


def test_frames_in_small_pieces_are_put_together(play: Play) -> None:
    sources, _ = play(slice_bytes=100)
    assert all(reading.power_w == pytest.approx(24.5, rel=0.05) for reading in _collect(sources[0], 4))


@pytest.mark.parametrize(
    ("layout", "scopes"),
    [
        ("gpu-only", {"gpu"}),
        ("macos12", {"soc", "cpu", "gpu", "ane"}),
        ("intel", {"package"}),
        ("none", set()),
    ],
)
def test_every_generation_tells_its_own_rails(layout: str, scopes: set[str], play: Play) -> None:
    sources, findings = play(layout=layout)
    assert {source.info.scope for source in sources} == scopes
    if not scopes:
        assert "tells no power" in findings[0].detail


def test_a_macos_that_does_not_know_a_sampler_is_asked_for_less(play: Play) -> None:
    sources, _ = play(samplers=["cpu_power", "gpu_power"])
    assert len(sources) == 4


def test_recorded_frames_play_through_the_whole_path(play: Play, shared_data: Path) -> None:
    folder = shared_data / "powermetrics"
    recorded = str(folder / "m2ultra-macos14.4.1-23E224-Mac14_14-gpu71W.plist")
    sources, _ = play(replay=[recorded] * 4)
    soc = next(source for source in sources if source.info.scope == "soc")
    reading = _collect(soc, 2)[-1]
    assert reading.power_w == pytest.approx(71.7598, rel=1e-4)
    assert reading.interval_ns == 1023721416
    assert math.isnan(reading.utilisation)


def test_closing_the_last_rail_ends_the_child(play: Play) -> None:
    sources, _ = play()
    (child,) = [child for child in psutil.Process().children() if "powermetrics" in " ".join(child.cmdline())]
    for source in sources[:-1]:
        source.close()
    assert child.is_running()
    sources[-1].close()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


_OPEN_AND_WAIT = """
import sys, time
from harness_backends.telemetry.apple import AppleProvider
sources, findings = AppleProvider(40).discover()
print(len(sources), flush=True)
sys.stdin.read()
"""


def test_the_child_does_not_outlive_an_agent_that_is_killed(play: Play) -> None:
    for source in play()[0]:
        source.close()
    agent = subprocess.Popen(
        [sys.executable, "-c", _OPEN_AND_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"4\n"
    (child,) = psutil.Process(agent.pid).children()
    agent.kill()
    agent.communicate()
    psutil.wait_procs([child], timeout=20)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


_AS_NOBODY = """
import os
from harness_backends.telemetry.apple import AppleProvider
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
sources, findings = AppleProvider().discover()
print(len(sources), findings[0].detail, findings[0].fix, sep="@@")
"""


def _ask_as_nobody(folder: Path, powermetrics: str, sudo: str) -> list[str]:
    folder.mkdir()
    for name, script in (("powermetrics", powermetrics), ("sudo", sudo)):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    for parent in (folder, *folder.parents):
        if "pytest" in str(parent) and parent.stat().st_uid == os.getuid():
            parent.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-c", _AS_NOBODY]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return ran.stdout.strip().split("@@")


def test_without_root_or_sudo_the_refusal_is_clear(tmp_path: Path) -> None:
    says = "echo 'sudo: a password is required' >&2; exit 1"
    count, detail, fix = _ask_as_nobody(
        tmp_path / "bin", "echo 'must be invoked as the superuser' >&2; exit 1", says
    )
    assert count == "0"
    assert "sudo would ask for a password" in detail
    assert "NOPASSWD: /usr/bin/powermetrics" in fix


_FRAME = """<?xml version="1.0"?><plist version="1.0"><dict><key>elapsed_ns</key><integer>200000000</integer>
<key>hw_model</key><string>Mac16,5</string><key>processor</key><dict><key>combined_power</key><real>900</real>
</dict></dict></plist>"""


def test_sudo_that_asks_for_nothing_is_used(tmp_path: Path) -> None:
    # In shell, as an ordinary user need not be able to read this checkout or its Python.
    play = f"while cat <<'FRAME'\n{_FRAME}\nFRAME\ndo sleep 0.2; done"
    sudo = '[ "$1" = -n ] || exit 9\nshift\nexec "$@"'
    count, detail, _ = _ask_as_nobody(tmp_path / "bin", play, sudo)
    assert count == "1"
    assert "Mac16,5" in detail


def test_a_machine_that_is_no_mac_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sources, findings = AppleProvider().discover()
    assert sources == []
    assert "powermetrics" in findings[0].detail
