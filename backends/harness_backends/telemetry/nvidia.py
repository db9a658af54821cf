"""NVIDIA GPUs through NVML (package nvidia-ml-py, module pynvml): what each one answers, found by asking."""

from __future__ import annotations

import ctypes
import importlib
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from harness_backends.telemetry.nvidia_device import NvmlDevice, describe, gpu_reads, module_reads, slow_calls
from harness_backends.telemetry.nvidia_source import NvidiaSource, Reads, SlowCalls
from harness_backends.telemetry.source import Finding, Source, SourceInfo

_REFUSALS = {
    4: (
        "the driver refuses this user (NVML_ERROR_NO_PERMISSION)",
        "give the agent's user access to /dev/nvidia*, for example: sudo usermod -aG video,render USER",
    ),
    9: (
        "the NVIDIA driver is not loaded",
        "sudo modprobe nvidia; if that fails, look at: sudo dmesg | grep -i nvidia",
    ),
    12: (
        "no NVIDIA driver here (libnvidia-ml.so.1 is not found)",
        "install the NVIDIA driver; in a container start it with --gpus all",
    ),
    15: (
        "the GPU is lost (NVML_ERROR_GPU_IS_LOST)",
        "look at: sudo dmesg | grep -i xid; a reboot brings it back",
    ),
    16: ("the GPU needs a reset", "sudo nvidia-smi --gpu-reset -i INDEX, or reboot"),
    17: (
        "the operating system blocks the device",
        "allow /dev/nvidia* in the container's or service's device list",
    ),
    18: (
        "NVML and the kernel module are of different versions",
        "reboot after a driver update",
    ),
}


class NvidiaProvider:
    """Opens every GPU that NVML shows; a GPU that refuses is explained and does not hinder the others."""

    name = "nvidia"

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns

    def discover(self) -> tuple[list[Source], list[Finding]]:
        """Ask NVML for its GPUs and each GPU for its sensors."""
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            fix = "pip install 'joule-harness[nvidia]'"
            return [], [self._no("nvml", "the Python module pynvml is not installed", fix)]
        if not hasattr(nvml, "nvmlDeviceGetFieldValues"):
            fix = "pip uninstall pynvml && pip install --force-reinstall nvidia-ml-py"
            return [], [
                self._no("nvml", "the module pynvml is an unofficial package without field values", fix)
            ]
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            return [], [self._no("nvml", *_explain(error))]
        try:
            return self._open_all(nvml)
        finally:
            nvml.nvmlShutdown()

    def _open_all(self, nvml: ModuleType) -> tuple[list[Source], list[Finding]]:
        sources: list[Source] = []
        findings: list[Finding] = []
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            return [], [self._no("nvml", *_explain(error))]
        if count == 0:
            findings.append(self._no("nvml", "the driver is loaded but shows no GPU", "check: nvidia-smi -L"))
        for index in range(count):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                # Some faults show only at the first real question.
                nvml.nvmlDeviceGetUUID(handle)
            except nvml.NVMLError as error:
                findings.append(self._no(f"gpu {index}", *_explain(error)))
                continue
            found, told = self._open(NvmlDevice(nvml, handle, index))
            sources += found
            findings += told
        return sources, findings

    def _open(self, device: NvmlDevice) -> tuple[list[Source], list[Finding]]:
        on_gpu = gpu_reads(device)
        # Where the GPU's own scope has power, the module would only count it a second time.
        on_module = Reads() if on_gpu.has_power else module_reads(device)
        subject = f"gpu {device.index}"
        if not on_gpu and not on_module:
            detail = f"{device.text('nvmlDeviceGetName')} answers NOT_SUPPORTED for both power and energy"
            fix = "sample this machine's CPU instead, or use a GPU with a power sensor"
            return [], [self._no(subject, detail, fix)]
        opened: list[NvidiaSource] = []
        module = describe(device, "module", on_module)
        if on_module:
            opened.append(self._source(device, module, on_module, SlowCalls()))
        if on_gpu:
            info = describe(device, "gpu", on_gpu, module.source_id if on_module else "")
            opened.append(self._source(device, info, on_gpu, slow_calls(device)))
        return list(opened), [_finding(self.name, subject, source) for source in opened]

    def _source(self, device: NvmlDevice, info: SourceInfo, reads: Reads, slow: SlowCalls) -> NvidiaSource:
        device.nvml.nvmlInit()  # counted: each source holds its own reference and gives it back on close
        handle = ctypes.cast(device.handle, ctypes.c_void_p)
        return NvidiaSource(device.nvml, handle, info, reads, slow, now_ns=self._now_ns)

    def _no(self, subject: str, detail: str, fix: str) -> Finding:
        return Finding(self.name, subject, available=False, detail=detail, fix=fix)


def _explain(error: Any) -> tuple[str, str]:
    """Return the reason and the fix for an NVMLError."""
    known = _REFUSALS.get(error.value)
    return known or (f"NVML says: {error}", "check: nvidia-smi")


def _finding(provider: str, subject: str, source: NvidiaSource) -> Finding:
    info = source.info
    parts = [f"{info.device_name} ({info.device_id}, driver {info.facts['driver']})"]
    if info.has_energy:
        parts.append("energy counter")
    parts.append(f"power: {info.facts['power_reading']}")
    if info.max_power_w > 0:
        parts.append(f"limit {info.max_power_w:.0f} W")
    processes = source.processes()
    if processes:
        parts.append("in use by " + ", ".join(f"pid {process.pid}" for process in processes))
    parts += info.notes
    subject = subject if info.scope == "gpu" else f"{subject} {info.scope}"
    return Finding(provider, subject, available=True, detail="; ".join(parts))
