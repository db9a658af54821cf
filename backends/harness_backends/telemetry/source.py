"""The contract between the sampler and a vendor's module: providers, sources, readings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

NAN = math.nan


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What one source is and what it can measure, found by calling it once at start.

    A source is one (device, scope) that can be read. Fields that the hardware does not tell are NaN or
    empty, never zero.
    """

    source_id: str
    """Stable across restarts and unique in a machine, for example `nvidia:GPU-5f1e...:gpu`."""
    vendor: str
    """`nvidia`, `amd`, `apple`, `intel`, or `host`."""
    device_id: str
    """The physical device (UUID, PCI address, `package-0`); several sources may share one."""
    device_name: str
    scope: str
    """`gpu`, `package`, `dram`, `soc`, `cpu`, `ane`, `module`, `board` or `psys`."""
    energy_source: str
    """`counter`, `power`, `frame` or `estimated`: where this source's joules come from."""
    has_energy: bool = False
    has_power: bool = False
    contained_in: str = ""
    """`source_id` of a source whose energy includes this one's, else empty; such pairs are never summed."""
    counter_resolution_j: float = NAN
    counter_wrap_j: float = NAN
    """Value at which the energy counter starts again at zero, NaN where it does not wrap."""
    max_power_w: float = NAN
    """Power that the device cannot exceed for long (its limit), NaN where unknown."""
    power_period_s: float = NAN
    """Learned update period of the power reading."""
    counter_period_s: float = NAN
    """Learned update period of the energy counter."""
    averaging_s: float = NAN
    """Window over which a power reading is averaged; 0 for an instantaneous one."""
    memory_total_bytes: float = NAN
    poll_hz: float = NAN
    """Mean poll rate that the learned periods ask for, NaN where the sampler's own rate is right."""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Driver, firmware, PCI address, watts table used...: text for people."""
    notes: Sequence[str] = ()
    """What a reader must know before trusting this source, one plain sentence each."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One poll of one source. `t_ns` is the midpoint of the call on CLOCK_MONOTONIC.

    Absent values are NaN. `power_w` is the most instantaneous reading, `power_avg_w` the vendor's average.
    `interval_ns` is set by frame sources only: `energy_j` is then cumulative at `t_ns`, the frame's end.
    """

    t_ns: int
    half_width_ns: int
    energy_j: float = NAN
    power_w: float = NAN
    power_avg_w: float = NAN
    memory_used_bytes: float = NAN
    temperature_c: float = NAN
    utilisation: float = NAN
    """0 to 1."""
    sm_clock_mhz: float = NAN
    throttle_bits: int = 0
    """Bits of `ThrottleReason`, the same for all vendors."""
    interval_ns: int = 0


class ThrottleReason:
    """Vendor-neutral throttle bits kept in `Reading.throttle_bits`."""

    POWER_CAP = 1
    THERMAL = 2
    HARDWARE = 4
    OTHER = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `harness agent doctor`: a source or a provider, and whether it can be used."""

    provider: str
    subject: str
    available: bool
    detail: str
    """What was found, or the reason it cannot be used."""
    fix: str = ""
    """What the admin can do about it, a command where there is one."""


class Source(Protocol):
    """One thing that can be polled. Not thread-safe: one sampler thread owns it."""

    @property
    def info(self) -> SourceInfo:
        """What this source is."""
        ...

    def read(self) -> Reading | None:
        """Poll once; None when there is nothing new yet (frame sources) or nothing to be had now.

        Raises:
            SourceGone: the device cannot be read any more; the sampler closes it and says why.
        """
        ...

    def close(self) -> None:
        """Release the vendor's handles."""
        ...


@runtime_checkable
class ListsProcesses(Protocol):
    """A source that can tell which processes use its device."""

    def process_ids(self) -> list[int]:
        """Return their ids; empty where the driver does not tell."""
        ...


class Provider(Protocol):
    """A vendor's module, found by entry point `harness.telemetry`; constructing one never raises."""

    name: str

    def discover(self) -> tuple[list[Source], list[Finding]]:
        """Open every source that answers; explain every one that does not."""
        ...


@runtime_checkable
class TracksProcesses(Protocol):
    """A source that reads the process tree of the engine rather than a device."""

    def track(self, pids: Sequence[int]) -> None:
        """Follow the trees under these root processes from now on; callable from any thread."""
        ...


class SourceGone(Exception):  # noqa: N818 - the contract's name: a state, not a fault of ours
    """A source stopped answering for good (GPU lost, stream dead beyond its restarts)."""


def absent_to_nan(value: float | int | None) -> float:
    """Return a float for a reading that may be missing."""
    return NAN if value is None else float(value)
