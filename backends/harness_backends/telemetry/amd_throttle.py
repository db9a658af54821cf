"""Why an AMD GPU held its clock down, from its metrics table.

MI300 and later count the firmware's ticks spent under each limit; Navi, MI100 and MI200 show bits of what holds the
clock now (AMD SMI documentation, "GPU violations"). `amdsmi_get_violation_status` tells the same counts, but takes two
looks 0.1 s apart, which would hold up every other source; here the last look is the first of the two.
"""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

from harness_backends.telemetry.source import ThrottleReason

_RESIDENCIES = {
    "ppt_residency_acc": ThrottleReason.POWER_CAP,
    "prochot_residency_acc": ThrottleReason.THERMAL,
    "socket_thm_residency_acc": ThrottleReason.THERMAL,
    "vr_thm_residency_acc": ThrottleReason.THERMAL,
    "hbm_thm_residency_acc": ThrottleReason.THERMAL,
}
_ABSENT_32, _ABSENT_64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_POWER = 0xFF
_CURRENT = 0xFF << 16
_TEMPERATURE = 0xFFFF << 32
"""Groups of `indep_throttle_status` (amdgpu_smu.h): package power, currents, temperatures with PROCHOT; else: other."""


class AmdThrottle:
    """Asks one GPU for its throttle reasons. What the GPU tells is found at the first look."""

    def __init__(self, amdsmi: ModuleType, handle: object) -> None:
        # The public call would turn the bits into a yes or no, and builds a dictionary of 400 numbers.
        self._wrapper: Any = getattr(amdsmi, "amdsmi_wrapper", None)
        self._handle = handle
        self._counts: dict[str, int] = {}
        self.kind = "none"
        """`residencies`, `bits`, `flag` (that it is held down, not why), or `none`."""
        metrics = self._metrics()
        if metrics is None:
            return
        self._counts = _residencies(metrics)
        if self._counts:
            self.kind = "residencies"
        elif _known(metrics, "indep_throttle_status", _ABSENT_64) is not None:
            self.kind = "bits"
        elif _known(metrics, "throttle_status", _ABSENT_32) is not None:
            self.kind = "flag"

    def bits(self) -> int | None:
        """Return bits of `ThrottleReason` for the time since the last call, or for now; None where not told."""
        metrics = None if self.kind == "none" else self._metrics()
        if metrics is None:
            return None
        if self.kind == "residencies":
            before, self._counts = self._counts, _residencies(metrics)
            return _risen(before, self._counts)
        if self.kind == "bits":
            status = _known(metrics, "indep_throttle_status", _ABSENT_64)
            return None if status is None else throttle_reason(status)
        status = _known(metrics, "throttle_status", _ABSENT_32)
        return None if status is None else (ThrottleReason.OTHER if status else 0)

    def _metrics(self) -> Any:
        if self._wrapper is None or not hasattr(self._wrapper, "amdsmi_gpu_metrics_t"):
            return None
        metrics = self._wrapper.amdsmi_gpu_metrics_t()
        failed = self._wrapper.amdsmi_get_gpu_metrics_info(self._handle, ctypes.byref(metrics))
        return None if failed else metrics


def throttle_reason(status: int) -> int:
    """Translate `indep_throttle_status` to the vendor-neutral bits of `ThrottleReason`."""
    bits = ThrottleReason.POWER_CAP if status & _POWER else 0
    bits |= ThrottleReason.HARDWARE if status & _CURRENT else 0
    bits |= ThrottleReason.THERMAL if status & _TEMPERATURE else 0
    return bits | (ThrottleReason.OTHER if status & ~(_POWER | _CURRENT | _TEMPERATURE) else 0)


def _residencies(metrics: Any) -> dict[str, int]:
    found = {name: _known(metrics, name, _ABSENT_64) for name in _RESIDENCIES}
    return {name: count for name, count in found.items() if count is not None}


def _risen(before: dict[str, int], after: dict[str, int]) -> int | None:
    bits: int | None = None
    for name, count in after.items():
        if name in before:
            bits = (bits or 0) | (_RESIDENCIES[name] if count > before[name] else 0)
    return bits


def _known(metrics: Any, name: str, absent: int) -> int | None:
    value = getattr(metrics, name, absent)
    return None if value == absent else int(value)
