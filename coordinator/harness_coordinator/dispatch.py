"""Dispatch: asks the scheduler what to do, makes it durable, then tells the agents."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness_proto.v1 import fleet_pb2, work_pb2
from harness_store import events, fleet, jobs, leases, runs
from sqlalchemy import Connection

from harness_coordinator.failed_starts import FailedStarts
from harness_coordinator.jobfile import JobFile, ModelEntry
from harness_coordinator.matching import Requirement, Selector
from harness_coordinator.repeating import repeat
from harness_coordinator.scheduler import Group, GroupKey, Lease, Plan, Run, plan, why_impossible
from harness_coordinator.sessions import CPU_DEVICE_ID, Sessions, selector_of
from harness_coordinator.settings import SCHEDULE_EVERY_S, CoordinatorSettings
from harness_coordinator.trace_file import ARRIVAL_S, OUTPUT_TOKENS
from harness_coordinator.write_queue import WriteQueue

MOST_SPECS = 256
"""Job files kept in memory; a coordinator that serves for months sees any number of jobs."""


class Dispatcher:
    """One loop that turns ready tasks and asking agents into leases."""

    def __init__(
        self, store: Any, writes: WriteQueue, sessions: Sessions, settings: CoordinatorSettings
    ) -> None:
        self._store = store
        self._writes = writes
        self._sessions = sessions
        self._settings = settings
        self._wake = asyncio.Event()
        self._specs: dict[str, JobFile] = {}
        self.waiting: dict[GroupKey, str] = {}
        self.failed_starts = FailedStarts()

    def wake(self) -> None:
        """Schedule at once instead of at the next tick."""
        self._wake.set()

    async def run(self) -> None:
        """Schedule until cancelled."""
        await repeat("scheduling", self.round, SCHEDULE_EVERY_S, self._wake)

    async def round(self) -> None:
        """Make one plan and carry it out."""
        sessions = self._sessions.all()
        if not any(s.wants_new_run or s.wants_tasks for s in sessions):
            if not sessions:
                self.waiting = {}
            return
        # A fleet that only waits for a job asks for nothing of the writer.
        if not any(s.wants_tasks for s in sessions) and not await asyncio.to_thread(self._is_anything_ready):
            self.waiting = {}
            return
        decided, offers = await self._writes.run(self._decide)
        self.waiting = decided.waiting
        for key in decided.hopeless:
            # Another coordinator's agents may do it: then the queries' own attempts decide, as for any other failure.
            self.failed_starts.forget(key)
        for lease, offer in offers:
            session = self._sessions.get(lease.agent_id)
            if session is None:
                continue  # it left meanwhile: its lease expires and the tasks come back
            if lease.run_id is None:
                session.wants_new_run = False
            else:
                session.wants_tasks.pop(lease.run_id, None)
            session.send(lease=offer)
        for end in decided.ended:
            session = self._sessions.get(end.agent_id)
            if session is not None and session.wants_tasks.pop(end.run_id, None) is not None:
                session.send(no_work=fleet_pb2.NoWork(run_id=end.run_id))

    def _is_anything_ready(self) -> bool:
        with self._store.read() as connection:
            return bool(leases.ready_groups(connection, time.time_ns()))

    def _decide(self, connection: Connection) -> tuple[Plan, list[tuple[Lease, fleet_pb2.LeaseOffer]]]:
        now_ns = time.time_ns()
        groups = self.groups(connection, now_ns)
        active = self._active_runs(connection)
        sessions = self._sessions.all()
        # Asked here and now: whoever was told that a machine is drained may rely on it, whichever coordinator told.
        states = fleet.states(connection, [s.agent_id for s in sessions])
        views = [
            replace(
                s.view(active.get(s.agent_id, ())), draining=states.get(s.agent_id) in {"drained", "removed"}
            )
            for s in sessions
        ]
        decided = plan(groups, views, now_ns / 1e9)
        if decided.hopeless and not fleet.lives_besides(connection, [s.agent_id for s in sessions]):
            for key, reason in decided.hopeless.items():
                _give_up(connection, key, reason, now_ns)
            decided = replace(decided, hopeless={})
        offers: list[tuple[Lease, fleet_pb2.LeaseOffer]] = []
        for lease in decided.leases:
            offer = self._grant(connection, lease, now_ns)
            if offer is not None:
                offers.append((lease, offer))
        return decided, offers

    def groups(self, connection: Connection, now_ns: int) -> list[Group]:
        """Return the groups that have ready tasks."""
        found: list[Group] = []
        boots = {s.agent_id: s.boot_id for s in self._sessions.all()}
        for ready in leases.ready_groups(connection, now_ns):
            spec = self.spec(connection, ready.job_id)
            entry = next(m for m in spec.models if m.id == ready.model_id)
            key = (ready.job_id, ready.model_id, ready.hardware_index)
            found.append(
                Group(
                    key=key,
                    requirement=requirement_of(spec, entry, ready.hardware_index),
                    ready=ready.ready_count,
                    concurrency=spec.concurrency,
                    priority=ready.priority,
                    submitted_s=ready.submitted_realtime_ns / 1e9,
                    failed_on=self.failed_starts.reasons(key, boots, spec.max_attempts),
                )
            )
        return found

    def impossible(self, spec: JobFile) -> list[str]:
        """Return, for each part of a job that no connected agent could ever run, the reason."""
        views = [s.view(()) for s in self._sessions.all()]
        reasons: list[str] = []
        for entry in spec.models:
            for index in range(len(spec.hardware)):
                reason = why_impossible(requirement_of(spec, entry, index), views)
                if reason:
                    reasons.append(f"model {entry.id}, hardware[{index}]: {reason}")
        return reasons

    def spec(self, connection: Connection, job_id: str) -> JobFile:
        """Return a job's validated file (cached: it never changes)."""
        if job_id not in self._specs:
            while len(self._specs) >= MOST_SPECS:
                del self._specs[next(iter(self._specs))]
            self._specs[job_id] = JobFile.model_validate(json.loads(jobs.spec_json(connection, job_id)))
        return self._specs[job_id]

    def _active_runs(self, connection: Connection) -> dict[str, list[Run]]:
        found: dict[str, list[Run]] = {}
        for row in runs.active_runs(connection, [s.agent_id for s in self._sessions.all()]):
            session = self._sessions.get(row.agent_id)
            if session is None:
                continue
            devices = frozenset(json.loads(row.device_ids_json) or [CPU_DEVICE_ID])
            key = (row.job_id, row.model_id, row.hardware_index)
            found.setdefault(row.agent_id, []).append(Run(row.run_id, key, devices))
        return found

    def _grant(self, connection: Connection, lease: Lease, now_ns: int) -> fleet_pb2.LeaseOffer | None:
        job_id, model_id, hardware_index = lease.key
        session = self._sessions.get(lease.agent_id)
        if session is None:
            return None
        spec = self.spec(connection, job_id)
        entry = next(m for m in spec.models if m.id == model_id)
        run_id = lease.run_id or f"{job_id}-{uuid.uuid4().hex[:8]}"
        device_ids = [d for d in lease.device_ids if d != CPU_DEVICE_ID]
        if lease.run_id is None:
            runs.insert_run(
                connection,
                run_id=run_id,
                job_id=job_id,
                model_id=model_id,
                hardware_index=hardware_index,
                agent_id=lease.agent_id,
                boot_id=session.boot_id,
                device_ids=list(lease.device_ids),
                created_realtime_ns=now_ns,
                energy=entry.energy_policy(spec.energy),
            )
        tasks = leases.lease_tasks(
            connection,
            job_id=job_id,
            model_id=model_id,
            hardware_index=hardware_index,
            run_id=run_id,
            agent_id=lease.agent_id,
            limit=lease.count,
            expires_realtime_ns=now_ns + int(self._settings.lease_s * 1e9),
            now_ns=now_ns,
        )
        if not tasks:
            # Another coordinator took them first.
            if lease.run_id is None:
                runs.delete_run(connection, run_id)
            return None
        offer = fleet_pb2.LeaseOffer(run_id=run_id, tasks=[_task(t, spec) for t in tasks])
        if lease.run_id is None:
            warmup = jobs.first_queries(connection, job_id, spec.warmup)
            offer.settings.CopyFrom(run_settings(job_id, spec, entry, device_ids, warmup))
        return offer


