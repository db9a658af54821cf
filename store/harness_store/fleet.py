"""The fleet: agents register, beat, are lost, drained and removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, case, select, update

from harness_store.agent_boots import boot_row, control_seq, control_seqs, set_control_seq, set_control_seqs
from harness_store.errors import DuplicateNameError, RemovedAgentError, UnknownAgentError
from harness_store.heartbeats import AgentNews, heartbeat, note_alive
from harness_store.listed import is_any, listed, one_of
from harness_store.models import Agent, AgentBoot, Source
from harness_store.rows import insert_absent, json_or_none, upsert
from harness_store.sources import SourceRecord, mark_source_gone, sources_of, upsert_sources

__all__ = [
    "AgentNews",
    "DuplicateNameError",
    "RemovedAgentError",
    "SourceRecord",
    "control_seq",
    "control_seqs",
    "heartbeat",
    "mark_source_gone",
    "note_alive",
    "set_control_seq",
    "set_control_seqs",
    "sources_of",
    "upsert_sources",
]

PROCESSOR_SCOPES = frozenset({"package", "dram", "psys", "core", "uncore", "cpu", "host"})
"""Scopes of the host's processors, which people count as one piece of hardware however many zones it has."""


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One agent as listings show it."""

    agent_id: str
    name: str
    state: str
    version: str
    boot_id: str
    clock_id: str
    hostname: str
    host_json: str
    labels_json: str
    engines_json: str
    features_json: str
    loaded_model: str | None
    coordinator_id: str | None
    registered_realtime_ns: int
    last_seen_realtime_ns: int
    clock_offset_ns: float | None
    clock_offset_error_ns: float | None
    spool_bytes: int | None
    dropped_samples: int | None
    clock_drift_ppm: float | None
    clock_drift_error_ppm: float | None
    hardware: tuple[str, ...] = ()
    """Names of its devices."""
    source_ids: tuple[str, ...] = ()


def register_agent(
    connection: Connection,
    *,
    agent_id: str,
    name: str,
    boot_id: str,
    clock_id: str,
    version: str,
    hostname: str,
    host_json: str,
    labels_json: str,
    engines_json: str,
    features_json: str,
    coordinator_id: str,
    monotonic_ns: int,
    now_ns: int,
) -> None:
    """Add an agent, or take note that it is back, perhaps as a new process.

    An agent that was drained stays so. A name is taken over from an agent that is lost or removed.

    Raises:
        RemovedAgentError: the agent was removed.
        DuplicateNameError: another live or drained agent has the name.
    """
    state = connection.execute(
        select(Agent.state).where(Agent.agent_id == agent_id).with_for_update()
    ).scalar()
    if state == "removed":
        raise RemovedAgentError(
            f"agent {name} ({agent_id}) was removed from the fleet; delete its state directory to join anew"
        )
    _claim_name(connection, agent_id, name)
    row = {
        "agent_id": agent_id,
        "name": name,
        "state": "drained" if state == "drained" else "live",
        "version": version,
        "boot_id": boot_id,
        "clock_id": clock_id,
        "hostname": hostname,
        "host_json": json_or_none(host_json) or "{}",
        "labels_json": labels_json,
        "engines_json": engines_json,
        "features_json": features_json,
        "coordinator_id": coordinator_id,
        "registered_realtime_ns": now_ns,
        "last_seen_realtime_ns": now_ns,
        "loaded_model": None,
        # What was learned of another boot of the host says nothing about this one's clock.
        "clock_offset_ns": None,
        "clock_offset_error_ns": None,
        "clock_drift_ppm": None,
        "clock_drift_error_ppm": None,
    }
    same_clock = connection.execute(
        select(Agent.agent_id).where(Agent.agent_id == agent_id, Agent.clock_id == clock_id)
    ).first()
    keep = ["registered_realtime_ns"]
    if same_clock is not None:
        keep += ["clock_offset_ns", "clock_offset_error_ns", "clock_drift_ppm", "clock_drift_error_ppm"]
    upsert(connection, Agent, [row], keep=keep)
    insert_absent(connection, AgentBoot, boot_row(agent_id, boot_id, clock_id, now_ns, monotonic_ns))


def mark_lost(connection: Connection, *, older_than_ns: int) -> list[str]:
    """Mark live agents lost that were last seen before `older_than_ns` (realtime); return their ids."""
    rows = connection.execute(
        update(Agent)
        .where(Agent.state == "live", Agent.last_seen_realtime_ns < older_than_ns)
        .values(state="lost")
        .returning(Agent.agent_id)
    )
    return sorted(row.agent_id for row in rows)


def drain_agent(connection: Connection, agent: str, *, drained: bool = True) -> str:
    """Let an agent (id or name) finish what it has and get nothing new, or undo that; return its id.

    Raises:
        UnknownAgentError: no such agent, or it was removed.
    """
    agent_id = find_agent(connection, agent)
    before, after = (("live", "lost"), "drained") if drained else (("drained",), "live")
    connection.execute(
        update(Agent).where(Agent.agent_id == agent_id, Agent.state.in_(before)).values(state=after)
    )
    return agent_id


def remove_agent(connection: Connection, agent: str) -> str:
    """Remove an agent (id or name) for good and free its name; return its id. What it measured stays.

    Raises:
        UnknownAgentError: no such agent, or it was removed already.
    """
    agent_id = find_agent(connection, agent)
    connection.execute(
        update(Agent)
        .where(Agent.agent_id == agent_id)
        .values(state="removed", name=Agent.name + "~" + Agent.agent_id)
    )
    return agent_id


def states(connection: Connection, agent_ids: Sequence[str]) -> dict[str, str]:
    """Return the states of these agents; unknown ones are left out."""
    rows = connection.execute(_STATES, {"b_ids": listed(agent_ids)})
    return {row.agent_id: row.state for row in rows}


def lives_besides(connection: Connection, agent_ids: Sequence[str]) -> bool:
    """Return whether an agent is live that is none of these: one that is connected to another coordinator."""
    known = set(agent_ids)
    return any(row.agent_id not in known for row in connection.execute(_LIVE))


def withheld(connection: Connection) -> dict[str, str]:
    """Return the state of every agent that an administrator keeps from work: `drained` or `removed`."""
    return {row.agent_id: row.state for row in connection.execute(_WITHHELD)}


_STATES = select(Agent.agent_id, Agent.state).where(one_of(Agent.agent_id, "b_ids"))
_LIVE = select(Agent.agent_id).where(is_any(Agent.state, ("live",)))
_WITHHELD = select(Agent.agent_id, Agent.state).where(is_any(Agent.state, ("drained", "removed")))


def find_agent(connection: Connection, agent: str) -> str:
    """Return the id of an agent given by id or name.

    Raises:
        UnknownAgentError: no agent of the fleet has it.
    """
    found = connection.execute(
        select(Agent.agent_id)
        .where((Agent.agent_id == agent) | (Agent.name == agent), Agent.state != "removed")
        .order_by(case((Agent.agent_id == agent, 0), else_=1))
    ).scalar()
    if found is None:
        raise UnknownAgentError(f"no agent is called {agent!r}; `harness agents` lists them")
    return found


def list_agents(connection: Connection, *, removed: bool = False) -> list[AgentRow]:
    """Return the agents by name, removed ones only where asked for."""
    devices = _hardware(connection)
    sources: dict[str, list[str]] = {}
    for row in connection.execute(
        select(Source.agent_id, Source.source_id)
        .where(Source.gone_reason.is_(None))
        .order_by(Source.agent_id, Source.source_id)
    ):
        sources.setdefault(row.agent_id, []).append(row.source_id)
    query = select(*Agent.__table__.columns).order_by(Agent.name)
    if not removed:
        query = query.where(Agent.state != "removed")
    return [
        AgentRow(
            **row._mapping,
            hardware=tuple(devices.get(row.agent_id, ())),
            source_ids=tuple(sources.get(row.agent_id, ())),
        )
        for row in connection.execute(query)
    ]


def _hardware(connection: Connection) -> dict[str, list[str]]:
    """Return what each agent has, accelerators first: `8 x NVIDIA H200`, then the processor's name."""
    accelerators: dict[tuple[str, str], set[str]] = {}
    processors: dict[str, str] = {}
    for row in connection.execute(
        select(Source.agent_id, Source.device_id, Source.device_name, Source.scope).order_by(Source.source_id)
    ):
        if row.scope in PROCESSOR_SCOPES:
            processors[row.agent_id] = row.device_name
        else:
            accelerators.setdefault((row.agent_id, row.device_name), set()).add(row.device_id)
    found: dict[str, list[str]] = {}
    for (agent_id, name), ids in accelerators.items():
        found.setdefault(agent_id, []).append(name if len(ids) == 1 else f"{len(ids)} x {name}")
    for agent_id, name in processors.items():
        # On Apple silicon both are one chip.
        if name not in found.setdefault(agent_id, []):
            found[agent_id].append(name)
    return found


def _claim_name(connection: Connection, agent_id: str, name: str) -> None:
    holder = connection.execute(
        select(Agent.agent_id, Agent.state, Agent.hostname).where(
            Agent.name == name, Agent.agent_id != agent_id
        )
    ).first()
    if holder is None:
        return
    if holder.state in {"live", "drained"}:
        raise DuplicateNameError(
            f"the name {name!r} belongs to another agent, on {holder.hostname or 'another host'};"
            " start this one with --name and a name of its own"
        )
    connection.execute(
        update(Agent).where(Agent.agent_id == holder.agent_id).values(name=Agent.name + "~" + Agent.agent_id)
    )
