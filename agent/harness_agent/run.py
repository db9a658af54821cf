"""One run: an engine with one model for one job, from its start to its stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness_backends.engines.adapter import EnginePlan, EngineRequest
from harness_backends.engines.arguments import parse_arguments_json
from harness_backends.engines.errors import EngineArgumentError, EngineError
from harness_backends.engines.process import EngineProcess, free_port
from harness_backends.engines.registry import load_engine
from harness_backends.engines.stream_client import StreamClient
from harness_backends.telemetry.source import SourceInfo
from harness_proto.v1 import fleet_pb2, work_pb2

from harness_agent.arrivals import tasks_ahead
from harness_agent.engine_gauges import EngineGauges
from harness_agent.outbox import Outbox
from harness_agent.queries import Queries
from harness_agent.run_reports import sampling_of, settings_json, task_update
from harness_agent.run_sources import NoSourceError, RunSources, choose_sources, engine_devices
from harness_agent.sample_gate import SampleGate
from harness_agent.task_queue import Key, TaskQueue

DEFAULT_LOAD_TIMEOUT_S = 600.0
DEFAULT_QUERY_TIMEOUT_S = 600.0
CRASH_SETTLE_S = 2.0
"""After a crash the queries in flight fail by themselves, with their last chunks; this long they may take."""

SHARED_DEVICE = "shared_device"
"""Fact of a run: the processes that used its devices beside the engine."""
STRANGERS_S = 5.0

Phase = fleet_pb2.RunUpdate
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunSurroundings:
    """What a run needs of its agent."""

    outbox: Outbox
    sources: Callable[[], Sequence[SourceInfo]]
    """The sources that are alive now."""
    track: Callable[[Sequence[int]], None]
    """Tells the sources which processes are the engine's."""
    strangers: Callable[[Sequence[str], Sequence[int]], list[int]]
    """Tells which other processes use the devices of these sources, given the engine's processes."""
    flush_samples: Callable[[], None]
    run_dir: Callable[[str], Path]
    may_start: asyncio.Event
    """Cleared while nothing can be written to the spool: no new query starts."""


class _RunFailedError(Exception):
    def __init__(self, reason: str, *, retryable: bool) -> None:
        super().__init__(reason)
        self.retryable = retryable


