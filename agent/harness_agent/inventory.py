"""What the agent offers: its host, its sources and its engines, as messages of the wire."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from harness_backends.engines.adapter import EngineAvailability
from harness_backends.telemetry.source import SourceInfo
from harness_proto.v1 import fleet_pb2, telemetry_pb2

from harness_agent.identity import Identity

_OPTIONAL = (
    "counter_resolution_j", "counter_wrap_j", "max_power_w", "power_period_s", "counter_period_s", "averaging_s",
    "memory_total_bytes",
)  # fmt: skip


def agent_version() -> str:
    """Return the installed version of the harness."""
    try:
        return version("joule-harness")
    except PackageNotFoundError:  # run from a tree that is not installed
        return "0+unknown"


def source_message(info: SourceInfo) -> telemetry_pb2.SourceInfo:
    """Return a source for the wire; unknown numbers stay unset."""
    message = telemetry_pb2.SourceInfo(
        source_id=info.source_id,
        vendor=info.vendor,
        device_id=info.device_id,
        device_name=info.device_name,
        scope=info.scope,
        energy_source=info.energy_source,
        has_energy=info.has_energy,
        has_power=info.has_power,
        contained_in=info.contained_in,
        facts=dict(info.facts),
        notes=list(info.notes),
    )
    for name in _OPTIONAL:
        value = getattr(info, name)
        if not math.isnan(value):
            setattr(message, name, value)
    return message


def engine_message(engine: EngineAvailability) -> fleet_pb2.EngineInfo:
    """Return an engine for the wire."""
    return fleet_pb2.EngineInfo(
        name=engine.name, available=engine.available, version=engine.version, reason=engine.reason
    )


class Inventory:
    """Everything a hello tells but its time stamps."""

    def __init__(
        self,
        identity: Identity,
        name: str,
        labels: Mapping[str, str],
        host: telemetry_pb2.HostInfo,
        sources: Sequence[SourceInfo],
        engines: Sequence[EngineAvailability],
    ) -> None:
        self._hello = fleet_pb2.Hello(
            agent_id=identity.agent_id,
            name=name,
            boot_id=identity.boot_id,
            clock_id=identity.clock_id,
            version=agent_version(),
            host=host,
            sources=[source_message(info) for info in sources],
            engines=[engine_message(engine) for engine in engines],
            labels=dict(labels),
        )

    def hello(self) -> fleet_pb2.Hello:
        """Return the first message of a session, stamped now."""
        hello = fleet_pb2.Hello()
        hello.CopyFrom(self._hello)
        hello.monotonic_ns, hello.realtime_ns = time.monotonic_ns(), time.time_ns()
        return hello
