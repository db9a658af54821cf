"""Agents' control messages into SQL: each message is applied once, in order, inside one transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness_proto.v1 import fleet_pb2
from harness_store import events, fleet, jobs, runs
from harness_store.task_batch import run_owners
from sqlalchemy import Connection

from harness_coordinator.failed_starts import Start
from harness_coordinator.source_records import source_record
from harness_coordinator.task_intake import TASK_KINDS, Applied, FromAgent, apply_to_tasks, note_foreign_runs


@dataclass(frozen=True, slots=True)
class Told:
    """Messages of one agent's session, in their order."""

    agent_id: str
    messages: Sequence[fleet_pb2.AgentMessage]


def apply_messages(
    connection: Connection, agent_id: str, messages: Sequence[fleet_pb2.AgentMessage]
) -> Applied:
    """Apply messages of one agent; see `apply_told`."""
    return apply_told(connection, [Told(agent_id, messages)])


def apply_told(connection: Connection, told: Sequence[Told]) -> Applied:
    """Apply what agents said, each in its order, and remember the highest sequence number of each boot.

    A message that was applied before (its sequence number is not above the boot's) is skipped, so that a
    resend after a lost acknowledgement changes nothing. What many agents say of their tasks is applied by the
    statements of one.
    """
    applied = Applied()
    now_ns = time.time_ns()
    stored = fleet.control_seqs(connection, {(t.agent_id, m.boot_id) for t in told for m in t.messages})
    seen: dict[tuple[str, str], int] = {}
    together: list[FromAgent] = []
    for each in told:
        for message in each.messages:
            boot = (each.agent_id, message.boot_id)
            if message.seq <= seen.get(boot, stored.get(boot, 0)):
                continue
            seen[boot] = message.seq
            if message.WhichOneof("body") in TASK_KINDS:
                together.append(FromAgent(each.agent_id, message))
                continue
            _flush(connection, together, applied, now_ns)
            _apply(connection, each.agent_id, message, applied)
    _flush(connection, together, applied, now_ns)
    fleet.set_control_seqs(connection, {boot: seq for boot, seq in seen.items() if boot in stored})
    for (agent_id, boot_id), seq in seen.items():
        if (agent_id, boot_id) not in stored:
            fleet.set_control_seq(connection, agent_id, boot_id, seq)
    for job_id in sorted(applied.jobs):
        jobs.finish_if_complete(connection, job_id, now_ns)
    return applied


def _flush(connection: Connection, together: list[FromAgent], applied: Applied, now_ns: int) -> None:
    """Apply what was gathered of tasks, before something else is said of their runs."""
    if together:
        apply_to_tasks(connection, together, applied, now_ns)
        together.clear()


def _apply(connection: Connection, agent_id: str, message: fleet_pb2.AgentMessage, applied: Applied) -> None:
    kind = message.WhichOneof("body")
    if kind == "run_update":
        owner = run_owners(connection, [message.run_update.run_id]).get(message.run_update.run_id)
        if owner is None or owner.agent_id != agent_id:
            note_foreign_runs(connection, agent_id, {message.run_update.run_id})
        else:
            _run_update(connection, agent_id, message.boot_id, message.run_update, applied)
    elif kind == "source_update":
        update = message.source_update
        if update.HasField("info"):
            fleet.upsert_sources(connection, agent_id, [source_record(update.info)])
        if update.gone:
            fleet.mark_source_gone(connection, agent_id, update.source_id, update.reason, update.t_ns)
            events.add(
                connection,
                kind="source_gone",
                agent_id=agent_id,
                detail=f"{update.source_id}: {update.reason}",
            )
    elif kind == "event":
        events.add(connection, kind=message.event.kind, agent_id=agent_id, detail=message.event.detail)
    # Other kinds are of a newer agent: acknowledged and skipped, as the wire's rule for unknown fields says.


def _run_update(
    connection: Connection, agent_id: str, boot_id: str, u: fleet_pb2.RunUpdate, applied: Applied
) -> None:
    phase = u.phase
    if phase == fleet_pb2.RunUpdate.STARTED:
        runs.mark_started(
            connection,
            run_id=u.run_id,
            agent_id=agent_id,
            boot_id=boot_id,
            clock_id=u.clock_id,
            start_ns=u.t_ns,
            source_ids=list(u.source_ids),
            host_source_ids=list(u.host_source_ids),
            engine=u.engine,
            engine_version=u.engine_version,
            settings_json=u.settings_json,
        )
    elif phase == fleet_pb2.RunUpdate.READY:
        runs.mark_ready(
            connection,
            run_id=u.run_id,
            ready_ns=u.t_ns,
            load_s=u.load_s if u.HasField("load_s") else None,
            facts_json=json.dumps(dict(u.facts)),
        )
        applied.starts.append(_start(runs.get_run(connection, u.run_id)))
    elif phase == fleet_pb2.RunUpdate.BASELINE:
        runs.add_baseline(connection, run_id=u.run_id, start_ns=u.t_ns, end_ns=u.end_ns)
    elif phase in {fleet_pb2.RunUpdate.ENDED, fleet_pb2.RunUpdate.FAILED}:
        failed = phase == fleet_pb2.RunUpdate.FAILED
        runs.add_facts(connection, run_id=u.run_id, facts=dict(u.facts))
        runs.mark_over(
            connection,
            run_id=u.run_id,
            state="failed" if failed else "ended",
            end_ns=u.t_ns,
            reason=u.reason or None,
        )
        if failed:
            run = runs.get_run(connection, u.run_id)
            if run.ready_ns is None:
                applied.starts.append(_start(run, u.reason or "it did not say why"))
            events.add(connection, kind="run_failed", agent_id=agent_id, run_id=u.run_id, detail=u.reason)
        applied.runs_over.add(u.run_id)
        if u.job_id:
            applied.jobs.add(u.job_id)


def _start(run: runs.RunRow, reason: str = "") -> Start:
    return Start(
        (run.job_id, run.model_id, run.hardware_index), run.agent_id, run.boot_id, run.run_id, reason
    )
