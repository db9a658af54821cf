"""The agents that are connected to this coordinator right now, and what they ask for. Nothing here must survive."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness_proto.v1 import fleet_pb2, telemetry_pb2

from harness_coordinator.matching import Device
from harness_coordinator.scheduler import AgentView, Run

HOST_SCOPES = frozenset({"package", "dram", "psys", "core", "uncore", "host"})
CPU_DEVICE_ID = "cpu"


@dataclass
class AgentSession:
    """One connected agent."""

    agent_id: str
    boot_id: str
    name: str
    labels: dict[str, str]
    engines: frozenset[str]
    devices: tuple[Device, ...]
    outbox: asyncio.Queue[fleet_pb2.CoordinatorMessage | None] = field(default_factory=asyncio.Queue)
    """What the agent is to be told; None is the session's end."""
    loaded_model: str = ""
    wants_new_run: bool = False
    wants_tasks: dict[str, int] = field(default_factory=dict[str, int])
    draining: bool = False

    def send(self, **body: object) -> None:
        """Queue a message for the agent; field names are those of `CoordinatorMessage`."""
        self.outbox.put_nowait(fleet_pb2.CoordinatorMessage(**body))  # type: ignore[arg-type]

    def refuse(self, reason: str) -> None:
        """Tell the agent that it is not wanted any more and end the session once that is sent."""
        self.send(refusal=fleet_pb2.Refusal(reason=reason, retry=False))
        self.close()

    def close(self) -> None:
        """End the session once everything queued is sent."""
        self.outbox.put_nowait(None)

    def view(self, runs: Iterable[Run]) -> AgentView:
        """Return what the scheduler sees of this agent."""
        return AgentView(
            agent_id=self.agent_id,
            name=self.name,
            labels=self.labels,
            engines=self.engines,
            devices=self.devices,
            loaded_model=self.loaded_model,
            runs=tuple(runs),
            wants_new_run=self.wants_new_run,
            wants_tasks=dict(self.wants_tasks),
            draining=self.draining,
        )


class Sessions:
    """Sessions by agent id; a newer session of the same agent replaces the older."""

    def __init__(self) -> None:
        self._by_agent: dict[str, AgentSession] = {}

    def add(self, session: AgentSession) -> None:
        """Add a session and close the one it replaces (a half-open connection of the same agent)."""
        older = self._by_agent.get(session.agent_id)
        if older is not None:
            older.close()
        self._by_agent[session.agent_id] = session

    def remove(self, session: AgentSession) -> None:
        """Forget a session unless a newer one took its place."""
        if self._by_agent.get(session.agent_id) is session:
            del self._by_agent[session.agent_id]

    def get(self, agent_id: str) -> AgentSession | None:
        """Return the session of an agent, None when it is not connected here."""
        return self._by_agent.get(agent_id)

    def all(self) -> list[AgentSession]:
        """Return every session."""
        return list(self._by_agent.values())

    def by_name(self, name: str) -> AgentSession | None:
        """Return the session of the agent with this name."""
        return next((s for s in self._by_agent.values() if s.name == name), None)


def devices_of(
    sources: Iterable[telemetry_pb2.SourceInfo], host: telemetry_pb2.HostInfo
) -> tuple[Device, ...]:
    """Return an agent's devices: one per accelerator, and the host's processors together as `cpu`."""
    accelerators: dict[str, list[telemetry_pb2.SourceInfo]] = {}
    processors: list[telemetry_pb2.SourceInfo] = []
    for source in sources:
        if source.vendor == "host" or source.scope in HOST_SCOPES:
            processors.append(source)
        else:
            accelerators.setdefault(source.device_id, []).append(source)
    devices = [_accelerator(device_id, members) for device_id, members in sorted(accelerators.items())]
    package = [s for s in processors if s.scope == "package"]
    devices.append(
        Device(
            device_id=CPU_DEVICE_ID,
            vendor=next((s.vendor for s in package if s.vendor != "host"), "host"),
            name=host.cpu_brand or "cpu",
            is_cpu=True,
            measured=any(s.energy_source != "estimated" and (s.has_energy or s.has_power) for s in package),
            estimated=any(s.energy_source == "estimated" for s in processors),
            memory_bytes=float(host.memory_total_bytes) or None,
        )
    )
    return tuple(devices)


def _accelerator(device_id: str, members: list[telemetry_pb2.SourceInfo]) -> Device:
    memory = [s.memory_total_bytes for s in members if s.HasField("memory_total_bytes")]
    return Device(
        device_id=device_id,
        vendor=members[0].vendor,
        name=members[0].device_name,
        is_cpu=False,
        measured=any(s.energy_source != "estimated" and (s.has_energy or s.has_power) for s in members),
        estimated=any(s.energy_source == "estimated" for s in members),
        memory_bytes=max(memory) if memory else None,
    )


def selector_of(item: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a job file's hardware selector that the matching knows."""
    return {k: v for k, v in item.items() if k in {"vendor", "name", "agent", "min_memory_gb", "labels"}}
