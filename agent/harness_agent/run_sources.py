"""Which sources account for a run: those of its devices, and those of the host beside an accelerator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness_backends.engines.adapter import EngineDevice
from harness_backends.telemetry.source import SourceInfo

_PREFERRED_SCOPES = {"apple": ("soc", "gpu")}
_USUAL_SCOPES = ("gpu", "module", "board")
"""A GPU is accounted by its own scope; a module or board is taken only where the GPU alone cannot be read."""
_CPU_SCOPES = ("package", "cpu")


class NoSourceError(Exception):
    """A measured run was asked for where nothing can measure it."""


@dataclass(frozen=True, slots=True)
class RunSources:
    """Source ids of a run."""

    primary: tuple[str, ...] = ()
    """Of the devices that the engine runs on: their joules are the queries'."""
    host: tuple[str, ...] = ()
    """CPU package and DRAM beside an accelerator."""


def choose_sources(infos: Sequence[SourceInfo], device_ids: Sequence[str], energy: str) -> RunSources:
    """Choose the sources that account for a run.

    Args:
        infos: the sources that can be read now.
        device_ids: accelerators that the engine uses; empty: the host's CPU.
        energy: the job's policy: measured, estimated-ok or off.

    Raises:
        NoSourceError: the policy asks for more than this host can read.
    """
    if energy == "off":
        return RunSources()
    measured = [info for info in infos if _is_measured(info)]
    if device_ids:
        return RunSources(_of_accelerators(measured, device_ids, energy), _of_host(measured))
    for scope in _CPU_SCOPES:
        found = _top_level(info for info in measured if info.scope == scope)
        if found:
            return RunSources(found)
    estimates = tuple(info.source_id for info in infos if info.energy_source == "estimated")
    if energy == "estimated-ok" and estimates:
        return RunSources(estimates)
    raise NoSourceError(
        f"No source on this machine can account for a CPU engine with `energy: {energy}`; "
        "`harness agent doctor` says why."
    )


def engine_devices(infos: Iterable[SourceInfo], device_ids: Sequence[str]) -> tuple[EngineDevice, ...]:
    """Return the accelerators with their vendors, as an engine adapter wants them."""
    known = {info.device_id: (info.vendor, info.facts.get("pci", "")) for info in infos}
    return tuple(EngineDevice(known.get(i, ("", ""))[0], i, known.get(i, ("", ""))[1]) for i in device_ids)


def _of_accelerators(
    measured: Sequence[SourceInfo], device_ids: Sequence[str], energy: str
) -> tuple[str, ...]:
    chosen: list[str] = []
    for device_id in device_ids:
        sources = [info for info in measured if info.device_id == device_id]
        found: tuple[str, ...] = ()
        if sources:
            for scope in _PREFERRED_SCOPES.get(sources[0].vendor, _USUAL_SCOPES):
                found = found or _top_level(info for info in sources if info.scope == scope)
            found = found or _top_level(sources)
        if not found and energy == "measured":
            raise NoSourceError(
                f"No source on this machine measures the device {device_id}; `harness agent doctor` says why."
            )
        chosen += [source_id for source_id in found if source_id not in chosen]
    return tuple(chosen)


def _of_host(measured: Sequence[SourceInfo]) -> tuple[str, ...]:
    return _top_level(info for info in measured if info.scope in ("package", "dram"))


def _is_measured(info: SourceInfo) -> bool:
    return info.energy_source not in ("", "estimated") and (info.has_energy or info.has_power)


def _top_level(infos: Iterable[SourceInfo]) -> tuple[str, ...]:
    """Return the ids of sources that no other of these contains."""
    found = list(infos)
    ids = {info.source_id for info in found}
    return tuple(info.source_id for info in found if info.contained_in not in ids)
