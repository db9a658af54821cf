"""CPU package, DRAM and platform energy from the Linux powercap tree (RAPL, Intel and AMD)."""

from __future__ import annotations

import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from harness_backends.telemetry.host import CpuFacts, cpu_facts
from harness_backends.telemetry.source import NAN, Finding, Reading, Source, SourceGone, SourceInfo

ROOT_VARIABLE = "HARNESS_POWERCAP_ROOT"
DEFAULT_ROOT = Path("/sys/class/powercap")

_ZONE = re.compile(r"intel-rapl:(\d+)(?::(\d+))?")
_PERMISSION_FIX = (
    "run the agent as root, or let others read the meter: "
    "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj (holds until the next boot)"
)
_COUNTER_STEPS = 2**32
"""The hardware counter has 32 bits, so its range holds its unit (intel_rapl: ENERGY_STATUS_MASK)."""


class RaplSource:
    """One powercap zone: a cumulative energy counter, unwrapped here."""

    def __init__(self, zone: Path, info: SourceInfo) -> None:
        self._path = str(zone / "energy_uj")
        self._info = info
        self._wrap_uj = 0 if math.isnan(info.counter_wrap_j) else round(info.counter_wrap_j * 1e6)
        self._last_uj = -1
        # Whole ranges are added to the raw value, so values stay congruent across restarts of the agent.
        self._wrapped_uj = 0

    @property
    def info(self) -> SourceInfo:
        """What this source is."""
        return self._info

    def read(self) -> Reading:
        """Return the cumulative energy, J, wraps undone.

        Raises:
            SourceGone: the zone vanished or became unreadable.
        """
        before_ns = time.monotonic_ns()
        try:
            # Opened each time: a zone that is replaced under us would otherwise be read from its old file.
            descriptor = os.open(self._path, os.O_RDONLY)
            try:
                text = os.read(descriptor, 64)
            finally:
                os.close(descriptor)
        except OSError as error:
            msg = f"{self._path}: {error.strerror}"
            raise SourceGone(msg) from error
        after_ns = time.monotonic_ns()
        energy_uj = int(text)
        if energy_uj < self._last_uj:
            self._wrapped_uj += self._wrap_uj
        self._last_uj = energy_uj
        return Reading(
            t_ns=(before_ns + after_ns) // 2,
            half_width_ns=(after_ns - before_ns + 1) // 2,
            energy_j=(energy_uj + self._wrapped_uj) * 1e-6,
        )

    def close(self) -> None:
        """Nothing is held open."""


