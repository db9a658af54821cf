"""Agents' words on their tasks, a group at a time: results, starts, failures, tasks given back.

An agent speaks of its own runs only. What it says of another's is left out and noted as an event: a certificate
lets one machine speak for itself, and a fault in one agent must not touch what others measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness_proto.v1 import fleet_pb2, work_pb2
from harness_store import events
from harness_store.chunk_times import encode_times
from harness_store.task_batch import RunOwner, TaskBatch, read_batch
from harness_store.verdicts.rules import RULES, judge_by_rule, rule_options
from sqlalchemy import Connection

from harness_coordinator.failed_starts import Start

TASK_KINDS = frozenset({"generation", "task_update"})


@dataclass
class Applied:
    """What a group of messages changed, for whoever reacts to it."""

    jobs: set[str] = field(default_factory=set[str])
    runs_over: set[str] = field(default_factory=set[str])
    starts: list[Start] = field(default_factory=list[Start])


@dataclass(frozen=True, slots=True)
class FromAgent:
    """A message, and whose session it came by."""

    agent_id: str
    message: fleet_pb2.AgentMessage


def apply_to_tasks(connection: Connection, told: Sequence[FromAgent], applied: Applied, now_ns: int) -> None:
    """Apply generations and task updates in their order, with as many statements for all as for one."""
    bodies = [
        (t.agent_id, t.message.boot_id, getattr(t.message, str(t.message.WhichOneof("body")))) for t in told
    ]
    batch = read_batch(
        connection, (body.task_id for *_, body in bodies), (body.run_id for *_, body in bodies), now_ns
    )
    foreign: dict[str, set[str]] = {}
    failed: list[tuple[str, work_pb2.Generation]] = []
    for agent_id, boot_id, body in bodies:
        owner = batch.runs.get(body.run_id)
        if owner is None or owner.agent_id != agent_id:
            foreign.setdefault(agent_id, set()).add(body.run_id)
        elif isinstance(body, work_pb2.Generation):
            if _generation(batch, agent_id, boot_id, body):
                failed.append((agent_id, body))
            applied.jobs.add(owner.job_id)
        else:
            _task_update(batch, agent_id, body, owner, applied)
    batch.write(connection)
    for agent_id, g in failed:
        events.add(
            connection,
            kind="task_failed",
            agent_id=agent_id,
            task_id=g.task_id,
            run_id=g.run_id,
            detail=g.error,
        )
    for agent_id, run_ids in foreign.items():
        note_foreign_runs(connection, agent_id, run_ids)


def note_foreign_runs(connection: Connection, agent_id: str, run_ids: set[str]) -> None:
    """Record that an agent spoke of runs that are not its own."""
    for run_id in sorted(run_ids):
        events.add(connection, kind="foreign_run", agent_id=agent_id, detail=f"not its run: {run_id[:200]}")


def _generation(batch: TaskBatch, agent_id: str, boot_id: str, g: work_pb2.Generation) -> bool:
    """Apply one result; return whether its task failed for good."""
    if g.warmup:
        if g.task_id not in batch.tasks:
            batch.generations.append(_row(batch, agent_id, boot_id, g, counted=False))
        return False
    task = batch.tasks.get(g.task_id)
    if task is None:
        return False
    fence = (g.attempt, agent_id, g.run_id)
    counted = over = False
    held = task.is_held(*fence)
    if not held and not task.was_done(*fence) and not task.may_be_evidence(g.attempt, agent_id):
        return False
    if g.error:
        over = held and batch.fail(task, g.error, retryable=g.retryable)
    elif held:
        batch.complete(task)
        counted = True
    else:
        counted = task.was_done(*fence)
    batch.generations.append(_row(batch, agent_id, boot_id, g, counted=counted))
    if counted and task.evaluation in RULES:
        options = rule_options(task.evaluation_options_json)
        verdict = judge_by_rule(task.evaluation, g.response, task.reference, options)
        batch.verdicts.append(
            {
                "task_id": g.task_id,
                "attempt": g.attempt,
                "method": task.evaluation,
                "correct": verdict.correct,
                "score": verdict.score,
                "detail": None,
                "evaluated_realtime_ns": batch.now_ns,
                "reason": verdict.reason,
            }
        )
    return over


def _task_update(
    batch: TaskBatch, agent_id: str, u: fleet_pb2.TaskUpdate, owner: RunOwner, applied: Applied
) -> None:
    task = batch.tasks.get(u.task_id)
    held = task is not None and task.is_held(u.attempt, agent_id, u.run_id)
    if u.state == fleet_pb2.TaskUpdate.RUNNING:
        if task is not None and held:
            batch.mark_running(task)
        return
    applied.jobs.add(owner.job_id)
    if task is None or not held:
        return
    if u.state == fleet_pb2.TaskUpdate.RELEASED:
        batch.release(task)
    elif u.state == fleet_pb2.TaskUpdate.FAILED:
        batch.fail(task, u.reason, retryable=u.retryable)


def _row(
    batch: TaskBatch, agent_id: str, boot_id: str, g: work_pb2.Generation, *, counted: bool
) -> dict[str, Any]:
    return {
        "task_id": g.task_id,
        "attempt": g.attempt,
        "run_id": g.run_id,
        "agent_id": agent_id,
        "boot_id": boot_id,
        "query_id": g.query_id,
        "warmup": g.warmup,
        "counted": counted,
        "start_ns": g.start_ns,
        "first_token_ns": g.first_token_ns if g.HasField("first_token_ns") else None,
        "end_ns": g.end_ns,
        "chunk_ns": encode_times(g.chunk_ns),
        "prompt_tokens": g.prompt_tokens if g.HasField("prompt_tokens") else None,
        "output_tokens": g.output_tokens if g.HasField("output_tokens") else None,
        "cached_tokens": g.cached_tokens if g.HasField("cached_tokens") else None,
        "response": g.response,
        "reasoning": g.reasoning,
        "finish_reason": g.finish_reason,
        "error": g.error or None,
        "retryable": g.retryable,
        "engine_prefill_s": g.engine_prefill_s if g.HasField("engine_prefill_s") else None,
        "engine_decode_s": g.engine_decode_s if g.HasField("engine_decode_s") else None,
        "received_realtime_ns": batch.now_ns,
    }
