"""Apple silicon and Intel Macs through powermetrics: one source per rail, all from one child process."""

from __future__ import annotations

import os
import shutil
import sys

import psutil

from harness_backends.telemetry.apple_frames import Frame
from harness_backends.telemetry.apple_stream import BACKOFF_S, FIRST_FRAME_S, STALL_S, PowermetricsStream
from harness_backends.telemetry.source import (
    NAN,
    Finding,
    Reading,
    Source,
    SourceGone,
    SourceInfo,
    ThrottleReason,
)

INTERVAL_MS = 200
_SAMPLERS = ("cpu_power,gpu_power,ane_power,thermal", "cpu_power,gpu_power,thermal", "cpu_power,gpu_power")
"""Not every macOS knows every sampler, and an unknown one is refused: from the richest set to the plainest."""
_ESTIMATE_NOTE = (
    "powermetrics' figures are Apple's own estimates; its manual warns against comparing devices by them."
)
_SUDO_FIX = (
    "run the agent as root (harness agent install does), or allow this one command without a password: "
    'echo "$USER ALL=(root) NOPASSWD: /usr/bin/powermetrics" | sudo tee /etc/sudoers.d/powermetrics'
)


class AppleSource:
    """One rail: cumulative energy at the end of each frame, and nothing in between or when the stream is dead."""

    def __init__(self, stream: PowermetricsStream, rail: str, info: SourceInfo) -> None:
        self._stream = stream
        self._rail = rail
        self._info = info
        self._energy_j = 0.0
        self._frames = stream.subscribe()

    @property
    def info(self) -> SourceInfo:
        """What this source is."""
        return self._info

    def read(self) -> Reading | None:
        """Return the next frame that has come, None when there is none.

        Raises:
            SourceGone: powermetrics died more often than it is started again.
        """
        try:
            timed = self._frames.popleft()
        except IndexError:
            if self._stream.failure:
                raise SourceGone(self._stream.failure) from None
            return None
        frame = timed.frame
        rail = frame.rails.get(self._rail)
        energy_j = power_w = NAN
        if rail is not None:
            self._energy_j += rail.energy_j
            energy_j, power_w = self._energy_j, rail.energy_j / (frame.elapsed_ns * 1e-9)
        is_gpu = self._rail == "gpu"
        return Reading(
            t_ns=timed.t_ns,
            half_width_ns=timed.half_width_ns,
            energy_j=energy_j,
            power_w=power_w,
            utilisation=frame.gpu_active if is_gpu else NAN,
            sm_clock_mhz=frame.gpu_clock_mhz if is_gpu else NAN,
            throttle_bits=ThrottleReason.THERMAL if frame.thermal_pressure not in {"", "Nominal"} else 0,
            interval_ns=frame.elapsed_ns,
        )

    def close(self) -> None:
        """Stop listening; the child ends with its last listener."""
        self._stream.unsubscribe(self._frames)


class AppleProvider:
    """Starts powermetrics and opens a source for each rail that its first frame tells."""

    name = "apple"

    def __init__(
        self,
        interval_ms: int = INTERVAL_MS,
        backoff_s: tuple[float, float] = BACKOFF_S,
        stall_s: float = STALL_S,
    ) -> None:
        self._stall_s = stall_s
        self._interval_ms = interval_ms
        self._backoff_s = backoff_s

    def discover(self) -> tuple[list[Source], list[Finding]]:
        """Look for powermetrics, start it and wait for one frame."""
        program = shutil.which("powermetrics")
        if program is None:
            detail = (
                "powermetrics is not on the PATH"
                if sys.platform == "darwin"
                else "not a Mac: no powermetrics here"
            )
            return [], [Finding(self.name, "powermetrics", available=False, detail=detail)]
        stream = self._first_that_answers(program)
        if stream.failure or not stream.wait_for_frame(0):
            stream.close()
            detail, fix = _explain(stream)
            return [], [Finding(self.name, "powermetrics", available=False, detail=detail, fix=fix)]
        return self._open_rails(stream)

    def _first_that_answers(self, program: str) -> PowermetricsStream:
        for samplers in _SAMPLERS[:-1]:
            stream = self._start(program, samplers)
            if stream.wait_for_frame(FIRST_FRAME_S) or "sampler" not in stream.stderr.lower():
                return stream
            stream.close()
        stream = self._start(program, _SAMPLERS[-1])
        stream.wait_for_frame(FIRST_FRAME_S)
        return stream

    def _start(self, program: str, samplers: str) -> PowermetricsStream:
        prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
        options = ["--samplers", samplers, "-f", "plist", "-i", str(self._interval_ms), "-b", "0"]
        stream = PowermetricsStream([*prefix, program, *options], self._backoff_s, self._stall_s)
        self._first = stream.subscribe()
        stream.start()
        return stream

    def _open_rails(self, stream: PowermetricsStream) -> tuple[list[Source], list[Finding]]:
        frame = self._first[0].frame
        whole = next((name for name in ("soc", "package") if name in frame.rails), "")
        sources: list[Source] = []
        findings: list[Finding] = []
        for rail in frame.rails:
            info = _describe(frame, rail, whole, self._interval_ms)
            sources.append(AppleSource(stream, rail, info))
            detail = f"{frame.hw_model} ({frame.os_build}): energy of each frame, key {frame.rails[rail].key}"
            findings.append(Finding(self.name, rail, available=True, detail=detail))
        if not sources:
            detail = f"{frame.hw_model} ({frame.os_build}): powermetrics runs but tells no power (a virtual machine?)"
            findings.append(Finding(self.name, "powermetrics", available=False, detail=detail))
        stream.unsubscribe(self._first)
        return sources, findings


def _describe(frame: Frame, rail: str, whole: str, interval_ms: int) -> SourceInfo:
    return SourceInfo(
        source_id=f"apple:{rail}",
        vendor="apple",
        device_id="soc" if whole != "package" else "package-0",
        device_name=frame.hw_model,
        scope=rail,
        energy_source="frame",
        has_energy=True,
        has_power=True,
        contained_in=f"apple:{whole}" if whole and rail != whole else "",
        counter_resolution_j=1e-3,
        power_period_s=interval_ms / 1000,
        counter_period_s=interval_ms / 1000,
        averaging_s=interval_ms / 1000,
        memory_total_bytes=float(psutil.virtual_memory().total),
        facts={"os_build": frame.os_build, "key": frame.rails[rail].key, "interval_ms": str(interval_ms)},
        notes=(_ESTIMATE_NOTE,),
    )


def _explain(stream: PowermetricsStream) -> tuple[str, str]:
    """Return why the stream gave no frame and what to do about it."""
    said = stream.stderr.strip()
    lowered = said.lower()
    if (
        "superuser" in lowered
        or "password is required" in lowered
        or "not allowed" in lowered
        or "sudoers" in lowered
    ):
        return (
            f"powermetrics needs root, and sudo would ask for a password ({said.splitlines()[-1]})",
            _SUDO_FIX,
        )
    if "sudo" in lowered and "no such file" in lowered:
        return "powermetrics needs root, and there is no sudo", "run the agent as root"
    if stream.failure:
        return stream.failure, "try by hand: sudo powermetrics -n 1 -f plist"
    return (
        f"powermetrics gave no frame within {FIRST_FRAME_S:.0f} s",
        "try by hand: sudo powermetrics -n 1 -f plist",
    )
