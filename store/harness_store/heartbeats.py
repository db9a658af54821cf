"""What agents say of themselves every few seconds: that they are alive, what they hold, how their clocks stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, Double, bindparam, case, func, select, update

from harness_store.listed import listed, one_of
from harness_store.models import Agent, ClockOffset
from harness_store.models.base import StorableText
from harness_store.rows import upsert

CLOCK_OFFSET_EVERY_NS = 60_000_000_000
"""An offset estimate a minute is stored; a quartz drifts some microseconds in that time."""


@dataclass(frozen=True, slots=True)
class AgentNews:
    """What one heartbeat tells of its agent; what it does not tell is None and stays as it was."""

    agent_id: str
    boot_id: str
    now_ns: int
    """When it came, realtime."""
    loaded_model: str = ""
    spool_bytes: int | None = None
    dropped_samples: int | None = None
    clock_offset_ns: float | None = None
    clock_offset_error_ns: float | None = None
    clock_drift_ppm: float | None = None
    clock_drift_error_ppm: float | None = None
    coordinator_id: str | None = None

    @property
    def has_offset(self) -> bool:
        """Whether the clock's offset is told with its bound."""
        return self.clock_offset_ns is not None and self.clock_offset_error_ns is not None


def heartbeat(connection: Connection, *, agent_id: str, boot_id: str, now_ns: int, **told: Any) -> bool:
    """Note that one agent is alive; see `note_alive`.

    Returns:
        False when the agent was removed or this is not its current process.
    """
    return bool(note_alive(connection, [AgentNews(agent_id, boot_id, now_ns, **told)]))


def note_alive(connection: Connection, news: Sequence[AgentNews]) -> set[tuple[str, str]]:
    """Note that agents are alive, each by one conditional update; of two heartbeats of one the later counts.

    Returns:
        Agent and process of those that were known. An agent that was removed and a process that is not its
        agent's current one are left out: a late heartbeat revives nothing.
    """
    latest: dict[tuple[str, str], AgentNews] = {}
    for each in sorted(news, key=lambda each: each.now_ns):
        latest[each.agent_id, each.boot_id] = each
    rows = connection.execute(_KNOWN, {"b_ids": listed({agent_id for agent_id, _ in latest})})
    known = {(row.agent_id, row.boot_id): row for row in rows if (row.agent_id, row.boot_id) in latest}
    if not known:
        return set()
    connection.execute(_HEARTBEAT, [_values(latest[key]) for key in known])
    offsets = [
        {
            "agent_id": each.agent_id,
            "at_realtime_ns": each.now_ns,
            "clock_id": row.clock_id,
            "offset_ns": each.clock_offset_ns,
            "error_ns": each.clock_offset_error_ns,
            "drift_ppm": each.clock_drift_ppm,
            "drift_error_ppm": each.clock_drift_error_ppm,
        }
        for each, row in ((latest[key], row) for key, row in known.items())
        if each.has_offset and _is_due(each.now_ns, row.offset_realtime_ns)
    ]
    upsert(connection, ClockOffset, offsets, keep=tuple(offsets[0]) if offsets else ())
    return set(known)


def _is_due(now_ns: int, stored_ns: int | None) -> bool:
    return stored_ns is None or now_ns - stored_ns >= CLOCK_OFFSET_EVERY_NS


def _values(told: AgentNews) -> dict[str, object]:
    return {
        "b_agent": told.agent_id,
        "b_boot": told.boot_id,
        "b_now_ns": told.now_ns,
        "b_model": told.loaded_model or None,
        "b_spool": told.spool_bytes,
        "b_dropped": told.dropped_samples,
        "b_coordinator": told.coordinator_id,
        "b_offset": told.clock_offset_ns if told.has_offset else None,
        "b_error": told.clock_offset_error_ns if told.has_offset else None,
        "b_has_offset": told.has_offset,
        "b_drift": told.clock_drift_ppm if told.clock_drift_error_ppm is not None else None,
        "b_drift_error": told.clock_drift_error_ppm if told.clock_drift_ppm is not None else None,
    }


# Said by each agent every five seconds: built once, because building costs five times what running does. The rows
# are locked in one order, so that two coordinators never wait for each other.
_KNOWN = (
    select(
        Agent.agent_id,
        Agent.boot_id,
        Agent.clock_id,
        select(func.max(ClockOffset.at_realtime_ns))
        .where(ClockOffset.agent_id == Agent.agent_id)
        .scalar_subquery()
        .label("offset_realtime_ns"),
    )
    .where(one_of(Agent.agent_id, "b_ids"), Agent.state != "removed")
    .order_by(Agent.agent_id)
    .with_for_update(of=Agent)
)
# What a heartbeat does not tell stays as it was.
_HEARTBEAT = (
    update(Agent)
    .where(
        Agent.agent_id == bindparam("b_agent"), Agent.boot_id == bindparam("b_boot"), Agent.state != "removed"
    )
    .values(
        last_seen_realtime_ns=bindparam("b_now_ns"),
        loaded_model=bindparam("b_model"),
        state=case((Agent.state == "lost", "live"), else_=Agent.state),
        spool_bytes=func.coalesce(bindparam("b_spool", type_=BigInteger), Agent.spool_bytes),
        dropped_samples=func.coalesce(bindparam("b_dropped", type_=BigInteger), Agent.dropped_samples),
        coordinator_id=func.coalesce(bindparam("b_coordinator", type_=StorableText), Agent.coordinator_id),
        clock_offset_ns=func.coalesce(bindparam("b_offset", type_=Double), Agent.clock_offset_ns),
        clock_offset_error_ns=func.coalesce(bindparam("b_error", type_=Double), Agent.clock_offset_error_ns),
        # An offset without a drift begins a new line: the drift of the old one says nothing any more.
        clock_drift_ppm=case(
            (bindparam("b_has_offset", type_=Boolean), bindparam("b_drift", type_=Double)),
            else_=Agent.clock_drift_ppm,
        ),
        clock_drift_error_ppm=case(
            (bindparam("b_has_offset", type_=Boolean), bindparam("b_drift_error", type_=Double)),
            else_=Agent.clock_drift_error_ppm,
        ),
    )
)
