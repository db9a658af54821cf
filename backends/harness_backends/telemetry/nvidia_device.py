"""What one NVIDIA GPU can tell, found by asking NVML rather than by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from harness_backends.telemetry.nvidia_source import (
    FIELD_POWER_AVERAGE,
    FIELD_POWER_INSTANT,
    FIELD_TOTAL_ENERGY,
    FieldRequest,
    Reads,
    SlowCalls,
    throttle_reason,
)
from harness_backends.telemetry.source import NAN, SourceInfo

_SCOPE_GPU, _SCOPE_MODULE = 0, 1
_TURING, _AMPERE = 6, 7
_ARCHITECTURES = {
    2: "Kepler",
    3: "Maxwell",
    4: "Pascal",
    5: "Volta",
    6: "Turing",
    7: "Ampere",
    8: "Ada",
    9: "Hopper",
}
_ARCHITECTURES[10] = "Blackwell"
_GA100_NAMES = ("A100", "A800", "A30", "GA100")


@dataclass(frozen=True, slots=True)
class NvmlDevice:
    """One GPU while it is being asked what it can do."""

    nvml: ModuleType
    handle: Any
    index: int

    def ask(self, name: str, *arguments: object) -> Any:
        """Return what an NVML call says, None where it refuses or this driver does not have it."""
        try:
            return getattr(self.nvml, name)(self.handle, *arguments)
        except (self.nvml.NVMLError, AttributeError):
            return None

    def text(self, name: str) -> str:
        """Return what an NVML call says as text, empty where it refuses."""
        value = self.ask(name)
        return value.decode() if isinstance(value, bytes) else str(value or "")

    def answers(self, field_id: int, scope: int) -> bool:
        """Whether a field value can be had in this scope; 0 W stands for unsupported on some boards, 0 J does not."""
        values = self.ask("nvmlDeviceGetFieldValues", [(field_id, scope)])
        # NVML returns success as soon as any field was filled: each has a status of its own.
        if values is None or values[0].nvmlReturn != 0:
            return False
        return field_id == FIELD_TOTAL_ENERGY or values[0].value.ullVal != 0


def gpu_reads(device: NvmlDevice) -> Reads:
    """Return what the GPU's own scope answers; without any entry where power and energy are both refused."""
    fields = _power_fields(device, _SCOPE_GPU)
    power_call = not fields and bool(device.ask("nvmlDeviceGetPowerUsage"))
    energy_field = device.answers(FIELD_TOTAL_ENERGY, _SCOPE_GPU)
    energy_call = not energy_field and device.ask("nvmlDeviceGetTotalEnergyConsumption") is not None
    if energy_field:
        fields.append(FieldRequest(FIELD_TOTAL_ENERGY))
    return Reads(tuple(fields), power_call=power_call, energy_call=energy_call)


def module_reads(device: NvmlDevice) -> Reads:
    """Return what the module's scope answers: on GH200 and its like the GPU's own scope can refuse."""
    return Reads(tuple(_power_fields(device, _SCOPE_MODULE)))


def slow_calls(device: NvmlDevice) -> SlowCalls:
    """Return the calls for memory, temperature, load, clock and throttling that this device answers."""
    nvml, handle = device.nvml, device.handle
    memory = temperature = reasons = load = clock = None
    version = getattr(nvml, "nvmlMemory_v2", None)
    # Version 1 counts the driver's reserved memory as used; version 2 does not.
    if version is not None and device.ask("nvmlDeviceGetMemoryInfo", version) is not None:
        memory = partial(_used_bytes, nvml.nvmlDeviceGetMemoryInfo, handle, version)
    elif device.ask("nvmlDeviceGetMemoryInfo") is not None:
        memory = partial(_used_bytes, nvml.nvmlDeviceGetMemoryInfo, handle)
    for name in ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature"):
        if device.ask(name, nvml.NVML_TEMPERATURE_GPU) is not None:
            temperature = partial(getattr(nvml, name), handle, nvml.NVML_TEMPERATURE_GPU)
            break
    for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
        if device.ask(name) is not None:
            reasons = partial(_reason_bits, getattr(nvml, name), handle)
            break
    if device.ask("nvmlDeviceGetUtilizationRates") is not None:
        load = partial(_load, nvml.nvmlDeviceGetUtilizationRates, handle)
    if device.ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM) is not None:
        clock = partial(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM)
    return SlowCalls(memory, temperature, load, clock, reasons)


