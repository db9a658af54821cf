"""Runs: one engine with one model for one job on one agent, from its start to its stop."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, insert, select, update

from harness_store.errors import UnknownRunError
from harness_store.listed import is_any, listed, one_of
from harness_store.models import Agent, Baseline, Generation, Job, Run, Task
from harness_store.retries import HELD
from harness_store.rows import insert_absent, json_or_none
from harness_store.source_totals import SourceTotal, source_totals

__all__ = ["SourceTotal", "source_totals"]

ON = ("leased", "started", "ready")
OVER = ("ended", "failed", "lost")

UNSTARTED_NS = 5_000_000_000
"""A run none of whose tasks is held any more, and that did not start for this long, never will."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run as stored; times are the agent's monotonic ns where not said otherwise."""

    run_id: str
    job_id: str
    model_id: str
    hardware_index: int
    agent_id: str
    boot_id: str
    clock_id: str | None
    state: str
    device_ids_json: str
    source_ids_json: str | None
    host_source_ids_json: str | None
    start_ns: int | None
    ready_ns: int | None
    end_ns: int | None
    last_ns: int | None
    load_s: float | None
    watermark_ns: int | None
    settings_json: str | None
    facts_json: str | None
    engine: str | None
    engine_version: str | None
    reason: str | None
    energy_state: str
    energy_reason: str | None
    created_realtime_ns: int
    over_realtime_ns: int | None


@dataclass(frozen=True, slots=True)
class LostRuns:
    """Runs that were given up; false where there were none."""

    run_ids: tuple[str, ...]
    jobs: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.run_ids)


def insert_run(
    connection: Connection,
    *,
    run_id: str,
    job_id: str,
    model_id: str,
    hardware_index: int,
    agent_id: str,
    boot_id: str,
    device_ids: Sequence[str],
    created_realtime_ns: int,
    energy: str | None = None,
) -> None:
    """Add a run that is about to be offered to an agent; `energy` is its policy where that is not the job's."""
    if energy is None:
        energy = connection.execute(select(Job.energy).where(Job.job_id == job_id)).scalar()
    connection.execute(
        insert(Run),
        {
            "run_id": run_id,
            "job_id": job_id,
            "model_id": model_id,
            "hardware_index": hardware_index,
            "agent_id": agent_id,
            "boot_id": boot_id,
            "state": "leased",
            "device_ids_json": json.dumps(list(device_ids)),
            "energy_state": "none" if energy == "off" else "pending",
            "created_realtime_ns": created_realtime_ns,
        },
    )


def delete_run(connection: Connection, run_id: str) -> None:
    """Take back a run that was never offered."""
    connection.execute(delete(Run).where(Run.run_id == run_id, Run.state == "leased"))


def mark_started(
    connection: Connection,
    *,
    run_id: str,
    agent_id: str,
    boot_id: str,
    clock_id: str,
    start_ns: int,
    source_ids: Sequence[str],
    host_source_ids: Sequence[str],
    engine: str,
    engine_version: str,
    settings_json: str,
) -> bool:
    """Note that an agent starts the engine: its energy accounting begins at `start_ns`.

    A run that was given up because its agent was silent is on again. Returns False for a run that is not this
    agent's.
    """
    changed = connection.execute(
        update(Run)
        .where(Run.run_id == run_id, Run.agent_id == agent_id, Run.state.in_(("leased", "lost")))
        .values(
            state="started",
            boot_id=boot_id,
            clock_id=clock_id,
            start_ns=start_ns,
            source_ids_json=json.dumps(list(source_ids)),
            host_source_ids_json=json.dumps(list(host_source_ids)),
            engine=engine,
            engine_version=engine_version,
            settings_json=json_or_none(settings_json),
            reason=None,
            over_realtime_ns=None,
        )
    )
    if changed.rowcount:
        _reopen_energy(connection, run_id)
    return changed.rowcount == 1


def mark_ready(
    connection: Connection, *, run_id: str, ready_ns: int, load_s: float | None, facts_json: str
) -> None:
    """Note that the engine answers."""
    connection.execute(
        update(Run)
        .where(Run.run_id == run_id, Run.state.in_(("leased", "started", "lost")))
        .values(state="ready", over_realtime_ns=None, reason=None)
    )
    connection.execute(
        update(Run)
        .where(Run.run_id == run_id)
        .values(ready_ns=ready_ns, load_s=load_s, facts_json=json_or_none(facts_json))
    )


def add_facts(connection: Connection, *, run_id: str, facts: Mapping[str, str]) -> None:
    """Add facts that were learned after the engine was ready; said again, they change nothing."""
    if not facts:
        return
    known = connection.execute(select(Run.facts_json).where(Run.run_id == run_id)).scalar()
    merged = {**json.loads(known or "{}"), **facts}
    connection.execute(update(Run).where(Run.run_id == run_id).values(facts_json=json.dumps(merged)))


def add_baseline(connection: Connection, *, run_id: str, start_ns: int, end_ns: int) -> None:
    """Add a time with the model loaded and nothing in flight; said again, it changes nothing."""
    insert_absent(connection, Baseline, {"run_id": run_id, "start_ns": start_ns, "end_ns": end_ns})


def mark_over(
    connection: Connection,
    *,
    run_id: str,
    state: str,
    end_ns: int,
    reason: str | None,
    now_ns: int | None = None,
) -> None:
    """Note that the engine has stopped: `state` is `ended` or `failed`, the accounting ends at `end_ns`.

    It also closes a run that was given up meanwhile, whose energy is then computed anew.
    """
    changed = connection.execute(
        update(Run)
        .where(Run.run_id == run_id, Run.state.not_in(("ended", "failed")))
        .values(
            state=state,
            end_ns=end_ns,
            reason=reason,
            over_realtime_ns=time.time_ns() if now_ns is None else now_ns,
        )
    )
    if changed.rowcount:
        _reopen_energy(connection, run_id)
        _note_last(connection, [run_id])


