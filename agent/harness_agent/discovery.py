"""Find telemetry providers by entry point and collect the sources that answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

import psutil
from harness_backends.telemetry.host import HostSource
from harness_backends.telemetry.source import (
    Finding,
    ListsProcesses,
    Provider,
    Source,
    TracksProcesses,
)

GROUP = "harness.telemetry"


@dataclass(frozen=True, slots=True)
class Discovery:
    """The sources that can be read here, and a finding for each one that can or cannot."""

    sources: list[Source]
    findings: list[Finding]

    def track(self, pids: Sequence[int]) -> None:
        """Tell every source that follows processes which ones are the engine's."""
        track_processes(self.sources, pids)

    def strangers(self, source_ids: Sequence[str], engine_pids: Sequence[int]) -> list[int]:
        """Return the processes that share the devices of these sources with the engine."""
        return strangers(self.sources, source_ids, engine_pids)

    def close(self) -> None:
        """Close every source; for those who look but do not sample."""
        for source in self.sources:
            source.close()


def track_processes(sources: Sequence[Source], pids: Sequence[int]) -> None:
    """Tell every source that follows processes that the engine is these processes and their children."""
    for source in sources:
        if isinstance(source, TracksProcesses):
            source.track(pids)


def strangers(sources: Sequence[Source], source_ids: Sequence[str], engine_pids: Sequence[int]) -> list[int]:
    """Return the processes that share a run's devices with its engine: their energy is in the engine's joules.

    Where the driver lists none of the engine's own processes its numbers are of another namespace (a container),
    and nothing can be told: the answer is then empty.

    Args:
        sources: all sources of this machine.
        source_ids: those of the run.
        engine_pids: the engine's processes; their children count as the engine too.
    """
    listed: set[int] = set()
    for source in sources:
        if source.info.source_id in source_ids and isinstance(source, ListsProcesses):
            listed |= set(source.process_ids())
    own = set(engine_pids)
    for pid in engine_pids:
        with contextlib.suppress(psutil.Error):
            own |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return sorted(listed - own) if listed & own else []


def provider_names() -> list[str]:
    """Return the names of all registered providers, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def discover(names: Sequence[str] | None = None, *, with_host: bool = True) -> Discovery:
    """Ask providers for their sources.

    Args:
        names: providers to ask; None asks all that are registered.
        with_host: add the source of the host's memory and load.
    """
    sources: list[Source] = []
    findings: list[Finding] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if names is not None and entry.name not in names:
            continue
        found, told = _ask(entry)
        sources += found
        findings += told
    if with_host:
        sources.append(HostSource())
    return Discovery(sources, findings)


def _ask(entry: EntryPoint) -> tuple[list[Source], list[Finding]]:
    try:
        make: Callable[[], Provider] = entry.load()
        return make().discover()
    except Exception as error:  # noqa: BLE001 - a provider may live in somebody else's package
        detail = f"provider {entry.value} failed: {type(error).__name__}: {error}"
        fix = "reinstall the package that provides it, or report this to its authors"
        return [], [Finding(entry.name, entry.name, available=False, detail=detail, fix=fix)]