def _give_up(connection: Connection, key: GroupKey, reason: str, now_ns: int) -> None:
    job_id, model_id, hardware_index = key
    leases.fail_ready(
        connection,
        job_id=job_id,
        model_id=model_id,
        hardware_index=hardware_index,
        reason=reason,
        now_ns=now_ns,
    )
    events.add(connection, kind="given_up", job_id=job_id, detail=f"model {model_id}: {reason}")
    jobs.finish_if_complete(connection, job_id, now_ns)


def requirement_of(spec: JobFile, entry: ModelEntry, hardware_index: int) -> Requirement:
    """Return what tasks of one model on one hardware selector need."""
    selector = Selector(**selector_of(spec.hardware[hardware_index].model_dump(exclude_none=True)))  # type: ignore[arg-type]
    parallel = 1
    for key in ("tensor_parallel_size", "pipeline_parallel_size"):
        value = entry.engine_args.get(key, entry.engine_args.get(key.replace("_", "-"), 1))
        parallel *= value if isinstance(value, int) and value > 0 else 1
    # A model behind a URL uses no device of the agent: the host's processors stand for its slot.
    device = "cpu" if entry.engine == "openai" and entry.device == "auto" else entry.device
    return Requirement(
        engine=entry.engine,
        selector=selector,
        energy=entry.energy_policy(spec.energy),
        device=device,
        device_count=parallel,
    )


