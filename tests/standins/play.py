"""Describes the devices that the stand-in libraries play: power curves, sensors, faults, and the truth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

VARIABLE = "HARNESS_STANDIN"


@dataclass(frozen=True)
class PowerCurve:
    """True power over time; before the first and after the last point it stays as it is there."""

    t_s: np.ndarray
    power_w: np.ndarray
    linear: bool = False
    """Straight lines between the points; otherwise each power holds until the next point."""
    loop: bool = False

    def energy_j(self, start_s: float, end_s: float) -> float:
        """Return the integral of the curve, J."""
        return self._from_start(end_s) - self._from_start(start_s)

    def _from_start(self, t_s: float) -> float:
        steps = np.diff(self.t_s)
        heights = (self.power_w[:-1] + self.power_w[1:]) / 2 if self.linear else self.power_w[:-1]
        energies = np.concatenate([[0.0], np.cumsum(steps * heights)])
        cycles = 0.0
        if self.loop:
            span_s = float(self.t_s[-1] - self.t_s[0])
            cycles = math.floor((t_s - self.t_s[0]) / span_s)
            t_s -= cycles * span_s
        index = int(np.clip(np.searchsorted(self.t_s, t_s, side="right") - 1, 0, len(self.t_s) - 1))
        dt = t_s - float(self.t_s[index])
        power_w = float(self.power_w[index])
        if self.linear and dt >= 0 and index + 1 < len(self.t_s):
            power_w += 0.5 * dt * float((self.power_w[index + 1] - self.power_w[index]) / steps[index])
        return cycles * float(energies[-1]) + float(energies[index]) + dt * power_w


def constant(power_w: float) -> PowerCurve:
    """Return a curve that stays at one power."""
    return PowerCurve(np.array([0.0, 1.0]), np.array([power_w, power_w]))


def square(low_w: float, high_w: float, period_s: float, duty: float = 0.5) -> PowerCurve:
    """Return an endless square wave that begins high."""
    t_s = np.array([0.0, duty * period_s, period_s])
    return PowerCurve(t_s, np.array([high_w, low_w, high_w]), loop=True)


def ramp(start_w: float, end_w: float, seconds: float) -> PowerCurve:
    """Return a straight line from one power to another, which then holds."""
    return PowerCurve(np.array([0.0, seconds]), np.array([start_w, end_w]), linear=True)


def random_steps(seed: int, seconds: float, low_w: float = 80.0, high_w: float = 400.0) -> PowerCurve:
    """Return powers drawn between two bounds, each held for 0.03 to 0.9 s."""
    generator = np.random.default_rng(seed)
    t_s = np.cumsum(np.concatenate([[0.0], generator.uniform(0.03, 0.9, int(seconds / 0.03))]))
    t_s = t_s[t_s < seconds]
    return PowerCurve(t_s, generator.uniform(low_w, high_w, len(t_s)))


@dataclass(frozen=True)
class Stage:
    """Everything that a stand-in library is told.

    `settings` are keys of sensor_model.h for all devices, for example `power_period_s`, `power_window_s`,
    `counter_phase_s`, `gain`, `noise_w`, `freeze_s`, `reset_s`, `uuid`; `per_device[k]` hold for device k.
    A `status` is `"FUNCTION CODE [FROM_S [UNTIL_S]]"`: what that vendor function answers in that time;
    FUNCTION may be `*`, `init`, or for NVML `field:ID[:SCOPE]`. A setting `hang`, `"FUNCTION FROM_S UNTIL_S"`, makes
    a call in that time come back at its end only.
    """

    curve: PowerCurve
    devices: int = 1
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    per_device: Mapping[int, Mapping[str, object]] = field(default_factory=dict[int, Mapping[str, object]])
    statuses: Sequence[str] = ()
    epoch_s: float | None = None
    """CLOCK_MONOTONIC of the curve's zero; when absent it is the time of the library's initialisation."""
    speed: float = 1.0

    def write(self, folder: Path) -> Path:
        """Write the description and its curves into a folder; returns what HARNESS_STANDIN is to name."""
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"devices {self.devices}", f"speed {self.speed!r}"]
        if self.epoch_s is not None:
            lines.append(f"epoch_s {self.epoch_s!r}")
        lines += _curve_lines(self.curve, folder / "curve.csv")
        lines += _setting_lines(self.settings)
        lines += [f"status {status}" for status in self.statuses]
        for index, settings in self.per_device.items():
            own = dict(settings)
            curve = own.pop("curve", None)
            more = _curve_lines(curve, folder / f"curve{index}.csv") if isinstance(curve, PowerCurve) else []
            lines += [f"@{index} {line}" for line in [*more, *_setting_lines(own)]]
        path = folder / "stage.txt"
        path.write_text("\n".join(lines) + "\n")
        return path


def _curve_lines(curve: PowerCurve, path: Path) -> list[str]:
    np.savetxt(path, np.column_stack([curve.t_s, curve.power_w]), delimiter=",", fmt="%.17g")
    return [f"path {path}", f"linear {int(curve.linear)}", f"loop {int(curve.loop)}"]


def _setting_lines(settings: Mapping[str, object]) -> Iterator[str]:
    for key, value in settings.items():
        if isinstance(value, (list, tuple)):
            yield from (f"{key} {one}" for one in value)
        else:
            yield f"{key} {value}"
