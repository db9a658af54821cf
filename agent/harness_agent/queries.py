"""The queries of a run: warm-up, then tasks with a set number in flight; each ends as one generation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from harness_backends.engines.messages import BadQueryError, to_messages
from harness_backends.engines.process import EngineProcess
from harness_backends.engines.stream_client import StreamClient
from harness_backends.engines.stream_result import FailureKind, StreamFailure, StreamResult
from harness_proto.v1 import fleet_pb2, work_pb2

from harness_agent.arrivals import Punctuality, is_open, send_when_due
from harness_agent.outbox import Outbox
from harness_agent.run_reports import QueryFailure, task_update, to_generation, warmup_task
from harness_agent.sample_gate import SampleGate
from harness_agent.task_queue import Key, TaskQueue, key_of

EXIT_NOTICED_S = 0.5
"""A broken stream may be the first sign of a crash; the engine's end is known within this time."""


@dataclass(slots=True, eq=False)
class _InFlight:
    task: work_pb2.Task
    query: asyncio.Task[StreamResult]
    start_ns: int
    warmup: bool
    cancelled: str = ""


class Queries:
    """Sends queries to one engine and reports each one's end."""

    def __init__(
        self,
        run_id: str,
        client: StreamClient,
        engine: EngineProcess,
        outbox: Outbox,
        samples: SampleGate,
        *,
        timeout_s: float,
        retries: int,
        arrivals: work_pb2.Arrivals | None = None,
    ) -> None:
        self._run_id = run_id
        self._client = client
        self._engine = engine
        self._outbox = outbox
        self._samples = samples
        self._reports: set[asyncio.Task[None]] = set()
        self._timeout_s = timeout_s
        self._retries = retries
        self._arrivals = arrivals or work_pb2.Arrivals()
        self.punctuality = Punctuality()
        self._flying: dict[Key, _InFlight] = {}
        self._none_flying = asyncio.Event()
        self._none_flying.set()
        self._warned: set[str] = set()

    def in_flight(self) -> list[Key]:
        """Return the leased tasks in flight; nobody has leased a warm-up query."""
        return [key for key, flight in self._flying.items() if not flight.warmup]

    def starts_ns(self) -> list[int]:
        """Return the starts of the queries in flight."""
        return [flight.start_ns for flight in self._flying.values()]

    def cancel(self, key: Key, reason: str) -> None:
        """Stop one query; its time in flight is still reported, because it used energy."""
        flight = self._flying.get(key)
        if flight is not None:
            flight.cancelled = reason
            flight.query.cancel()

    async def abort(self, reason: str) -> None:
        """Stop every query in flight and wait until all are reported."""
        for key in tuple(self._flying):
            self.cancel(key, reason)
        await self.settled()

    async def settled(self) -> None:
        """Wait until nothing is in flight and every end is told."""
        await self._none_flying.wait()

    async def warm_up(self, queries: Sequence[work_pb2.Query], concurrency: int) -> None:
        """Run queries that are reported as warm-up and count for nothing."""
        waiting = [warmup_task(self._run_id, number, query) for number, query in enumerate(queries)]
        waiting.reverse()

        async def work() -> None:
            while waiting:
                await self._one(waiting.pop(), warmup=True)

        await _together([work() for _ in range(min(concurrency, len(waiting)))])

    async def serve(self, queue: TaskQueue, concurrency: int, may_start: asyncio.Event) -> None:
        """Run tasks until the queue ends.

        Args:
            queue: where tasks come from.
            concurrency: how many are in flight together, unless queries arrive by a schedule.
            may_start: while cleared, no further task is taken.
        """

        async def start(task: work_pb2.Task) -> None:
            self._outbox.task_update(task_update(self._run_id, task, fleet_pb2.TaskUpdate.RUNNING))
            await self._one(task, warmup=False)

        if is_open(self._arrivals):
            await send_when_due(queue, self._arrivals, may_start, start, self.punctuality)
            return

        async def work() -> None:
            while True:
                await may_start.wait()
                task = await queue.take()
                if task is None:
                    return
                await start(task)

        await _together([work() for _ in range(concurrency)])

    async def _one(self, task: work_pb2.Task, *, warmup: bool) -> None:
        try:
            messages = to_messages(task.query.text, task.query.messages_json)
        except BadQueryError as error:
            now_ns = time.monotonic_ns()
            failure = QueryFailure(str(error), retryable=False)
            self._report(task, StreamResult(now_ns, now_ns), failure, warmup=warmup)
            return
        start_ns = time.monotonic_ns()
        limit = task.query.max_output_tokens if task.query.HasField("max_output_tokens") else None
        query = asyncio.ensure_future(
            self._client.ask(
                messages,
                self._timeout_s,
                self._retries,
                output_limit=limit,
                exact=limit is not None and self._arrivals.exact_output,
            )
        )
        flight = _InFlight(task, query, start_ns, warmup)
        self._flying[key_of(task)] = flight
        self._none_flying.clear()
        try:
            await asyncio.wait({query})
            if query.cancelled():
                result = StreamResult(start_ns, time.monotonic_ns())
                failure = QueryFailure(f"not finished: {flight.cancelled}", retryable=True)
            else:
                result = query.result()
                failure = await self._explain(result.failure)
        except asyncio.CancelledError:
            query.cancel()
            result = StreamResult(start_ns, time.monotonic_ns())
            failure = QueryFailure("not finished: the run ended", retryable=True)
            self._land(task, result, failure, warmup=warmup)
            raise
        # The next query takes this one's place at once; the report follows its samples.
        report = asyncio.create_task(self._land_after_samples(task, result, failure, warmup=warmup))
        self._reports.add(report)
        report.add_done_callback(self._reports.discard)

    async def _land_after_samples(
        self, task: work_pb2.Task, result: StreamResult, failure: QueryFailure | None, *, warmup: bool
    ) -> None:
        try:
            await self._samples.passed()
        finally:
            self._land(task, result, failure, warmup=warmup)

    def _land(
        self, task: work_pb2.Task, result: StreamResult, failure: QueryFailure | None, *, warmup: bool
    ) -> None:
        self._report(task, result, failure, warmup=warmup)
        del self._flying[key_of(task)]
        if not self._flying:
            self._none_flying.set()

    async def _explain(self, failure: StreamFailure | None) -> QueryFailure | None:
        """Name the engine's end as the reason where that is why the stream broke."""
        if failure is None:
            return None
        if failure.kind in (FailureKind.CUT, FailureKind.CONNECT) and self._engine.pids:
            await asyncio.wait({self._engine.exited}, timeout=EXIT_NOTICED_S)
            if self._engine.exited.done():
                return QueryFailure(f"The engine crashed: {self._engine.exit_reason()}", retryable=True)
        return QueryFailure(f"{failure.kind}: {failure.message}", failure.retryable)

    def _report(
        self, task: work_pb2.Task, result: StreamResult, failure: QueryFailure | None, *, warmup: bool
    ) -> None:
        generation = to_generation(self._run_id, task, result, failure)
        generation.warmup = warmup
        self._outbox.generation(generation)
        for warning in result.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                self._outbox.event(
                    "engine_contradicts_itself", f"run {self._run_id}, task {task.task_id}: {warning}"
                )


async def _together(parts: Sequence[Coroutine[None, None, None]]) -> None:
    """Run coroutines together; when one fails, or this is cancelled, end them all."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
