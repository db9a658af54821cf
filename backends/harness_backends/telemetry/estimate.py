"""Estimated CPU energy where nothing measures it: CPU time of a process tree times watts per core."""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil

from harness_backends.telemetry.cpu_power_table import WATTS_VARIABLE, BadWattsError, CpuPower, watts_per_core
from harness_backends.telemetry.host import CpuFacts, cpu_facts
from harness_backends.telemetry.process_tree import ProcessTree
from harness_backends.telemetry.source import Finding, Reading, Source, SourceInfo


class EstimateSource:
    """Joules that a process tree's CPU time stands for: an estimate, and marked as one everywhere."""

    def __init__(self, power: CpuPower, facts: CpuFacts) -> None:
        self._watts_per_core = power.watts_per_core
        self._tree = ProcessTree()
        self._whole_host = False
        self._host_start_s = 0.0
        self._info = SourceInfo(
            source_id="estimate:cpu",
            vendor="host",
            device_id="host-cpu",
            device_name=facts.model_name,
            scope="cpu",
            energy_source="estimated",
            has_energy=True,
            max_power_w=power.watts_per_core * facts.logical_cpus,
            facts={"watts_per_core": f"{power.watts_per_core:g}", "watts_per_core_origin": power.origin},
            notes=(
                f"Estimated, not measured: CPU time x {power.watts_per_core:.3g} W per busy logical CPU "
                f"({power.origin}); idle power, memory and frequency are not in it.",
            ),
        )

    @property
    def info(self) -> SourceInfo:
        """What this source is."""
        return self._info

    def track(self, pids: Sequence[int]) -> None:
        """Estimate the trees under these processes; CPU time they used before now is not counted."""
        self._tree.track(pids)

    def track_host(self) -> None:
        """Estimate everything that runs on this machine, from now on."""
        self._host_start_s = _host_busy_s()
        self._whole_host = True

    def read(self) -> Reading | None:
        """Return cumulative joules of what was tracked so far: none, for sure, while no engine runs."""
        before_ns = time.monotonic_ns()
        busy_s = _host_busy_s() - self._host_start_s if self._whole_host else self._tree.cpu_time_s()
        after_ns = time.monotonic_ns()
        return Reading(
            t_ns=(before_ns + after_ns) // 2,
            half_width_ns=(after_ns - before_ns + 1) // 2,
            energy_j=busy_s * self._watts_per_core,
        )

    def close(self) -> None:
        """Nothing is held open."""


class EstimateProvider:
    """Offers one estimated source, so that a machine without sensors can still be tried out."""

    name = "estimate"

    def __init__(self, watts_per_core: float | None = None) -> None:
        self._given = watts_per_core

    def discover(self) -> tuple[list[Source], list[Finding]]:
        """Return the estimated source, or the reason why its watts figure cannot be used."""
        facts = cpu_facts()
        try:
            power = watts_per_core(facts.model_name, self._given)
        except BadWattsError as error:
            fix = f"set {WATTS_VARIABLE} to a number of watts, or unset it to use the table"
            return [], [Finding(self.name, "cpu", available=False, detail=str(error), fix=fix)]
        source = EstimateSource(power, facts)
        detail = f"{facts.model_name}: {source.info.notes[0]}"
        fix = (
            f"set {WATTS_VARIABLE} to the watts of one busy logical CPU of this machine for a better estimate"
        )
        return [source], [Finding(self.name, "cpu", available=True, detail=detail, fix=fix)]


def _host_busy_s() -> float:
    times = psutil.cpu_times()
    idle_s = times.idle + getattr(times, "iowait", 0.0)
    # Time stolen by the hypervisor ran somebody else's work; guest time is already inside user time.
    stolen_s = getattr(times, "steal", 0.0)
    guest_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    total = sum(times) - guest_s
    return total - idle_s - stolen_s
