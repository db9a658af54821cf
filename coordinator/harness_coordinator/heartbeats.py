"""Agents' heartbeats into SQL: all that wait together by the statements of one."""

from __future__ import annotations

from dataclasses import dataclass

from harness_proto.v1 import fleet_pb2
from harness_store import fleet, leases, runs
from harness_store.task_batch import run_owners
from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, eq=False)
class Heartbeat:
    """One heartbeat as it came; two are never the same."""

    news: fleet.AgentNews
    held: list[tuple[str, int]]
    """Task and attempt of each lease that the agent lives up to."""
    watermarks: list[tuple[str, int]]
    """Run, and the time before which all of its queries are over."""
    expires_ns: int
    """Until when the leases are good now, realtime."""


def heartbeat_of(
    message: fleet_pb2.Heartbeat,
    *,
    agent_id: str,
    boot_id: str,
    received_ns: int,
    expires_ns: int,
    coordinator_id: str,
) -> Heartbeat:
    """Return a heartbeat of the wire; what it leaves unset is None."""

    def told(name: str) -> float | None:
        return getattr(message, name) if message.HasField(name) else None

    news = fleet.AgentNews(
        agent_id=agent_id,
        boot_id=boot_id,
        now_ns=received_ns,
        loaded_model=message.loaded_model,
        spool_bytes=message.spool_bytes,
        dropped_samples=message.dropped_samples,
        clock_offset_ns=told("clock_offset_ns"),
        clock_offset_error_ns=told("clock_offset_error_ns"),
        clock_drift_ppm=told("clock_drift_ppm"),
        clock_drift_error_ppm=told("clock_drift_error_ppm"),
        coordinator_id=coordinator_id,
    )
    return Heartbeat(
        news,
        [(h.task_id, h.attempt) for h in message.held],
        [(w.run_id, w.before_ns) for w in message.watermarks],
        expires_ns,
    )


def store_heartbeats(
    connection: Connection, beats: list[Heartbeat]
) -> dict[Heartbeat, list[tuple[str, int]]]:
    """Note that agents are alive, renew their leases and note how far their runs are.

    Returns:
        For each heartbeat the leases that are its agent's no more; an agent that was removed, or whose process
        is not its current one, is left out: a late heartbeat revives nothing.
    """
    known = fleet.note_alive(connection, [beat.news for beat in beats])
    lost: dict[Heartbeat, list[tuple[str, int]]] = {}
    owners = run_owners(connection, {run_id for b in beats for run_id, _ in b.watermarks})
    for beat in beats:
        agent_id = beat.news.agent_id
        if (agent_id, beat.news.boot_id) not in known:
            continue
        for run_id, before_ns in beat.watermarks:
            if (owner := owners.get(run_id)) is not None and owner.agent_id == agent_id:
                runs.set_watermark(connection, run_id, before_ns)
        lost[beat] = leases.renew(connection, agent_id, beat.held, beat.expires_ns)
    return lost
