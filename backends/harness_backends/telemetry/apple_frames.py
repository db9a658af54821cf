"""powermetrics' property lists: cutting the stream into frames, and finding the rails in one."""

from __future__ import annotations

import math
import plistlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.parsers.expat import ExpatError

_END = b"</plist>"
_ARRAY = re.compile(rb"<(/?)array>")
_Plist = dict[str, object]
LARGEST_FRAME_BYTES = 8_000_000
"""A frame with all tasks is half a megabyte; more without an end is not a stream of frames."""


class BadFrameError(Exception):
    """Bytes that are not a powermetrics frame; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Rail:
    """Energy of one rail in one frame, J, and the key it was read from."""

    energy_j: float
    key: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One interval as powermetrics saw it; a rail that it did not tell is not in `rails`."""

    elapsed_ns: int
    rails: Mapping[str, Rail]
    """By `soc`, `package`, `cpu`, `gpu`, `ane`."""
    gpu_active: float
    """Share of the interval in which the GPU was not idle, 0 to 1; NaN where untold."""
    gpu_clock_mhz: float
    thermal_pressure: str
    hw_model: str
    os_build: str


class FrameCutter:
    """Cuts a byte stream into frames, each as soon as its last byte is there.

    The frames are separated by NUL, but that NUL comes with the next frame: waiting for it would hold
    every frame back by an interval. So a frame ends with its closing tag.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes and return the frames that they complete.

        Raises:
            BadFrameError: far more bytes came than any frame has.
        """
        searched = max(0, len(self._buffer) - len(_END))
        self._buffer += data
        frames: list[bytes] = []
        while (end := self._buffer.find(_END, searched)) >= 0:
            frames.append(bytes(self._buffer[: end + len(_END)]).lstrip(b"\0\r\n "))
            del self._buffer[: end + len(_END)]
            searched = 0
        if len(self._buffer) > LARGEST_FRAME_BYTES:
            self._buffer.clear()
            msg = f"{LARGEST_FRAME_BYTES} bytes without the end of a frame"
            raise BadFrameError(msg)
        return frames

    @property
    def is_empty(self) -> bool:
        """Whether no part of a next frame has come."""
        return not self._buffer.strip(b"\0\r\n ")


def parse_frame(data: bytes) -> Frame:
    """Read one frame of any macOS from 10.9 to 26, Apple silicon or Intel.

    Raises:
        BadFrameError: it is no property list, or tells no elapsed time.
    """
    try:
        # Duplicate keys (macOS 13 to 15) are no fault to plistlib: it keeps the last one.
        top = plistlib.loads(_without_arrays(data), fmt=plistlib.FMT_XML)
    except (ExpatError, ValueError, TypeError, AttributeError, IndexError) as error:
        msg = f"not a property list: {error}"
        raise BadFrameError(msg) from error
    elapsed_ns = _number(top, "elapsed_ns") if isinstance(top, dict) else math.nan
    if not elapsed_ns > 0:
        msg = "a frame without elapsed_ns"
        raise BadFrameError(msg)
    gpu = _dictionary(top, "gpu")
    idle = _number(gpu, "idle_ratio")
    return Frame(
        elapsed_ns=int(elapsed_ns),
        rails=_rails(top, _dictionary(top, "processor"), gpu, elapsed_ns * 1e-9),
        gpu_active=1.0 - idle if 0 <= idle <= 1 else math.nan,
        gpu_clock_mhz=_number(gpu, "freq_hz"),  # named Hz, told in MHz on every frame seen
        thermal_pressure=str(top.get("thermal_pressure", "")),
        hw_model=str(top.get("hw_model", "")),
        os_build=str(top.get("kern_osversion", "")),
    )


def _rails(top: _Plist, processor: _Plist, gpu: _Plist, seconds: float) -> dict[str, Rail]:
    """Find each rail under the first key that holds it: (dictionary, key, joules per unit)."""
    milli, per_milliwatt, per_watt = 1e-3, 1e-3 * seconds, seconds
    orders: dict[str, list[tuple[_Plist, str, float]]] = {
        "soc": [
            (processor, "combined_power", per_milliwatt),
            (processor, "package_energy", milli),  # macOS 12 and before, Apple silicon
            (
                _dictionary(top, "processor_power"),
                "actual",
                per_milliwatt,
            ),  # read by others, in no frame seen
        ],
        "package": [(processor, "package_joules", 1.0), (processor, "package_watts", per_watt)],  # Intel
        "cpu": [
            (processor, "cpu_energy", milli),
            (processor, "cpu_power", per_milliwatt),
            (processor, "cpu_joules", 1.0),
            (processor, "cpu_watts", per_watt),
        ],
        # The two GPU energies of one frame are sampled at different moments: one of them, never a mix.
        "gpu": [
            (processor, "gpu_energy", milli),
            (processor, "gpu_power", per_milliwatt),
            (gpu, "gpu_energy", milli),
            (processor, "igpu_joules", 1.0),
            (processor, "igpu_watts", per_watt),
        ],
        "ane": [(processor, "ane_energy", milli), (processor, "ane_power", per_milliwatt)],
    }
    rails: dict[str, Rail] = {}
    for name, order in orders.items():
        for holder, key, joules in order:
            value = _number(holder, key)
            if value >= 0:
                rails[name] = Rail(value * joules, key if holder is not gpu else f"gpu.{key}")
                break
    return rails


def _without_arrays(data: bytes) -> bytes:
    """Empty every array: nothing needed is inside one, and parsing them takes 50 times as long."""
    kept: list[bytes] = []
    depth, position = 0, 0
    for match in _ARRAY.finditer(data):
        if match[1]:
            depth -= 1
            if depth == 0:
                position = match.start()
        else:
            if depth == 0:
                kept.append(data[position : match.end()])
            depth += 1
    kept.append(data[position:])
    return b"".join(kept)


def _dictionary(holder: _Plist, key: str) -> _Plist:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def _number(holder: _Plist, key: str) -> float:
    """Return a finite number, integer or real; NaN for everything else, as powermetrics itself prints nan."""
    value = holder.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return math.nan