class Run:
    """Starts the engine, runs its tasks, reports every step; `execute` returns when all is stopped."""

    def __init__(
        self, offer: fleet_pb2.LeaseOffer, surroundings: RunSurroundings, on_low: Callable[[Run], None]
    ) -> None:
        self.run_id = offer.run_id
        self.settings = offer.settings
        self.loaded_model = ""
        self._around = surroundings
        ahead = tasks_ahead(offer.settings.arrivals, offer.settings.concurrency)
        self.queue = TaskQueue(ahead, lambda: on_low(self))
        self.queue.add(list(offer.tasks), last=offer.last)
        self._stop_reason = ""
        self._source_ids: tuple[str, ...] = ()
        self._strangers: set[int] = set()
        self._stopped = asyncio.Event()
        self.queries: Queries | None = None
        self._gauges: EngineGauges | None = None

    @property
    def outbox(self) -> Outbox:
        """Where the run reports to."""
        return self._around.outbox

    def held(self) -> list[Key]:
        """Return the tasks that wait or are in flight."""
        return [*self.queue.waiting(), *(self.queries.in_flight() if self.queries else ())]

    def watermark_ns(self) -> int:
        """Return the oldest start of a query in flight or finished and unknown to the coordinator, else now."""
        starts = [
            result.start_ns for result in self.outbox.results_on_their_way() if result.run_id == self.run_id
        ]
        if self.queries is not None:
            starts += self.queries.starts_ns()
        return min(starts, default=time.monotonic_ns())

    def cancel(self, key: Key, reason: str) -> None:
        """Stop a task, waiting or in flight."""
        if not self.queue.remove(key) and self.queries is not None:
            self.queries.cancel(key, reason)

    def release_waiting(self) -> None:
        """Give back what has not started and end after what has."""
        self._release(self.queue.close())

    def stop(self, reason: str) -> None:
        """Stop at once: in-flight queries end unfinished, the engine ends."""
        self._stop_reason = self._stop_reason or reason
        self._stopped.set()

    async def execute(self) -> None:
        """Run to the end; never raises but on cancellation."""
        plan: EnginePlan | None = None
        try:
            plan, sources = await self._prepare()
        except (EngineError, NoSourceError) as error:
            self._report(Phase.STARTED, settings_json=settings_json(_without_args(self.settings), None))
            self._fail(str(error), retryable=getattr(error, "retryable", True))
            return
        self._source_ids = sources.primary
        self._report(
            Phase.STARTED,
            source_ids=sources.primary,
            host_source_ids=sources.host,
            engine=self.settings.model.engine,
            engine_version=plan.engine_version,
            settings_json=settings_json(self.settings, plan),
        )
        failed: _RunFailedError | None = None
        try:
            await self._with_engine(plan)
        except _RunFailedError as error:
            failed = error
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the run ends and says why
            _log.exception("run %s failed", self.run_id)
            failed = _RunFailedError(f"The agent failed: {type(error).__name__}: {error}", retryable=True)
        finally:
            self.loaded_model = ""
            self._around.track(())
        if failed is not None:
            self._fail(str(failed), retryable=failed.retryable)
        else:
            self._release(self.queue.close())
            self._report(Phase.ENDED, reason=self._stop_reason, facts=self._seen())
        await asyncio.to_thread(self._around.flush_samples)

    async def _prepare(self) -> tuple[EnginePlan, RunSources]:
        model = self.settings.model
        adapter = load_engine(model.engine)
        infos = self._around.sources()
        request = EngineRequest(
            model_id=model.id,
            source=model.source,
            engine_args=parse_arguments_json(model.engine_args_json),
            sampling=sampling_of(self.settings.sampling),
            concurrency=max(1, self.settings.concurrency),
            port=free_port(),
            key=secrets.token_urlsafe(24),
            devices=engine_devices(infos, self.settings.device_ids),
        )
        sources = choose_sources(infos, self.settings.device_ids, self.settings.energy)
        return await asyncio.to_thread(adapter.prepare, request), sources

    async def _with_engine(self, plan: EnginePlan) -> None:
        try:
            engine = await EngineProcess.start(plan, self._around.run_dir(self.run_id))
        except (EngineError, OSError) as error:
            raise _RunFailedError(f"The engine cannot be started: {error}", retryable=True) from error
        self._around.track(engine.pids)
        stopped = asyncio.ensure_future(self._stopped.wait())
        work = asyncio.ensure_future(self._use(plan, engine))
        try:
            await asyncio.wait({work, engine.exited, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            elif engine.exited.done():
                if self.loaded_model:
                    await self._after_crash(engine)
                await work  # it failed to load, and `work` knows why
            else:
                self._release(self.queue.close())
                if self.queries is not None:
                    await self.queries.abort(self._stop_reason)
        finally:
            work.cancel()
            stopped.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await engine.stop()

    async def _use(self, plan: EnginePlan, engine: EngineProcess) -> None:
        settings = self.settings
        try:
            load_s = await engine.wait_ready(settings.load_timeout_s or DEFAULT_LOAD_TIMEOUT_S)
        except EngineError as error:
            raise _RunFailedError(str(error), retryable=error.retryable) from error
        self.loaded_model = settings.model.id
        ready = self._update(Phase.READY)
        ready.load_s = load_s
        ready.facts.update(plan.facts)
        if plan.facts_when_ready is not None:
            with contextlib.suppress(EngineError):  # a model that runs needs no facts
                ready.facts.update(await asyncio.to_thread(plan.facts_when_ready, engine.log_path))
        if settings.model.precision:
            ready.facts["precision"] = ready.facts.get("precision") or settings.model.precision
        self.outbox.run_update(ready)
        async with StreamClient(plan.base_url, plan.body, plan.headers, keep_alive=plan.keep_alive) as client:
            self.queries = Queries(
                self.run_id,
                client,
                engine,
                self.outbox,
                SampleGate(self._around.flush_samples),
                timeout_s=settings.query_timeout_s or DEFAULT_QUERY_TIMEOUT_S,
                retries=plan.retries,
                arrivals=settings.arrivals,
            )
            await self.queries.warm_up(settings.warmup, max(1, settings.concurrency))
            await self._look_for_strangers(engine)
            await self._baseline(engine)
            self._gauges = EngineGauges(plan)
            sampling = asyncio.ensure_future(self._gauges.sample())
            try:
                await self.queries.serve(self.queue, max(1, settings.concurrency), self._around.may_start)
            finally:
                sampling.cancel()
                await asyncio.gather(sampling, return_exceptions=True)
            await self._look_for_strangers(engine)
            await self._baseline(engine)
            await self.queries.settled()

    def _seen(self) -> dict[str, str]:
        """Return facts that are known only at the end: the engine's gauges and how well a schedule was kept."""
        gauges = self._gauges.facts() if self._gauges is not None else {}
        shared = (
            {SHARED_DEVICE: ", ".join(f"pid {pid}" for pid in sorted(self._strangers))}
            if self._strangers
            else {}
        )
        return gauges | shared | (self.queries.punctuality.facts() if self.queries is not None else {})

    async def _look_for_strangers(self, engine: EngineProcess) -> None:
        """Note who else uses the run's devices now: the joules of such a run are flagged."""
        asking = asyncio.to_thread(self._around.strangers, self._source_ids, engine.pids)
        with contextlib.suppress(TimeoutError):  # a driver that hangs must not hold up the run
            self._strangers |= set(await asyncio.wait_for(asking, STRANGERS_S))

    async def _baseline(self, engine: EngineProcess) -> None:
        if self.settings.baseline_s <= 0:
            return
        update = self._update(Phase.BASELINE)
        await asyncio.sleep(self.settings.baseline_s)
        update.end_ns = time.monotonic_ns()
        if not engine.exited.done():
            self.outbox.run_update(update)

    async def _after_crash(self, engine: EngineProcess) -> None:
        rest = self.queue.close()
        reason = f"The engine crashed: {engine.exit_reason()}"
        self.outbox.event("engine_crashed", f"run {self.run_id}: {reason}")
        self._release(rest)
        if self.queries is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.queries.settled(), CRASH_SETTLE_S)
            await self.queries.abort(reason)
        raise _RunFailedError(reason, retryable=True)

    def _fail(self, reason: str, *, retryable: bool) -> None:
        """Report a failed run; what had not started fails with it, for the next machine may do better."""
        _log.warning("run %s failed: %s", self.run_id, reason)
        for task in self.queue.close():
            update = task_update(self.run_id, task, fleet_pb2.TaskUpdate.FAILED, reason, retryable=retryable)
            self.outbox.task_update(update)
        self._report(Phase.FAILED, reason=reason)

    def _release(self, tasks: list[work_pb2.Task]) -> None:
        for task in tasks:
            self.outbox.task_update(task_update(self.run_id, task, fleet_pb2.TaskUpdate.RELEASED))

    def _update(self, phase: fleet_pb2.RunUpdate.Phase) -> fleet_pb2.RunUpdate:
        return fleet_pb2.RunUpdate(
            run_id=self.run_id,
            job_id=self.settings.job_id,
            model_id=self.settings.model.id,
            phase=phase,
            t_ns=time.monotonic_ns(),
        )

    def _report(self, phase: fleet_pb2.RunUpdate.Phase, **fields: object) -> None:
        update = self._update(phase)
        update.MergeFrom(fleet_pb2.RunUpdate(**fields))  # pyright: ignore[reportArgumentType]
        self.outbox.run_update(update)


def _without_args(settings: work_pb2.RunSettings) -> work_pb2.RunSettings:
    """Return settings whose engine arguments may not even be JSON, in a form that can be written down."""
    copy = work_pb2.RunSettings()
    copy.CopyFrom(settings)
    try:
        json.dumps(parse_arguments_json(copy.model.engine_args_json))
    except EngineArgumentError:
        copy.model.engine_args_json = ""
    return copy