def run_settings(
    job_id: str, spec: JobFile, entry: ModelEntry, device_ids: Sequence[str], warmup: Sequence[Any]
) -> work_pb2.RunSettings:
    """Return everything an agent needs to start the engine of a run."""
    model = work_pb2.ModelSpec(
        id=entry.id,
        engine=entry.engine,
        source=entry.source,
        engine_args_json=json.dumps(entry.engine_args),
        precision=entry.precision,
    )
    for name, value in (
        ("params_b", entry.params_b),
        ("active_params_b", entry.active_params_b),
        ("input_price_per_mtok", entry.price.input_per_mtok if entry.price else None),
        ("output_price_per_mtok", entry.price.output_per_mtok if entry.price else None),
    ):
        if value is not None:
            setattr(model, name, value)
    s = spec.sampling.model_copy(update=entry.sampling.model_dump(exclude_none=True))
    energy = entry.energy_policy(spec.energy)
    arrivals = spec.arrivals
    sampling = work_pb2.SamplingSettings(
        temperature=s.temperature,
        top_p=s.top_p,
        top_k=s.top_k,
        min_p=s.min_p,
        max_output_tokens=s.max_output_tokens,
        seed=s.seed,
        repetition_penalty=s.repetition_penalty,
        thinking=s.thinking,
    )
    return work_pb2.RunSettings(
        job_id=job_id,
        model=model,
        sampling=sampling,
        concurrency=spec.concurrency,
        query_timeout_s=spec.query_timeout_s,
        load_timeout_s=spec.load_timeout_s,
        energy=energy,
        baseline_s=0.0 if energy == "off" else spec.baseline_s,
        warmup=[_query(q) for q in warmup],
        device_ids=device_ids,
        arrivals=work_pb2.Arrivals(
            kind=arrivals.kind,
            rate_per_s=arrivals.rate_per_s or 0.0,
            seed=arrivals.seed,
            max_in_flight=arrivals.max_in_flight,
            exact_output=arrivals.output == "exact",
        ),
    )


def _task(task: leases.LeasedTask, spec: JobFile) -> work_pb2.Task:
    query = _query(task)
    if spec.arrivals.kind == "recorded":
        recorded = json.loads(task.extra_json or "{}")
        query.arrival_s = recorded.get(ARRIVAL_S, 0.0) / spec.arrivals.speed
        if spec.arrivals.output != "job" and recorded.get(OUTPUT_TOKENS):
            query.max_output_tokens = recorded[OUTPUT_TOKENS]
    return work_pb2.Task(task_id=task.task_id, attempt=task.attempt, repetition=task.repetition, query=query)


def _query(row: Any) -> work_pb2.Query:
    return work_pb2.Query(query_id=row.query_id, text=row.text, messages_json=row.messages_json or "")
