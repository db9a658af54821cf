"""Can this agent run tasks of this group, on which devices, and if not, why not? Pure functions."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ACCELERATOR_ONLY_ENGINES = frozenset({"vllm"})
"""Engines that `device: auto` never starts on the CPU of a machine that has accelerators."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A job file's hardware selector; None or empty fields match anything."""

    vendor: str | None = None
    name: str | None = None
    agent: str | None = None
    min_memory_gb: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    def names_device(self) -> bool:
        """Whether the selector asks for a particular kind of device."""
        return self.vendor is not None or self.name is not None or self.min_memory_gb is not None


@dataclass(frozen=True, slots=True)
class Device:
    """A device of an agent. The host's processors are one device, `cpu`."""

    device_id: str
    vendor: str
    name: str
    is_cpu: bool
    measured: bool
    """Some source of it measures energy (counter, power or frames)."""
    estimated: bool
    memory_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class Requirement:
    """What the tasks of a group need of an agent."""

    engine: str
    selector: Selector
    energy: str
    """`measured`, `estimated-ok` or `off`."""
    device: str = "auto"
    """`auto`, `cpu` or `accelerator`."""
    device_count: int = 1


@dataclass(frozen=True, slots=True)
class Match:
    """The device kind that would be used and every device of it that qualifies; or the reason why not."""

    devices: tuple[Device, ...] = ()
    reason: str = ""


def match(
    requirement: Requirement,
    *,
    agent_name: str,
    labels: Mapping[str, str],
    engines: frozenset[str],
    devices: Sequence[Device],
) -> Match:
    """Return the devices of an agent that qualify, at least `device_count`, or why it cannot do it."""
    selector = requirement.selector
    if selector.agent is not None and not fnmatch.fnmatchcase(agent_name.lower(), selector.agent.lower()):
        return Match(reason=f"its name is not {selector.agent!r}")
    for key, value in selector.labels.items():
        if labels.get(key) != value:
            return Match(reason=f"it has no label {key}={value}")
    if requirement.engine not in engines:
        return Match(reason=f"engine {requirement.engine!r} is not installed on it")
    fitting = [d for d in devices if _device_fits(selector, d)]
    if not fitting:
        return Match(reason=f"it has no device that matches {describe(selector)}")
    pool = _pool(requirement, fitting)
    if len(pool) < requirement.device_count:
        kind = "processor" if requirement.device == "cpu" else "device"
        return Match(reason=f"it has {len(pool)} matching {kind}s and {requirement.device_count} are needed")
    if requirement.energy == "measured":
        measured = [d for d in pool if d.measured]
        if len(measured) < requirement.device_count:
            return Match(
                reason=f"no source can measure the energy of its {pool[0].name}"
                " (`energy: estimated-ok` in the job file accepts estimates)"
            )
        pool = measured
    elif requirement.energy == "estimated-ok":
        known = [d for d in pool if d.measured or d.estimated]
        if len(known) < requirement.device_count:
            return Match(reason=f"the energy of its {pool[0].name} can be neither measured nor estimated")
        pool = known
    return Match(devices=tuple(pool))


def describe(selector: Selector) -> str:
    """Return the selector as a person would write it in a job file."""
    parts = [
        f"{key}: {value}"
        for key, value in (
            ("vendor", selector.vendor),
            ("name", selector.name),
            ("agent", selector.agent),
            ("min_memory_gb", selector.min_memory_gb),
        )
        if value is not None
    ]
    if selector.labels:
        parts.append("labels: {" + ", ".join(f"{k}: {v}" for k, v in selector.labels.items()) + "}")
    return "{" + ", ".join(parts) + "}" if parts else "any"


def _device_fits(selector: Selector, device: Device) -> bool:
    if selector.vendor is not None:
        wanted = selector.vendor.lower()
        if wanted == "cpu":
            if not device.is_cpu:
                return False
        elif wanted != device.vendor.lower():
            return False
    if selector.name is not None and not fnmatch.fnmatchcase(device.name.lower(), selector.name.lower()):
        return False
    if selector.min_memory_gb is not None:
        return device.memory_bytes is not None and device.memory_bytes >= selector.min_memory_gb * 1e9
    return True


def _pool(requirement: Requirement, fitting: Sequence[Device]) -> list[Device]:
    processors = [d for d in fitting if d.is_cpu]
    accelerators = [d for d in fitting if not d.is_cpu]
    if requirement.device == "cpu":
        return processors
    if requirement.device == "accelerator" or (
        accelerators and requirement.engine in ACCELERATOR_ONLY_ENGINES
    ):
        return accelerators
    return accelerators or processors
