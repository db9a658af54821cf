"""What the operating system tells of the host: CPU, memory, and the engine's resident set."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness_backends.telemetry.process_tree import ProcessTree
from harness_backends.telemetry.source import NAN, Reading, SourceInfo

HOST_POLL_HZ = 2.0
"""Memory and load of a host move slowly, and psutil asks for at least 0.1 s between two load readings."""


@dataclass(frozen=True, slots=True)
class CpuFacts:
    """The host's processor and memory; unknown texts are empty."""

    model_name: str
    vendor: str
    """`intel`, `amd`, `apple` or `host` where it is none of them."""
    logical_cpus: int
    physical_cores: int | None
    memory_total_bytes: int


def cpu_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> CpuFacts:
    """Return what the host's processor is.

    Args:
        cpuinfo: the kernel's list of CPUs; where it is absent the platform module is asked.
    """
    model_name, maker = "", ""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and not model_name:
                model_name = value.strip()
            elif key.strip() == "vendor_id" and not maker:
                maker = value.strip()
    model_name = model_name or platform.processor() or platform.machine()
    if sys.platform == "darwin" and platform.machine() == "arm64":
        maker = "apple"
    vendor = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "HygonGenuine": "amd", "apple": "apple"}.get(
        maker, "host"
    )
    return CpuFacts(
        model_name=model_name,
        vendor=vendor,
        logical_cpus=psutil.cpu_count() or 1,
        physical_cores=psutil.cpu_count(logical=False),
        memory_total_bytes=psutil.virtual_memory().total,
    )


class HostSource:
    """The host's load, and the resident memory of the tracked process trees; it measures no energy."""

    def __init__(self) -> None:
        facts = cpu_facts()
        self._tree = ProcessTree()
        self._info = SourceInfo(
            source_id="host:memory",
            vendor="host",
            device_id="host",
            device_name=facts.model_name,
            scope="host",
            energy_source="",
            memory_total_bytes=float(facts.memory_total_bytes),
            poll_hz=HOST_POLL_HZ,
            facts={
                "logical_cpus": str(facts.logical_cpus),
                "physical_cores": str(facts.physical_cores or ""),
            },
            notes=(
                "Memory is the resident set of the engine's process tree, shared pages once per process.",
            ),
        )
        psutil.cpu_percent(interval=None)  # psutil's first answer is a meaningless 0.0

    @property
    def info(self) -> SourceInfo:
        """What this source is."""
        return self._info

    def track(self, pids: Sequence[int]) -> None:
        """Report the resident memory of the trees under these processes from now on."""
        self._tree.track(pids)

    def read(self) -> Reading:
        """Return load (0 to 1, all CPUs) and resident bytes, NaN while no process is tracked."""
        before_ns = time.monotonic_ns()
        memory_used_bytes = NAN
        if self._tree.tracking:
            self._tree.cpu_time_s()
            memory_used_bytes = self._tree.resident_bytes()
        utilisation = psutil.cpu_percent(interval=None) / 100
        after_ns = time.monotonic_ns()
        return Reading(
            t_ns=(before_ns + after_ns) // 2,
            half_width_ns=(after_ns - before_ns + 1) // 2,
            memory_used_bytes=memory_used_bytes,
            utilisation=utilisation,
        )

    def close(self) -> None:
        """Nothing is held open."""