def describe(device: NvmlDevice, scope: str, reads: Reads, inside: str = "") -> SourceInfo:
    """Return what is known of the GPU, or of the module around it.

    Args:
        device: the GPU.
        scope: `gpu` or `module`.
        reads: what this scope answers.
        inside: id of the module's source where there is one.
    """
    name, uuid = device.text("nvmlDeviceGetName"), device.text("nvmlDeviceGetUUID")
    architecture = device.ask("nvmlDeviceGetArchitecture") or 0
    mig = device.ask("nvmlDeviceGetMigMode")
    limit_mw = device.ask("nvmlDeviceGetEnforcedPowerLimit")
    memory = device.ask("nvmlDeviceGetMemoryInfo")
    pci = device.ask("nvmlDeviceGetPciInfo")
    averaging_s = _averaging_s(name, architecture, reads)
    notes: list[str] = []
    if mig is not None and mig[0]:
        notes.append("MIG is on: power, energy and memory are the whole board's, never one instance's.")
    if scope == "module":
        notes.append("The GPU's own scope refuses: this is the power of the module, which includes the CPU.")
    if averaging_s == 1.0:
        notes.append("The power reading is an average over 1 s: it lags, and steps look like ramps.")
    facts = {
        "uuid": uuid,
        "index": str(device.index),
        "driver": _driver(device.nvml),
        "architecture": _ARCHITECTURES.get(architecture, str(architecture)),
        "power_reading": _power_name(reads),
        "averaging_origin": "published measurements of this architecture (arXiv 2312.02741)",
    }
    if pci is not None:
        facts["pci"] = pci.busId.decode() if isinstance(pci.busId, bytes) else str(pci.busId)
    return SourceInfo(
        source_id=f"nvidia:{uuid}:{scope}",
        vendor="nvidia",
        device_id=uuid,
        device_name=name,
        scope=scope,
        energy_source="counter" if reads.has_energy else "power",
        has_energy=reads.has_energy,
        has_power=reads.has_power,
        contained_in=inside,
        counter_resolution_j=1e-3 if reads.has_energy else NAN,
        max_power_w=limit_mw * 1e-3 if limit_mw and scope == "gpu" else NAN,
        averaging_s=averaging_s,
        memory_total_bytes=float(memory.total) if memory is not None and scope == "gpu" else NAN,
        facts=facts,
        notes=tuple(notes),
    )


def _averaging_s(name: str, architecture: int, reads: Reads) -> float:
    """Return the window that the power reading is averaged over, s; NaN where nobody has measured it.

    The windows are those of "Accurate and Convenient Energy Measurements for GPUs" (SC24, arXiv 2312.02741).
    """
    is_ga100 = any(part in name for part in _GA100_NAMES)
    is_recent = architecture >= _AMPERE and not is_ga100
    if not reads.has_power:
        return NAN
    if not reads.has(FIELD_POWER_INSTANT) and (not reads.power_call or is_recent):
        return 1.0
    if is_ga100 or architecture == 9:
        return 0.025
    if 0 < architecture < _TURING:
        return 0.01
    return 0.1 if _TURING <= architecture <= 8 else NAN


def _power_fields(device: NvmlDevice, scope: int) -> list[FieldRequest]:
    fields = (FIELD_POWER_INSTANT, FIELD_POWER_AVERAGE)
    return [FieldRequest(field_id, scope) for field_id in fields if device.answers(field_id, scope)]


def _power_name(reads: Reads) -> str:
    names = {FIELD_POWER_INSTANT: "instant (field 186)", FIELD_POWER_AVERAGE: "average of 1 s (field 185)"}
    found = [names[request.field_id] for request in reads.fields if request.field_id in names]
    if reads.power_call:
        found.append("nvmlDeviceGetPowerUsage")
    return ", ".join(found) or "none"


def _used_bytes(call: Callable[..., Any], *arguments: object) -> float:
    return call(*arguments).used


def _load(call: Callable[..., Any], handle: object) -> float:
    return call(handle).gpu / 100


def _reason_bits(call: Callable[..., Any], handle: object) -> int:
    return throttle_reason(call(handle))


def _driver(nvml: ModuleType) -> str:
    try:
        version = nvml.nvmlSystemGetDriverVersion()
    except nvml.NVMLError:
        return ""
    return version.decode() if isinstance(version, bytes) else version
