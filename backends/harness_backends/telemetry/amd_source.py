"""Polls one AMD GPU through amdsmi: power and energy at every poll, the slow values twice a second."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from harness_backends.telemetry.amd_throttle import AmdThrottle
from harness_backends.telemetry.source import NAN, Reading, SourceGone, SourceInfo

SLOW_INTERVAL_NS = 500_000_000
_MIB = 1024.0 * 1024.0
_MISSING = {0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF}
"""What stands for a missing number, beside "N/A": the wrapper maps only the first, and not in every release."""

_FINAL = {
    31: "the GPU is no longer there (AMDSMI_STATUS_NOT_FOUND)",
    32: "amdsmi was shut down",
    34: "the amdgpu driver was unloaded (AMDSMI_STATUS_DRIVER_NOT_LOADED)",
}


class AmdReadError(Exception):
    """amdsmi refused a poll for a reason that may pass."""


@dataclass(frozen=True, slots=True)
class AmdReads:
    """What one GPU answers for power and energy; false when that is nothing."""

    power_key: str = ""
    """Key of amdsmi_get_power_info that holds the most instantaneous power, empty for none."""
    average_key: str = ""
    energy: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything to read."""
        return bool(self.power_key) or self.energy


class AmdSession:
    """The initialised library, shut down when the last source is closed."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.users = 0

    def release(self) -> None:
        """Give back one user's share."""
        self.users -= 1
        if self.users <= 0:
            try:
                self.module.amdsmi_shut_down()
            except self.module.AmdSmiException:
                return


class AmdSource:
    """One GPU package, all of its partitions and dies together."""

    def __init__(
        self,
        session: AmdSession,
        handle: object,
        info: SourceInfo,
        reads: AmdReads,
        throttle: AmdThrottle,
        *,
        all_handles: Sequence[object] = (),
        now_ns: Callable[[], int],
    ) -> None:
        """Prepare the poll.

        Args:
            session: the initialised library.
            handle: the processor handle.
            info: what the source is.
            reads: what the GPU answers.
            throttle: asked for the throttle reasons with the slow values.
            all_handles: handles of all partitions and dies of the package: their processes share its energy.
            now_ns: CLOCK_MONOTONIC, or a simulated clock.
        """
        session.users += 1
        self._session = session
        self._amdsmi = session.module
        self._handle = handle
        self._info = info
        self._reads = reads
        self._throttle = throttle
        self._throttle_bits = 0
        self._all_handles = tuple(all_handles) or (handle,)
        self._now_ns = now_ns
        self._slow_due_ns = now_ns() + int(random.random() * SLOW_INTERVAL_NS)  # noqa: S311

    @property
    def info(self) -> SourceInfo:
        """What this source is."""
        return self._info

    def read(self) -> Reading:
        """Poll once; the slow values are NaN in the polls between.

        Raises:
            SourceGone: the GPU or its driver is no longer there.
            AmdReadError: amdsmi refused every question of this poll.
        """
        reads = self._reads
        refusals: list[str] = []
        before_ns = self._now_ns()
        power = self._ask(self._amdsmi.amdsmi_get_power_info, refusals) if reads.power_key else None
        energy = self._ask(self._amdsmi.amdsmi_get_energy_count, refusals) if reads.energy else None
        after_ns = self._now_ns()
        if power is None and energy is None:
            raise AmdReadError("; ".join(refusals))
        slow = (NAN, NAN, NAN, NAN)
        if before_ns >= self._slow_due_ns:
            slow = read_slow(self._amdsmi, self._handle)
            self._throttle_bits = self._throttle.bits() or 0
            self._slow_due_ns += SLOW_INTERVAL_NS
            if self._slow_due_ns <= before_ns:
                self._slow_due_ns = before_ns + SLOW_INTERVAL_NS
        return Reading(
            t_ns=(before_ns + after_ns) >> 1,
            half_width_ns=(after_ns - before_ns + 1) >> 1,
            energy_j=NAN if energy is None else energy_joules(energy),
            power_w=NAN if power is None else number(power.get(reads.power_key)),
            power_avg_w=NAN
            if power is None or not reads.average_key
            else number(power.get(reads.average_key)),
            memory_used_bytes=slow[0],
            temperature_c=slow[1],
            utilisation=slow[2],
            sm_clock_mhz=slow[3],
            throttle_bits=self._throttle_bits,
        )

    def process_ids(self) -> list[int]:
        """Return the ids of the processes that use this package; empty where amdsmi does not tell."""
        return sorted({pid for handle in self._all_handles for pid in _processes_of(self._amdsmi, handle)})

    def close(self) -> None:
        """Give back this source's share of the library."""
        self._session.release()

    def _ask(self, call: Callable[..., Any], refusals: list[str]) -> Mapping[str, Any] | None:
        try:
            return call(self._handle)
        except self._amdsmi.AmdSmiLibraryException as error:
            code = error.get_error_code()
            if code in _FINAL:
                raise SourceGone(_FINAL[code]) from error
            refusals.append(f"{call.__name__}: {error.get_error_info()}")
            return None