def mark_lost(connection: Connection, *, now_ns: int) -> LostRuns:
    """Give up runs that will not go on as far as can be told.

    These are: runs of an agent that is lost or removed; runs of an earlier process of their agent that holds
    none of their tasks any more; and offers that never reached their agent.
    """
    holds = exists().where(Task.run_id == Run.run_id, Task.state.in_(HELD))
    silent = Agent.state.in_(("lost", "removed"))
    other_process = (Agent.boot_id != Run.boot_id) & ~holds
    never_started = (Run.state == "leased") & ~holds & (Run.created_realtime_ns < now_ns - UNSTARTED_NS)
    rows = connection.execute(
        select(Run.run_id, Run.job_id)
        .join(Agent, Agent.agent_id == Run.agent_id)
        .where(Run.state.in_(ON), silent | other_process | never_started)
        .order_by(Run.run_id)
        .with_for_update(of=Run)
    ).all()
    ids = [row.run_id for row in rows]
    if ids:
        connection.execute(
            update(Run)
            .where(Run.run_id.in_(ids))
            .values(state="lost", over_realtime_ns=now_ns, reason="its agent was not heard of any more")
        )
        _note_last(connection, ids)
    return LostRuns(tuple(ids), frozenset(row.job_id for row in rows))


def set_watermark(connection: Connection, run_id: str, before_ns: int) -> None:
    """Note that every query of a run that started before `before_ns` is over.

    A run that was given up is on again: its agent has just spoken of it.
    """
    connection.execute(
        update(Run).where(Run.run_id == run_id, Run.state.in_(ON)).values(watermark_ns=before_ns)
    )
    revived = connection.execute(
        update(Run)
        .where(Run.run_id == run_id, Run.state == "lost", Run.start_ns.is_not(None))
        .values(state="ready", watermark_ns=before_ns, over_realtime_ns=None, reason=None)
    )
    if revived.rowcount:
        _reopen_energy(connection, run_id)


def get_run(connection: Connection, run_id: str) -> RunRow:
    """Return one run.

    Raises:
        UnknownRunError: no such run.
    """
    row = connection.execute(select(*Run.__table__.columns).where(Run.run_id == run_id)).first()
    if row is None:
        raise UnknownRunError(f"there is no run {run_id!r}")
    return RunRow(**row._mapping)


def runs_of_job(connection: Connection, job_id: str) -> list[RunRow]:
    """Return every run of a job, in the order they were offered."""
    query = select(*Run.__table__.columns).where(Run.job_id == job_id)
    rows = connection.execute(query.order_by(Run.created_realtime_ns, Run.run_id))
    return [RunRow(**row._mapping) for row in rows]


def failed_runs(connection: Connection, job_id: str) -> tuple[int, str]:
    """Return how many runs of a job failed, and why the last one did (empty where none)."""
    mine = (Run.job_id == job_id, Run.state == "failed")
    count = connection.scalar(select(func.count()).where(*mine)) or 0
    if not count:
        return 0, ""
    last = select(Run.reason).where(*mine).order_by(Run.over_realtime_ns.desc(), Run.run_id.desc()).limit(1)
    return count, connection.scalar(last) or ""


def active_runs(connection: Connection, agent_ids: Sequence[str]) -> list[RunRow]:
    """Return the runs that are on at these agents."""
    rows = connection.execute(_ACTIVE, {"b_agent_ids": listed(agent_ids)})
    return [RunRow(**row._mapping) for row in rows]


def pending_energy(connection: Connection) -> list[RunRow]:
    """Return the runs that are over and whose energy is to be computed, the longest waiting first."""
    query = select(*Run.__table__.columns).where(
        Run.energy_state.in_(("pending", "provisional")), Run.state.in_(OVER)
    )
    return [RunRow(**row._mapping) for row in connection.execute(query.order_by(Run.over_realtime_ns))]


def baselines(connection: Connection, run_id: str) -> list[tuple[int, int]]:
    """Return the idle times of a run as (start_ns, end_ns), in order."""
    query = select(Baseline.start_ns, Baseline.end_ns).where(Baseline.run_id == run_id)
    return [(row.start_ns, row.end_ns) for row in connection.execute(query.order_by(Baseline.start_ns))]


def _reopen_energy(connection: Connection, run_id: str) -> None:
    """What was computed of a run that was thought to be over is to be computed again."""
    connection.execute(
        update(Run)
        .where(Run.run_id == run_id, Run.energy_state.in_(("provisional", "final", "failed")))
        .values(energy_state="pending", energy_reason=None)
    )


def _note_last(connection: Connection, run_ids: Sequence[str]) -> None:
    """Remember the latest time known of runs that are over: the end of a lost one can only be told from it."""
    ends = (
        select(func.max(Generation.end_ns)).join(Run, Run.run_id == Generation.run_id),
        select(func.max(Baseline.end_ns)).join(Run, Run.run_id == Baseline.run_id),
        select(Run.ready_ns),
        select(Run.start_ns),
    )
    for run_id in run_ids:
        known = [connection.execute(end.where(Run.run_id == run_id)).scalar() for end in ends]
        last_ns = max((t_ns for t_ns in known if t_ns is not None), default=None)
        connection.execute(update(Run).where(Run.run_id == run_id).values(last_ns=last_ns))


_ACTIVE = (
    select(*Run.__table__.columns)
    .where(one_of(Run.agent_id, "b_agent_ids"), is_any(Run.state, ON))
    .order_by(Run.created_realtime_ns)
)
