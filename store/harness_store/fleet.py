"""The fleet: agents register, beat, are lost, drained and removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Boolean, Connection, Double, bindparam, case, func, select, update

from harness_store.agent_boots import boot_row, control_seq, control_seqs, set_control_seq, set_control_seqs
from harness_store.errors import DuplicateNameError, RemovedAgentError, UnknownAgentError
from harness_store.models import Agent, AgentBoot, ClockOffset, Source
from harness_store.models.base import StorableText
from harness_store.rows import insert_absent, json_or_none, upsert
from harness_store.sources import SourceRecord, mark_source_gone, sources_of, upsert_sources

__all__ = [
    "DuplicateNameError",
    "RemovedAgentError",
    "SourceRecord",
    "control_seq",
    "control_seqs",
    "mark_source_gone",
    "set_control_seq",
    "set_control_seqs",
    "sources_of",
    "upsert_sources",
]

PROCESSOR_SCOPES = frozenset({"package", "dram", "psys", "core", "uncore", "cpu", "host"})
"""Scopes of the host's processors, which people count as one piece of hardware however many zones it has."""

CLOCK_OFFSET_EVERY_NS = 60_000_000_000
"""An offset estimate a minute is stored; a quartz drifts some microseconds in that time."""


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


def heartbeat(
    connection: Connection,
    *,
    agent_id: str,
    boot_id: str,
    now_ns: int,
    loaded_model: str = "",
    spool_bytes: int | None = None,
    dropped_samples: int | None = None,
    clock_offset_ns: float | None = None,
    clock_offset_error_ns: float | None = None,
    clock_drift_ppm: float | None = None,
    clock_drift_error_ppm: float | None = None,
    coordinator_id: str | None = None,
) -> bool:
    """Note that an agent is alive, by one conditional update.

    Returns:
        False when the agent was removed or this is not its current process: a late heartbeat revives nothing.
    """
    has_offset = clock_offset_ns is not None and clock_offset_error_ns is not None
    values = {
        "b_agent": agent_id,
        "b_boot": boot_id,
        "b_now_ns": now_ns,
        "b_model": loaded_model or None,
        "b_spool": spool_bytes,
        "b_dropped": dropped_samples,
        "b_coordinator": coordinator_id,
        "b_offset": clock_offset_ns if has_offset else None,
        "b_error": clock_offset_error_ns if has_offset else None,
        "b_has_offset": has_offset,
        "b_drift": clock_drift_ppm if clock_drift_error_ppm is not None else None,
        "b_drift_error": clock_drift_error_ppm if clock_drift_ppm is not None else None,
    }
    if connection.execute(_HEARTBEAT, values).rowcount != 1:
        return False
    if clock_offset_ns is not None and clock_offset_error_ns is not None:
        offset = {"offset_ns": clock_offset_ns, "error_ns": clock_offset_error_ns}
        drift = {"drift_ppm": clock_drift_ppm, "drift_error_ppm": clock_drift_error_ppm}
        _keep_offset(connection, agent_id, now_ns, offset | drift)
    return True


# Said by each agent every five seconds: built once, because building costs five times what running does. What a
# heartbeat does not tell stays as it was.
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
    rows = connection.execute(select(Agent.agent_id, Agent.state).where(Agent.agent_id.in_(agent_ids)))
    return {row.agent_id: row.state for row in rows}


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


def _keep_offset(
    connection: Connection, agent_id: str, now_ns: int, estimate: Mapping[str, float | None]
) -> None:
    latest = connection.execute(
        select(func.max(ClockOffset.at_realtime_ns)).where(ClockOffset.agent_id == agent_id)
    ).scalar()
    if latest is not None and now_ns - latest < CLOCK_OFFSET_EVERY_NS:
        return
    clock_id = connection.execute(select(Agent.clock_id).where(Agent.agent_id == agent_id)).scalar_one()
    insert_absent(
        connection,
        ClockOffset,
        {"agent_id": agent_id, "at_realtime_ns": now_ns, "clock_id": clock_id, **estimate},
    )
