from __future__ import annotations

import math
import plistlib
from pathlib import Path

import pytest
from harness_backends.telemetry.apple_frames import BadFrameError, FrameCutter, parse_frame

_SEEN = [
    (
        "m1-macos13.3-22E252-MacBookPro17_1-0.5s",
        {"soc": 0.064, "cpu": 0.054, "gpu": 0.010, "ane": 0.0},
        1 - 0.940204,
    ),
    (
        "m2ultra-macos14.4.1-23E224-Mac14_14-gpu71W",
        {"soc": 73.462, "cpu": 0.855, "gpu": 72.607, "ane": 0.0},
        1 - 0.0536782,
    ),
    (
        "derived-trimmed-m4max-macos26.2-Mac16_5-1frame",
        {"soc": 3.325, "cpu": 3.049, "gpu": 0.276, "ane": 0.0},
        1 - 0.877343,
    ),
    ("intel-osx10.9-13F34-VMware-nopower", {}, math.nan),
]


@pytest.mark.parametrize(("name", "joules", "active"), _SEEN, ids=[name for name, _, _ in _SEEN])
def test_recorded_frames_give_the_right_rails(
    name: str, joules: dict[str, float], active: float, shared_data: Path
) -> None:
    data = (shared_data / "powermetrics" / f"{name}.plist").read_bytes()
    (piece,) = FrameCutter().feed(data)
    frame = parse_frame(piece)
    assert {rail: found.energy_j for rail, found in frame.rails.items()} == pytest.approx(joules, abs=1e-3)
    assert frame.gpu_active == pytest.approx(active, nan_ok=True)
    assert frame.elapsed_ns == plistlib.loads(data.replace(b"\0", b""))["elapsed_ns"]


def test_recorded_gpu_only_stream_of_five_frames(shared_data: Path) -> None:
    data = (shared_data / "powermetrics" / "m4pro-macos15.5-24F74-Mac16_8-gpuonly-5frames.plist").read_bytes()
    cutter = FrameCutter()
    frames = [
        parse_frame(piece)
        for start in range(0, len(data), 1000)
        for piece in cutter.feed(data[start : start + 1000])
    ]
    assert [frame.rails["gpu"].energy_j for frame in frames] == pytest.approx(
        [0.019, 0.107, 0.788, 0.146, 0.126]
    )
    assert {frame.rails["gpu"].key for frame in frames} == {"gpu.gpu_energy"}
    assert all(set(frame.rails) == {"gpu"} for frame in frames)
    assert cutter.is_empty


def _plist(body: str) -> bytes:
    return f'<?xml version="1.0"?><plist version="1.0"><dict>{body}</dict></plist>'.encode()


_TIME = "<key>elapsed_ns</key><integer>2000000000</integer>"


def _processor(body: str) -> bytes:
    return _plist(f"{_TIME}<key>processor</key><dict>{body}</dict>")


@pytest.mark.parametrize(
    ("body", "rail", "energy_j", "key"),
    [
        (
            "<key>combined_power</key><real>1500</real><key>package_energy</key><integer>9</integer>",
            "soc",
            3.0,
            "combined_power",
        ),
        ("<key>package_energy</key><integer>2500</integer>", "soc", 2.5, "package_energy"),
        (
            "<key>package_joules</key><real>7.5</real><key>package_watts</key><real>9</real>",
            "package",
            7.5,
            "package_joules",
        ),
        ("<key>package_watts</key><real>4</real>", "package", 8.0, "package_watts"),
        ("<key>gpu_power</key><integer>100</integer>", "gpu", 0.2, "gpu_power"),
        ("<key>igpu_watts</key><real>2</real>", "gpu", 4.0, "igpu_watts"),
        (
            "<key>cpu_energy</key><real>nan</real><key>cpu_power</key><real>500</real>",
            "cpu",
            1.0,
            "cpu_power",
        ),
        (
            "<key>ane_energy</key><integer>-1</integer><key>ane_power</key><real>250</real>",
            "ane",
            0.5,
            "ane_power",
        ),
    ],
)
def test_key_orders_of_macos_12_to_26_and_intel(body: str, rail: str, energy_j: float, key: str) -> None:
    frame = parse_frame(_processor(body))
    assert frame.rails[rail].energy_j == pytest.approx(energy_j)
    assert frame.rails[rail].key == key


def test_a_rail_of_nan_is_absent_and_not_zero() -> None:
    assert parse_frame(_processor("<key>cpu_power</key><real>nan</real>")).rails == {}


def test_duplicate_keys_and_a_nan_load_do_no_harm() -> None:
    twice = "<key>idle_ratio</key><real>0.5</real><key>idle_ratio</key><real>nan</real>"
    frame = parse_frame(
        _plist(f"{_TIME}<key>gpu</key><dict>{twice}<key>gpu_energy</key><integer>6</integer></dict>")
    )
    assert math.isnan(frame.gpu_active)
    assert frame.rails["gpu"].energy_j == pytest.approx(0.006)


@pytest.mark.parametrize(
    "data",
    [b"", b"text", b"<plist><dict><key>a</dict></plist>", _plist(""), b"<plist><integer>1</integer></plist>"],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrameError):
        parse_frame(data)


def test_a_frame_is_complete_before_the_nul_of_the_next_one() -> None:
    cutter = FrameCutter()
    data = _plist(_TIME) + b"\n"
    assert cutter.feed(data[:-3]) == []
    assert len(cutter.feed(data[-3:])) == 1
    assert len(cutter.feed(b"\0" + data)) == 1
    assert cutter.is_empty


def test_arrays_are_skipped_and_their_closing_tags_matched() -> None:
    nested = "<key>clusters</key><array><dict><key>a</key><array><integer>1</integer></array></dict><array/></array>"
    frame = parse_frame(_processor(nested + "<key>cpu_power</key><real>1000</real>"))
    assert frame.rails["cpu"].energy_j == pytest.approx(2.0)


def test_an_endless_stream_without_a_frame_does_not_fill_the_memory() -> None:
    cutter = FrameCutter()
    for _ in range(8):
        assert cutter.feed(b"x" * 1_000_000) == []
    with pytest.raises(BadFrameError, match="without the end of a frame"):
        cutter.feed(b"x")
    assert cutter.is_empty
