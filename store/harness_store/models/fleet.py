"""Agents, their processes, devices, power sources and clocks."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from harness_store.models.base import Base, IntKey, TextKey


class Agent(Base):
    """One machine of the fleet."""

    __tablename__ = "agents"

    agent_id: Mapped[TextKey]
    name: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str]
    """live, lost, drained or removed."""
    version: Mapped[str]
    boot_id: Mapped[str]
    clock_id: Mapped[str]
    hostname: Mapped[str]
    host_json: Mapped[str]
    labels_json: Mapped[str]
    engines_json: Mapped[str]
    features_json: Mapped[str]
    loaded_model: Mapped[str | None]
    coordinator_id: Mapped[str | None]
    registered_realtime_ns: Mapped[int]
    last_seen_realtime_ns: Mapped[int]
    clock_offset_ns: Mapped[float | None]
    """Coordinator realtime minus agent monotonic."""
    clock_offset_error_ns: Mapped[float | None]
    spool_bytes: Mapped[int | None]
    dropped_samples: Mapped[int | None]
    clock_drift_ppm: Mapped[float | None]
    """How fast that offset grows, NULL until it can be told."""
    clock_drift_error_ppm: Mapped[float | None]


class AgentBoot(Base):
    """One process of an agent, and how far its control messages are stored."""

    __tablename__ = "agent_boots"

    agent_id: Mapped[TextKey] = mapped_column(ForeignKey("agents.agent_id"))
    boot_id: Mapped[TextKey]
    clock_id: Mapped[str | None]
    control_seq: Mapped[int]
    first_realtime_ns: Mapped[int]
    first_monotonic_ns: Mapped[int | None]


class Device(Base):
    """A physical device of an agent."""

    __tablename__ = "devices"

    agent_id: Mapped[TextKey] = mapped_column(ForeignKey("agents.agent_id"))
    device_id: Mapped[TextKey]
    vendor: Mapped[str]
    name: Mapped[str]
    memory_total_bytes: Mapped[float | None]


class Source(Base):
    """One (device, scope) that can be read; what is not known is NULL."""

    __tablename__ = "sources"

    agent_id: Mapped[TextKey] = mapped_column(ForeignKey("agents.agent_id"))
    source_id: Mapped[TextKey]
    vendor: Mapped[str]
    device_id: Mapped[str]
    device_name: Mapped[str]
    scope: Mapped[str]
    energy_source: Mapped[str]
    has_energy: Mapped[bool]
    has_power: Mapped[bool]
    contained_in: Mapped[str]
    counter_resolution_j: Mapped[float | None]
    counter_wrap_j: Mapped[float | None]
    max_power_w: Mapped[float | None]
    power_period_s: Mapped[float | None]
    counter_period_s: Mapped[float | None]
    averaging_s: Mapped[float | None]
    memory_total_bytes: Mapped[float | None]
    facts_json: Mapped[str]
    notes_json: Mapped[str]
    gone_reason: Mapped[str | None]
    gone_ns: Mapped[int | None]
    updated_realtime_ns: Mapped[int]


class ClockOffset(Base):
    """One estimate of how far an agent's monotonic clock is from the coordinator's realtime."""

    __tablename__ = "clock_offsets"

    agent_id: Mapped[TextKey]
    at_realtime_ns: Mapped[IntKey]
    clock_id: Mapped[str]
    offset_ns: Mapped[float]
    error_ns: Mapped[float]
    drift_ppm: Mapped[float | None]
    drift_error_ppm: Mapped[float | None]
