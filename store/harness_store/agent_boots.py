"""Agents' processes, and how far the control messages of each are stored."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from sqlalchemy import Connection, bindparam, select, update

from harness_store.listed import listed, one_of
from harness_store.models import AgentBoot
from harness_store.rows import insert_absent


def control_seq(connection: Connection, agent_id: str, boot_id: str) -> int:
    """Return the highest sequence number of a boot's control messages that is stored, 0 before the first."""
    return connection.execute(_CONTROL_SEQ, {"b_agent": agent_id, "b_boot": boot_id}).scalar() or 0


def set_control_seq(connection: Connection, agent_id: str, boot_id: str, seq: int) -> None:
    """Remember that a boot's control messages are stored up to `seq`; it never goes back."""
    values = {"b_agent": agent_id, "b_boot": boot_id, "b_seq": seq}
    if connection.execute(_SET_CONTROL_SEQ, values).rowcount == 0:
        insert_absent(connection, AgentBoot, boot_row(agent_id, boot_id, None, time.time_ns(), None))
        connection.execute(_SET_CONTROL_SEQ, values)


def control_seqs(connection: Connection, boots: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return how far the control messages of these agents' boots are stored; unknown boots are left out."""
    values = {
        "b_agents": listed({agent for agent, _ in boots}),
        "b_boots": listed({boot for _, boot in boots}),
    }
    rows = connection.execute(_CONTROL_SEQS, values)
    return {(row.agent_id, row.boot_id): row.control_seq for row in rows}


def set_control_seqs(connection: Connection, seqs: Mapping[tuple[str, str], int]) -> None:
    """Remember how far the control messages of processes that `control_seqs` found are stored; it never goes back."""
    values = [{"b_agent": agent, "b_boot": boot, "b_seq": seq} for (agent, boot), seq in sorted(seqs.items())]
    if values:
        connection.execute(_SET_CONTROL_SEQ, values)


def boot_row(
    agent_id: str, boot_id: str, clock_id: str | None, now_ns: int, monotonic_ns: int | None
) -> dict[str, object]:
    """Return the row of a process that nothing is stored of yet."""
    return {
        "agent_id": agent_id,
        "boot_id": boot_id,
        "clock_id": clock_id,
        "control_seq": 0,
        "first_realtime_ns": now_ns,
        "first_monotonic_ns": monotonic_ns,
    }


_MINE = (AgentBoot.agent_id == bindparam("b_agent"), AgentBoot.boot_id == bindparam("b_boot"))
_CONTROL_SEQ = select(AgentBoot.control_seq).where(*_MINE).with_for_update()
_CONTROL_SEQS = (
    select(AgentBoot.agent_id, AgentBoot.boot_id, AgentBoot.control_seq)
    .where(one_of(AgentBoot.agent_id, "b_agents"), one_of(AgentBoot.boot_id, "b_boots"))
    .order_by(AgentBoot.agent_id, AgentBoot.boot_id)
    .with_for_update()
)
_SET_CONTROL_SEQ = (
    update(AgentBoot)
    .where(*_MINE, AgentBoot.control_seq < bindparam("b_seq"))
    .values(control_seq=bindparam("b_seq"))
)