def number(value: object) -> float:
    """Return a value that amdsmi tells, NaN for every way it has to say that there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value in _MISSING:
        return NAN
    return float(value)


def energy_joules(answer: Mapping[str, Any]) -> float:
    """Return the joules of amdsmi_get_energy_count; the accumulator was called `power` up to wrapper 6.3."""
    accumulator = number(answer.get("energy_accumulator", answer.get("power")))
    return accumulator * number(answer.get("counter_resolution")) * 1e-6


def celsius(value: object) -> float:
    """Return degrees C: the header says thousandths, the library divides them away, in some releases."""
    degrees = number(value)
    return degrees / 1000 if degrees > 1000 else degrees


def _processes_of(amdsmi: ModuleType, handle: object) -> set[int]:
    listed: list[Mapping[str, Any]] = ask(amdsmi, amdsmi.amdsmi_get_gpu_process_list, handle) or []
    listed = [process for process in listed if isinstance(process, Mapping) and process.get("pid")]
    # Some releases list every process of the machine at every GPU; those hold no memory of this one.
    holding = [process for process in listed if _memory_of(process) > 0]
    return {int(process["pid"]) for process in holding or listed}


def _memory_of(process: Mapping[str, Any]) -> float:
    told: Mapping[str, Any] = process.get("memory_usage") or {}
    values = [number(process.get("mem")), number(told.get("vram_mem")), number(told.get("gtt_mem"))]
    return max((value for value in values if value == value), default=0.0)  # noqa: PLR0124 - not NaN


def read_slow(amdsmi: ModuleType, handle: object) -> tuple[float, float, float, float]:
    """Return memory in use (bytes), temperature (C), load (0 to 1) and clock (MHz), NaN where refused."""
    current = amdsmi.AmdSmiTemperatureMetric.CURRENT
    temperature_c = NAN
    # MI300 often has no edge sensor; the hotspot is also the one that throttles.
    for sensor in (amdsmi.AmdSmiTemperatureType.HOTSPOT, amdsmi.AmdSmiTemperatureType.EDGE):
        temperature_c = celsius(ask(amdsmi, amdsmi.amdsmi_get_temp_metric, handle, sensor, current))
        if temperature_c == temperature_c:  # noqa: PLR0124 - not NaN
            break
    memory = ask(amdsmi, amdsmi.amdsmi_get_gpu_vram_usage, handle) or {}
    load = ask(amdsmi, amdsmi.amdsmi_get_gpu_activity, handle) or {}
    clock = ask(amdsmi, amdsmi.amdsmi_get_clock_info, handle, amdsmi.AmdSmiClkType.GFX) or {}
    percent = number(load.get("gfx_activity"))
    return (
        number(memory.get("vram_used")) * _MIB,
        temperature_c,
        percent / 100 if percent <= 100 else NAN,
        number(clock.get("clk", clock.get("cur_clk"))),
    )


def ask(amdsmi: ModuleType, call: Callable[..., Any], *arguments: object) -> Any:
    """Return what a call says, None where amdsmi refuses it."""
    try:
        return call(*arguments)
    except amdsmi.AmdSmiException:
        return None
