"""Agents' control messages into SQL: each message is applied once, in order, inside one transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness_proto.v1 import fleet_pb2, work_pb2
from harness_store import evaluations, events, fleet, generations, jobs, leases, runs
from harness_store.verdicts.exact_match import exact_match
from sqlalchemy import Connection

from harness_coordinator.source_records import source_record

EXACT_MATCH = "exact_match"


@dataclass
class Applied:
    """What a batch of messages changed, for whoever reacts to it."""

    jobs: set[str] = field(default_factory=set[str])
    runs_over: set[str] = field(default_factory=set[str])


def apply_messages(
    connection: Connection, agent_id: str, messages: Sequence[fleet_pb2.AgentMessage]
) -> Applied:
    """Apply messages in order and remember the highest sequence number of each boot.

    A message that was applied before (its sequence number is not above the boot's) is skipped, so that a
    resend after a lost acknowledgement changes nothing.
    """
    applied = Applied()
    seen: dict[str, int] = {}
    for message in messages:
        boot = message.boot_id
        if boot not in seen:
            seen[boot] = fleet.control_seq(connection, agent_id, boot)
        if message.seq <= seen[boot]:
            continue
        _apply(connection, agent_id, message, applied)
        seen[boot] = message.seq
    for boot, seq in seen.items():
        fleet.set_control_seq(connection, agent_id, boot, seq)
    now_ns = time.time_ns()
    for job_id in applied.jobs:
        jobs.finish_if_complete(connection, job_id, now_ns)
    return applied


def _apply(connection: Connection, agent_id: str, message: fleet_pb2.AgentMessage, applied: Applied) -> None:
    kind = message.WhichOneof("body")
    if kind == "generation":
        _generation(connection, agent_id, message.boot_id, message.generation, applied)
    elif kind == "task_update":
        _task_update(connection, agent_id, message.task_update, applied)
    elif kind == "run_update":
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


def _generation(
    connection: Connection, agent_id: str, boot_id: str, g: work_pb2.Generation, applied: Applied
) -> None:
    counted = False
    now_ns = time.time_ns()
    if not g.warmup:
        if g.error:
            state = leases.fail(
                connection,
                task_id=g.task_id,
                attempt=g.attempt,
                agent_id=agent_id,
                run_id=g.run_id,
                reason=g.error,
                retryable=g.retryable,
                now_ns=now_ns,
            )
            counted = False
            if state == "failed":
                events.add(
                    connection,
                    kind="task_failed",
                    agent_id=agent_id,
                    task_id=g.task_id,
                    run_id=g.run_id,
                    detail=g.error,
                )
        else:
            counted = leases.complete(
                connection,
                task_id=g.task_id,
                attempt=g.attempt,
                agent_id=agent_id,
                run_id=g.run_id,
                now_ns=now_ns,
            )
        job_id = jobs.job_of_run(connection, g.run_id)
        if job_id:
            applied.jobs.add(job_id)
    generations.record_generation(connection, _generation_row(agent_id, boot_id, g, counted, now_ns))
    if counted:
        _evaluate(connection, g)


def _generation_row(
    agent_id: str, boot_id: str, g: work_pb2.Generation, counted: bool, now_ns: int
) -> generations.NewGeneration:
    return generations.NewGeneration(
        task_id=g.task_id,
        attempt=g.attempt,
        run_id=g.run_id,
        agent_id=agent_id,
        boot_id=boot_id,
        query_id=g.query_id,
        warmup=g.warmup,
        counted=counted,
        start_ns=g.start_ns,
        first_token_ns=g.first_token_ns if g.HasField("first_token_ns") else None,
        end_ns=g.end_ns,
        chunk_ns=list(g.chunk_ns),
        prompt_tokens=g.prompt_tokens if g.HasField("prompt_tokens") else None,
        output_tokens=g.output_tokens if g.HasField("output_tokens") else None,
        cached_tokens=g.cached_tokens if g.HasField("cached_tokens") else None,
        response=g.response,
        reasoning=g.reasoning,
        finish_reason=g.finish_reason,
        error=g.error or None,
        retryable=g.retryable,
        engine_prefill_s=g.engine_prefill_s if g.HasField("engine_prefill_s") else None,
        engine_decode_s=g.engine_decode_s if g.HasField("engine_decode_s") else None,
        received_realtime_ns=now_ns,
    )


def _evaluate(connection: Connection, g: work_pb2.Generation) -> None:
    asked = evaluations.asked_of_task(connection, g.task_id)
    if asked is None or asked.method != EXACT_MATCH:
        return
    correct = exact_match(g.response, asked.reference)
    evaluations.record(
        connection,
        task_id=g.task_id,
        attempt=g.attempt,
        method=EXACT_MATCH,
        correct=correct,
        score=None if correct is None else float(correct),
        detail=None,
    )


def _task_update(connection: Connection, agent_id: str, u: fleet_pb2.TaskUpdate, applied: Applied) -> None:
    now_ns = time.time_ns()
    if u.state == fleet_pb2.TaskUpdate.RUNNING:
        leases.mark_running(
            connection,
            task_id=u.task_id,
            attempt=u.attempt,
            agent_id=agent_id,
            run_id=u.run_id,
            now_ns=now_ns,
        )
        return
    if u.state == fleet_pb2.TaskUpdate.RELEASED:
        leases.release(
            connection,
            task_id=u.task_id,
            attempt=u.attempt,
            agent_id=agent_id,
            run_id=u.run_id,
            now_ns=now_ns,
        )
    elif u.state == fleet_pb2.TaskUpdate.FAILED:
        leases.fail(
            connection,
            task_id=u.task_id,
            attempt=u.attempt,
            agent_id=agent_id,
            run_id=u.run_id,
            reason=u.reason,
            retryable=u.retryable,
            now_ns=now_ns,
        )
    job_id = jobs.job_of_run(connection, u.run_id)
    if job_id:
        applied.jobs.add(job_id)


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
    elif phase == fleet_pb2.RunUpdate.BASELINE:
        runs.add_baseline(connection, run_id=u.run_id, start_ns=u.t_ns, end_ns=u.end_ns)
    elif phase in {fleet_pb2.RunUpdate.ENDED, fleet_pb2.RunUpdate.FAILED}:
        failed = phase == fleet_pb2.RunUpdate.FAILED
        runs.mark_over(
            connection,
            run_id=u.run_id,
            state="failed" if failed else "ended",
            end_ns=u.t_ns,
            reason=u.reason or None,
        )
        if failed:
            events.add(connection, kind="run_failed", agent_id=agent_id, run_id=u.run_id, detail=u.reason)
        applied.runs_over.add(u.run_id)
        if u.job_id:
            applied.jobs.add(u.job_id)
