"""Agents' processes, and how far the control messages of each are stored."""

from __future__ import annotations

import time

from sqlalchemy import Connection, bindparam, select, update

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
_SET_CONTROL_SEQ = (
    update(AgentBoot)
    .where(*_MINE, AgentBoot.control_seq < bindparam("b_seq"))
    .values(control_seq=bindparam("b_seq"))
)
