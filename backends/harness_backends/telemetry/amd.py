"""AMD GPUs through amdsmi (wrappers 6.1 to 7.x): what each one answers, energy counted once per package."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from harness_backends.telemetry.amd_source import AmdReads, AmdSession, AmdSource, ask, energy_joules, number
from harness_backends.telemetry.amd_throttle import AmdThrottle
from harness_backends.telemetry.source import NAN, Finding, Source, SourceInfo

_MIB = 1024.0 * 1024.0
_RESOLUTION_J = 15.3e-6
"""Step of the energy accumulator; rocm_smi has it as a constant."""
_LIBRARY_FIX = "install ROCm's amd-smi-lib (the package amdsmi has no library of its own), or set ROCM_PATH"
_WRAPPER_FIX = "install the wrapper of the installed ROCm release, for example: pip install amdsmi==6.4.4"
_REFUSALS = {
    10: ("the driver refuses this user", "sudo usermod -aG video,render USER, then log in again"),
    34: (
        "the amdgpu driver is not loaded",
        "sudo modprobe amdgpu; if that fails, look at: sudo dmesg | grep amdgpu",
    ),
}


@dataclass(frozen=True, slots=True)
class _Gpu:
    amdsmi: ModuleType
    handle: Any
    index: int
    bdf: str

    @property
    def package(self) -> str:
        """PCI address without the function: partitions of one GPU share it."""
        return self.bdf.rpartition(".")[0]

    def ask(self, name: str, *arguments: object) -> Any:
        call = getattr(self.amdsmi, name, None)
        return None if call is None else ask(self.amdsmi, call, self.handle, *arguments)

    def texts(self, name: str) -> Mapping[str, Any]:
        return self.ask(name) or {}

    @property
    def partition(self) -> int:
        told = number(self.texts("amdsmi_get_gpu_kfd_info").get("current_partition_id"))
        return 0 if math.isnan(told) else int(told)


class AmdProvider:
    """Opens every GPU package that amdsmi shows and explains what it leaves out."""

    name = "amd"

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns

    def discover(self) -> tuple[list[Source], list[Finding]]:
        """Load amdsmi, ask it for its GPUs and each GPU for its sensors."""
        try:
            # Without its library the wrapper prints to standard output and then fails on its own dictionary.
            with contextlib.redirect_stdout(io.StringIO()):
                amdsmi = importlib.import_module("amdsmi")
        except ImportError:
            return [], [
                self._no(
                    "amdsmi", "the Python module amdsmi is not installed", "pip install 'joule-harness[amd]'"
                )
            ]
        except (KeyError, OSError):
            return [], [
                self._no("amdsmi", "no AMD driver library here (libamd_smi.so is not found)", _LIBRARY_FIX)
            ]
        except AttributeError as error:
            detail = f"libamd_smi.so is older than the Python wrapper ({error})"
            return [], [self._no("amdsmi", detail, _WRAPPER_FIX)]
        try:
            amdsmi.amdsmi_init()
        except amdsmi.AmdSmiException as error:
            return [], [self._no("amdsmi", *_explain(error))]
        session = AmdSession(amdsmi)
        session.users += 1
        try:
            return self._open_all(session)
        except amdsmi.AmdSmiException as error:
            return [], [self._no("amdsmi", *_explain(error))]
        finally:
            session.release()

    def _open_all(self, session: AmdSession) -> tuple[list[Source], list[Finding]]:
        gpus = list(_gpus(session.module))
        sources: list[Source] = []
        findings: list[Finding] = []
        if not gpus:
            findings.append(
                self._no("amdsmi", "the driver is loaded but shows no GPU", "check: amd-smi list")
            )
        primaries: dict[str, _Gpu] = {}
        for gpu in sorted(gpus, key=lambda gpu: (gpu.partition, gpu.bdf)):
            primaries.setdefault(gpu.package, gpu)
        for gpu in gpus:
            subject, primary = f"gpu {gpu.index}", primaries[gpu.package]
            if primary is not gpu:
                detail = f"partition {gpu.partition} of gpu {primary.index} ({gpu.bdf}): its energy is counted there"
                findings.append(self._no(subject, detail, ""))
                continue
            reads = _probe(gpu)
            if not reads:
                findings.append(self._no(subject, *_why_silent(gpu)))
                continue
            throttle = AmdThrottle(gpu.amdsmi, gpu.handle)
            partitions = [other for other in gpus if other.package == gpu.package]
            info = _describe(gpu, reads, len(partitions), throttle.kind)
            dies = [other for other in gpus if other.index == gpu.index + 1 and _is_second_die(other)]
            handles = [other.handle for other in partitions + dies]
            source = AmdSource(
                session, gpu.handle, info, reads, throttle, all_handles=handles, now_ns=self._now_ns
            )
            sources.append(source)
            findings.append(Finding(self.name, subject, available=True, detail=_tell(info, source)))
        return sources, findings

    def _no(self, subject: str, detail: str, fix: str) -> Finding:
        return Finding(self.name, subject, available=False, detail=detail, fix=fix)


def _gpus(amdsmi: ModuleType) -> Iterator[_Gpu]:
    for index, handle in enumerate(amdsmi.amdsmi_get_processor_handles()):
        bdf = ask(amdsmi, amdsmi.amdsmi_get_gpu_device_bdf, handle)
        yield _Gpu(amdsmi, handle, index, str(bdf or f"unknown-{index}.0"))


def _probe(gpu: _Gpu) -> AmdReads:
    """Find which key holds the power on this generation, and whether there is an energy counter."""
    power = gpu.texts("amdsmi_get_power_info")
    # current: MI300 and later; average: Navi, MI200 and before; socket (6.4 and later): whichever is valid.
    keys = ("current_socket_power", "socket_power", "average_socket_power")
    present = [key for key in keys if number(power.get(key)) > 0]
    average = "average_socket_power" if "average_socket_power" in present else ""
    if "current_socket_power" not in present and average:
        present = [average]  # socket_power is the same average then, under a name that hides it
    energy = gpu.ask("amdsmi_get_energy_count")
    energy_j = NAN if energy is None else energy_joules(energy)
    # A counter just reset shows 0 J; beside no power reading, 0 J is the silence of a second die or a partition.
    has_energy = energy_j > 0 or (energy_j == 0 and bool(present))
    if _is_second_die(gpu) and not present:
        return AmdReads()
    return AmdReads(power_key=present[0] if present else "", average_key=average, energy=has_energy)


def _is_second_die(gpu: _Gpu) -> bool:
    return "MI250" in str(gpu.texts("amdsmi_get_gpu_asic_info").get("market_name", "")) and gpu.index % 2 == 1


def _why_silent(gpu: _Gpu) -> tuple[str, str]:
    if _is_second_die(gpu):
        return f"second die of an MI250: gpu {gpu.index - 1} reports the energy of both dies", ""
    detail = "amdsmi tells neither power nor energy of this GPU (a virtual function, or no power sensor)"
    return detail, "measure on the host of this virtual machine, or sample the CPU instead"


def _describe(gpu: _Gpu, reads: AmdReads, partitions: int, throttle_kind: str) -> SourceInfo:
    asic = gpu.texts("amdsmi_get_gpu_asic_info")
    device_id = str(gpu.ask("amdsmi_get_gpu_device_uuid") or gpu.bdf)
    name = str(asic.get("market_name", "AMD GPU"))
    notes: list[str] = []
    if partitions > 1:
        notes.append(
            f"Its {partitions} partitions share this package: power and energy are all of theirs together."
        )
    if "MI250" in name:
        notes.append("Power and energy are of both dies of the MI250.")
    is_average = reads.power_key == "average_socket_power"
    if is_average:
        notes.append("This generation tells an average power only; over how long is not documented.")
    limit = number(gpu.texts("amdsmi_get_power_cap_info").get("power_cap"))
    return SourceInfo(
        source_id=f"amd:{device_id}:gpu",
        vendor="amd",
        device_id=device_id,
        device_name=name,
        scope="gpu",
        energy_source="counter" if reads.energy else "power",
        has_energy=reads.energy,
        has_power=bool(reads.power_key),
        counter_resolution_j=_RESOLUTION_J if reads.energy else NAN,
        # Told in microwatts by the library, in watts by some wrappers; no GPU has 100 kW.
        max_power_w=limit * 1e-6 if limit > 1e5 else (limit if limit > 0 else NAN),
        memory_total_bytes=number(gpu.texts("amdsmi_get_gpu_vram_usage").get("vram_total")) * _MIB,
        facts={
            "uuid": device_id,
            "pci": gpu.bdf,
            "index": str(gpu.index),
            "driver": str(gpu.texts("amdsmi_get_gpu_driver_info").get("driver_version", "")),
            "power_reading": reads.power_key or "none",
            "throttle_reading": throttle_kind,
        },
        notes=tuple(notes),
    )


def _tell(info: SourceInfo, source: AmdSource) -> str:
    parts = [f"{info.device_name} ({info.device_id}, driver {info.facts['driver']})"]
    if info.has_energy:
        parts.append("energy counter")
    parts.append(f"power: {info.facts['power_reading']}")
    if info.max_power_w > 0:
        parts.append(f"limit {info.max_power_w:.0f} W")
    if info.facts["throttle_reading"] == "none":
        parts.append("does not tell why it throttles")
    if pids := source.process_ids():
        parts.append("in use by " + ", ".join(f"pid {pid}" for pid in pids))
    return "; ".join([*parts, *info.notes])


def _explain(error: Any) -> tuple[str, str]:
    """Return the reason and the fix for an AmdSmiException."""
    code = error.get_error_code() if hasattr(error, "get_error_code") else None
    return _REFUSALS.get(code or 0) or (f"amdsmi says: {error}", "check: amd-smi list")