class RaplProvider:
    """Finds the powercap zones that add up: packages (or their dies), DRAM and the platform."""

    name = "rapl"

    def __init__(self, root: Path | None = None, cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
        self._root = root or Path(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)
        self._cpuinfo = cpuinfo

    def discover(self) -> tuple[list[Source], list[Finding]]:
        """Open every zone whose meter can be read, and explain the others."""
        zones = _zones(self._root)
        if not zones:
            detail = f"no intel-rapl zone under {self._root} (a virtual machine, or the driver is not loaded)"
            fix = "on bare metal: sudo modprobe intel_rapl_msr; in a container: mount the host's tree "
            fix += f"read-only and point {ROOT_VARIABLE} at it"
            return [], [Finding(self.name, "powercap", available=False, detail=detail, fix=fix)]
        cpu = cpu_facts(self._cpuinfo)
        sources: list[Source] = []
        findings = self._duplicates()
        seen: set[str] = set()
        platform = next((zone.subject for zone in zones if zone.name == "psys"), "")
        for zone in zones:
            reason, fix = _refusal(zone, seen)
            if reason:
                findings.append(Finding(self.name, zone.subject, available=False, detail=reason, fix=fix))
                continue
            seen.add(zone.subject)
            info = _describe(zone, cpu, platform)
            sources.append(RaplSource(zone.path, info))
            detail = f"{cpu.model_name}: energy counter, wraps at {info.counter_wrap_j:.0f} J"
            findings.append(Finding(self.name, zone.subject, available=True, detail=detail))
        return sources, findings

    def _duplicates(self) -> list[Finding]:
        if not any(self._root.glob("intel-rapl-mmio:*")):
            return []
        detail = "intel-rapl-mmio shows the same package a second time and is ignored"
        return [Finding(self.name, "intel-rapl-mmio", available=False, detail=detail)]


@dataclass(frozen=True, slots=True)
class _Zone:
    path: Path
    name: str
    parent: str
    """Name of the top zone that holds this one, empty for a top zone."""

    @property
    def subject(self) -> str:
        return f"{self.parent}:{self.name}" if self.parent else self.name

    @property
    def scope(self) -> str:
        if self.name.startswith("package-"):
            return "package"
        return self.name if self.name in {"dram", "psys"} else ""


def _zones(root: Path) -> list[_Zone]:
    """Return every zone, a package before its parts."""
    # /sys/class/powercap lists all zones side by side, /sys/devices/virtual/powercap nests them.
    paths = [*root.glob("intel-rapl:*/intel-rapl:*"), *root.glob("intel-rapl:*")]
    found = {path.name: path for path in paths}
    if not found and (root / "intel-rapl").is_dir():
        return _zones(root / "intel-rapl")
    numbered: list[tuple[tuple[int, int], Path, str]] = []
    for path in found.values():
        match = _ZONE.fullmatch(path.name)
        if match and (path / "name").is_file():
            key = (int(match[1]), -1 if match[2] is None else int(match[2]))
            numbered.append((key, path, (path / "name").read_text().strip()))
    numbered.sort(key=lambda zone: zone[0])
    tops = {key[0]: name for key, _, name in numbered if key[1] < 0}
    return [_Zone(path, name, tops.get(key[0], "") if key[1] >= 0 else "") for key, path, name in numbered]


def _refusal(zone: _Zone, seen: set[str]) -> tuple[str, str]:
    """Return why the zone is not read and what to do about it; two empty texts when it is read."""
    if not zone.scope:
        return f"inside {zone.parent or 'its package'}, not read on its own", ""
    if zone.subject in seen:
        return f"{zone.path.name} repeats a zone of this name and is ignored", ""
    meter = zone.path / "energy_uj"
    try:
        int(meter.read_text())
    except PermissionError:
        reason = f"{meter} is readable by root only (Linux >= 5.10 hides the meter, CVE-2020-8694)"
        return reason, _PERMISSION_FIX
    except FileNotFoundError:
        return f"{meter} is missing: this zone limits power but does not meter it", ""
    except (OSError, ValueError) as error:
        return f"{meter} cannot be read: {error}", ""
    return "", ""


def _describe(zone: _Zone, cpu: CpuFacts, platform: str) -> SourceInfo:
    range_j = _micro(zone.path / "max_energy_range_uj")
    # A zone may draw more than its long-term limit for a while; the highest limit is the only hard bound.
    limits_w = [_micro(path) for path in zone.path.glob("constraint_*_power_limit_uw")]
    plausible_w = [limit for limit in limits_w if 1 < limit < 5000]
    notes = ("AMD processors have no DRAM zone.",) if cpu.vendor == "amd" else ()
    if zone.scope == "psys":
        notes = ("The whole platform: packages and memory are inside it.",)
    return SourceInfo(
        source_id=f"rapl:{zone.subject}",
        vendor=cpu.vendor,
        device_id=zone.parent or zone.name,
        device_name=cpu.model_name,
        scope=zone.scope,
        energy_source="counter",
        has_energy=True,
        contained_in=f"rapl:{platform}" if platform and zone.scope != "psys" else "",
        counter_resolution_j=range_j / _COUNTER_STEPS,
        counter_wrap_j=range_j,
        max_power_w=max(plausible_w, default=NAN) if zone.scope == "package" else NAN,
        facts={"zone": zone.path.name},
        notes=notes,
    )


def _micro(path: Path) -> float:
    """Return a file's value in the whole unit (J, W), NaN where it is missing or zero."""
    try:
        value = int(path.read_text())
    except (OSError, ValueError):
        return NAN
    return value * 1e-6 if value > 0 else NAN
