"""Polls one NVIDIA GPU: power and energy at every poll, the slow values twice a second."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from harness_backends.telemetry.source import NAN, Reading, SourceGone, SourceInfo, ThrottleReason

FIELD_POWER_AVERAGE = 185
FIELD_POWER_INSTANT = 186
FIELD_TOTAL_ENERGY = 83
SLOW_INTERVAL_NS = 500_000_000
"""Memory, temperature, load, clock and throttling: NVML itself renews load only every 1/6 s to 1 s."""

_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
"""nvmlValueType_t to the member of nvmlValue_t that holds it."""

_UNINITIALIZED, _GPU_IS_LOST, _RESET_REQUIRED, _DRIVER_NOT_LOADED = 1, 15, 16, 9
_FINAL = {
    _UNINITIALIZED: "NVML was shut down or its driver was unloaded",
    _DRIVER_NOT_LOADED: "the NVIDIA driver was unloaded",
    _GPU_IS_LOST: "the GPU is lost: it fell off the bus or is no longer accessible (NVML_ERROR_GPU_IS_LOST)",
    _RESET_REQUIRED: "the GPU needs a reset before it answers again (NVML_ERROR_RESET_REQUIRED)",
}

_POWER_CAP = 0x4 | 0x80
_THERMAL = 0x20 | 0x40
_HARDWARE = 0x8
_OTHER = 0x2 | 0x10 | 0x100
"""nvmlClocksEventReason bits: application clocks, sync boost and display clock hold the clock down too."""


class NvmlReadError(Exception):
    """NVML refused a poll for a reason that may pass."""


@dataclass(frozen=True, slots=True)
class FieldRequest:
    """One NVML field value to poll and the scope it answers in (0 GPU, 1 module)."""

    field_id: int
    scope_id: int = 0


@dataclass(frozen=True, slots=True)
class Reads:
    """What a scope of a GPU answers for power and energy; false when that is nothing."""

    fields: tuple[FieldRequest, ...] = ()
    power_call: bool = False
    """Power comes from nvmlDeviceGetPowerUsage, as no field gives it."""
    energy_call: bool = False
    """The counter comes from nvmlDeviceGetTotalEnergyConsumption, as no field gives it."""

    def __bool__(self) -> bool:
        """Whether there is anything to read."""
        return bool(self.fields) or self.power_call or self.energy_call

    def has(self, field_id: int) -> bool:
        """Whether this field is read."""
        return any(request.field_id == field_id for request in self.fields)

    @property
    def has_energy(self) -> bool:
        """Whether there is an energy counter."""
        return self.energy_call or self.has(FIELD_TOTAL_ENERGY)

    @property
    def has_power(self) -> bool:
        """Whether there is a power reading."""
        return self.power_call or self.has(FIELD_POWER_INSTANT) or self.has(FIELD_POWER_AVERAGE)


@dataclass(frozen=True, slots=True)
class SlowCalls:
    """Calls for the slow values, each None where the device does not support it."""

    memory_used_bytes: Callable[[], float] | None = None
    temperature_c: Callable[[], float] | None = None
    utilisation: Callable[[], float] | None = None
    sm_clock_mhz: Callable[[], float] | None = None
    throttle_bits: Callable[[], int] | None = None


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """One process with a context on the GPU; `memory_bytes` is NaN where the driver does not tell."""

    pid: int
    memory_bytes: float


class NvidiaSource:
    """One GPU, or the module around it: one NVML call fetches power and counter together."""

    def __init__(
        self,
        nvml: ModuleType,
        handle: ctypes.c_void_p,
        info: SourceInfo,
        reads: Reads,
        slow: SlowCalls,
        *,
        now_ns: Callable[[], int],
    ) -> None:
        """Prepare the poll.

        Args:
            nvml: the pynvml module, initialised; `close` shuts it down once more.
            handle: the device.
            info: what the source is.
            reads: what the device answers for power and energy.
            slow: what is asked for twice a second.
            now_ns: CLOCK_MONOTONIC, or a simulated clock.
        """
        self._nvml = nvml
        self._info = info
        self._handle = handle
        self._slow = slow
        self._now_ns = now_ns
        requests = reads.fields
        self._values = (nvml.c_nvmlFieldValue_t * max(len(requests), 1))()
        for value, request in zip(self._values, requests, strict=False):
            value.fieldId, value.scopeId = request.field_id, request.scope_id
        self._count = len(requests)
        elements = {request.field_id: self._values[index] for index, request in enumerate(requests)}
        self._average = elements.get(FIELD_POWER_AVERAGE)
        self._instant = elements.get(FIELD_POWER_INSTANT, self._average)
        self._energy = elements.get(FIELD_TOTAL_ENERGY)
        self._pointer = ctypes.cast(self._values, ctypes.c_void_p)
        # pynvml builds its arguments anew on every call (some 15 us); the prototype below is the same call at 2 us.
        library = ctypes.CDLL("libnvidia-ml.so.1")
        self._get_fields = library.nvmlDeviceGetFieldValues
        self._get_fields.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
        self._legacy_power = self._number_call(
            library, "nvmlDeviceGetPowerUsage", ctypes.c_uint, reads.power_call
        )
        self._legacy_energy = self._number_call(
            library, "nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong, reads.energy_call
        )
        # Several GPUs must not all do their slow calls in the same poll: the polls would bunch.
        self._slow_due_ns = now_ns() + int(random.random() * SLOW_INTERVAL_NS)  # noqa: S311
        self._throttle_bits = 0

    @property
    def info(self) -> SourceInfo:
        """What this source is."""
        return self._info

    def read(self) -> Reading:
        """Poll once; the slow values are NaN in the polls between.

        Raises:
            SourceGone: the GPU is lost, or the driver was unloaded.
            NvmlReadError: NVML refused for another reason.
        """
        before_ns = self._now_ns()
        if self._count:
            self._check(self._get_fields(self._handle, self._count, self._pointer))
        power_mw = self._legacy_power()
        energy_mj = self._legacy_energy()
        after_ns = self._now_ns()
        t_ns = (before_ns + after_ns) >> 1
        instant_mw = _value(self._instant)
        average_mw = _value(self._average)
        counted_mj = _value(self._energy)
        slow = (NAN, NAN, NAN, NAN)
        if before_ns >= self._slow_due_ns:
            slow = self._read_slow()
            self._slow_due_ns += SLOW_INTERVAL_NS
            if self._slow_due_ns <= before_ns:
                self._slow_due_ns = before_ns + SLOW_INTERVAL_NS
        return Reading(
            t_ns,
            (after_ns - before_ns + 1) >> 1,
            (energy_mj if counted_mj is None else counted_mj) * 1e-3,
            (power_mw if instant_mw is None else instant_mw) * 1e-3,
            NAN if average_mw is None else average_mw * 1e-3,
            slow[0],
            slow[1],
            slow[2],
            slow[3],
            self._throttle_bits,
        )

    def processes(self) -> list[DeviceProcess]:
        """Return the processes with a compute context on this GPU; empty where NVML does not tell."""
        try:
            listed = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._nvml_handle())
        except self._nvml.NVMLError:
            return []
        return [
            DeviceProcess(p.pid, NAN if p.usedGpuMemory is None else float(p.usedGpuMemory)) for p in listed
        ]

    def process_ids(self) -> list[int]:
        """Return the ids of the processes with a compute context on this GPU."""
        return [process.pid for process in self.processes()]

    def close(self) -> None:
        """Give back this source's reference on NVML."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            return

    def _nvml_handle(self) -> object:
        return ctypes.cast(self._handle, self._nvml.c_nvmlDevice_t)

    def _number_call(
        self,
        library: ctypes.CDLL,
        name: str,
        kind: type[ctypes.c_uint] | type[ctypes.c_ulonglong],
        wanted: bool,
    ) -> Callable[[], float]:
        """Return a call for one number; NaN where it is not wanted or not supported just now."""
        if not wanted:
            return _absent
        function = getattr(library, name)
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        number = kind()
        pointer = ctypes.cast(ctypes.pointer(number), ctypes.c_void_p)

        def call() -> float:
            status = function(self._handle, pointer)
            if status:
                if status in _FINAL:
                    raise SourceGone(_FINAL[status])
                return NAN
            return number.value

        return call

    def _read_slow(self) -> tuple[float, float, float, float]:
        calls = self._slow
        values = [
            NAN if call is None else self._ask(call)
            for call in (calls.memory_used_bytes, calls.temperature_c, calls.utilisation, calls.sm_clock_mhz)
        ]
        if calls.throttle_bits is not None:
            bits = self._ask(calls.throttle_bits)
            self._throttle_bits = 0 if bits != bits else int(bits)  # noqa: PLR0124 - NaN
        return values[0], values[1], values[2], values[3]

    def _ask(self, call: Callable[[], float]) -> float:
        try:
            return call()
        except self._nvml.NVMLError as error:
            if error.value in _FINAL:
                raise SourceGone(_FINAL[error.value]) from error
            return NAN

    def _check(self, status: int) -> None:
        if not status:
            return
        if status in _FINAL:
            raise SourceGone(_FINAL[status])
        msg = f"nvmlDeviceGetFieldValues: {self._nvml.nvmlErrorString(status)}"
        raise NvmlReadError(msg)


def throttle_reason(reasons: int) -> int:
    """Translate nvmlClocksEventReasons to the vendor-neutral bits of `ThrottleReason`."""
    bits = ThrottleReason.POWER_CAP if reasons & _POWER_CAP else 0
    bits |= ThrottleReason.THERMAL if reasons & _THERMAL else 0
    bits |= ThrottleReason.HARDWARE if reasons & _HARDWARE else 0
    return bits | (ThrottleReason.OTHER if reasons & _OTHER else 0)


def _value(value: ctypes.Structure | None) -> float | None:
    if value is None:
        return None
    if value.nvmlReturn:
        if value.nvmlReturn in _FINAL:
            raise SourceGone(_FINAL[value.nvmlReturn])
        return NAN
    return getattr(value.value, _MEMBERS[value.valueType])


def _absent() -> float:
    return NAN
