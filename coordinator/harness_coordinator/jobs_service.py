"""The Jobs service: people's and programs' side."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import grpc
import pyarrow as pa
from harness_proto.v1 import jobs_pb2, jobs_pb2_grpc
from harness_store import fleet, jobs, results
from harness_store.database import Store
from harness_store.errors import UnknownJobError

from harness_coordinator.answers import agent_message, job_detail, summary_message
from harness_coordinator.dispatch import Dispatcher
from harness_coordinator.energy.measure import ATTRIBUTIONS
from harness_coordinator.jobfile import DEFAULT_ENGINES, JobFile, JobFileError, parse_job, suggestion
from harness_coordinator.recompute import energy_of_job, store_rows
from harness_coordinator.sessions import Sessions
from harness_coordinator.settings import MAX_SUBMIT_BYTES, MAX_SUBMIT_ROWS
from harness_coordinator.write_queue import WriteQueue

WATCH_EVERY_S = 0.3
CHUNK_BYTES = 1 << 20
FINAL_STATES = frozenset({"done", "failed", "cancelled"})
T = TypeVar("T")


class JobsService(jobs_pb2_grpc.JobsServicer):
    """Answers `harness` and other programs."""

    def __init__(
        self, *, store: Store, writes: WriteQueue, sessions: Sessions, dispatcher: Dispatcher
    ) -> None:
        self._store = store
        self._writes = writes
        self._sessions = sessions
        self._dispatcher = dispatcher

    async def Submit(  # noqa: N802 - the name is the wire's
        self, request_iterator: AsyncIterator[jobs_pb2.SubmitRequest], context: grpc.aio.ServicerContext
    ) -> jobs_pb2.SubmitReply:
        """Store a job with its queries and tasks in one transaction, or nothing of it."""
        first: jobs_pb2.SubmitRequest | None = None
        rows: list[jobs.QueryRow] = []
        size_bytes = 0
        async for request in request_iterator:
            first = first or request
            size_bytes += request.ByteSize()
            too_large = _beyond_limits(len(rows) + len(request.rows), size_bytes)
            if too_large:
                return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, too_large)
            rows += [_query_row(row, len(rows) + i) for i, row in enumerate(request.rows)]
        if first is None or not first.submission_id:
            return await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "a submission begins with its id and a job"
            )
        try:
            spec = parse_job(json.loads(first.job_json), origin="the job")
        except (JobFileError, json.JSONDecodeError) as error:
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        unknown = self._unknown_engine(spec)
        if unknown:
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, unknown)
        impossible = self._dispatcher.impossible(spec)
        if impossible and not first.wait_for_agents:
            return await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{impossible[0]}; nothing was stored (`harness submit --wait-for-agents` stores it all the same)",
            )
        warnings = list(impossible)
        if not self._sessions.all():
            warnings.append("no agent is connected yet; the job starts when one joins")
        try:
            inserted = await self._writes.run(
                lambda c: jobs.insert_job(c, _new_job(first.submission_id, spec), rows)
            )
        except (ValueError, LookupError) as error:
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        self._dispatcher.wake()
        return jobs_pb2.SubmitReply(job_id=inserted.job_id, tasks=inserted.tasks, warnings=warnings)

    async def GetJob(  # noqa: N802
        self, request: jobs_pb2.JobRequest, context: grpc.aio.ServicerContext
    ) -> jobs_pb2.JobDetail:
        """Return a job with its totals and failures."""
        return await self._answer(context, lambda c: self._detail(c, request.job_id))

    async def ListJobs(  # noqa: N802
        self, request: jobs_pb2.ListJobsRequest, context: grpc.aio.ServicerContext
    ) -> jobs_pb2.ListJobsReply:
        """Return the newest jobs."""
        summaries = await self._answer(context, lambda c: jobs.job_summaries(c, limit=request.limit or 50))
        return jobs_pb2.ListJobsReply(jobs=[summary_message(s) for s in summaries])

    async def WatchJob(  # noqa: N802
        self, request: jobs_pb2.JobRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[jobs_pb2.JobDetail]:
        """Yield a job whenever something of it changed, until it is over."""
        shown: bytes = b""
        while True:
            detail = await self._answer(context, lambda c: self._detail(c, request.job_id))
            serialised = detail.SerializeToString(deterministic=True)
            if serialised != shown:
                yield detail
                shown = serialised
            if detail.summary.state in FINAL_STATES:
                return
            await asyncio.sleep(WATCH_EVERY_S)

    async def CancelJob(  # noqa: N802
        self, request: jobs_pb2.JobRequest, context: grpc.aio.ServicerContext
    ) -> jobs_pb2.JobDetail:
        """Cancel what is not done, and stop what is on agents."""

        def cancel(connection: Any) -> list[jobs.HeldByAgent]:
            return jobs.cancel_job(connection, request.job_id, now_ns=time.time_ns())

        try:
            held = await self._writes.run(cancel)
        except UnknownJobError as error:
            return await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        for task in held:
            session = self._sessions.get(task.agent_id)
            if session is not None:
                session.send(cancel=_cancel(task, f"job {request.job_id} was cancelled"))
        return await self.GetJob(request, context)

    async def RetryJob(  # noqa: N802
        self, request: jobs_pb2.JobRequest, context: grpc.aio.ServicerContext
    ) -> jobs_pb2.JobDetail:
        """Make a job's failed tasks ready again."""

        def retry(connection: Any) -> None:
            # Forgotten first: no round between the two may give the job up again for what was.
            self._dispatcher.failed_starts.forget_job(request.job_id)
            jobs.retry_job(connection, request.job_id, now_ns=time.time_ns())

        try:
            await self._writes.run(retry)
        except UnknownJobError as error:
            return await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        self._dispatcher.wake()
        return await self.GetJob(request, context)

    async def Recompute(  # noqa: N802
        self, request: jobs_pb2.RecomputeRequest, context: grpc.aio.ServicerContext
    ) -> jobs_pb2.RecomputeReply:
        """Make a job's energy rows again from its stored samples."""
        attribution = request.attribution or None
        if attribution not in {None, *ATTRIBUTIONS}:
            return await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"attribution {attribution!r} is not one of {', '.join(ATTRIBUTIONS)}",
            )
        # Computed on another thread: only the writing of the rows holds up the agents.
        made = await self._answer(context, lambda c: energy_of_job(c, request.job_id, attribution))
        done = await self._writes.run(lambda c: store_rows(c, made))
        return jobs_pb2.RecomputeReply(
            runs=done.runs, rows=done.rows, device_joules=done.device_joules, notes=done.notes
        )

    async def ListAgents(  # noqa: N802
        self, request: jobs_pb2.ListAgentsRequest, context: grpc.aio.ServicerContext
    ) -> jobs_pb2.ListAgentsReply:
        """Return the fleet."""
        rows = await self._answer(context, fleet.list_agents)
        return jobs_pb2.ListAgentsReply(agents=[agent_message(row) for row in rows])

    async def Results(  # noqa: N802
        self, request: jobs_pb2.TableRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[jobs_pb2.TableChunk]:
        """Yield a job's rows as one Arrow IPC stream in chunks."""
        table = await self._answer(context, lambda c: results.results_table(c, request.job_id))
        for chunk in table_chunks(table):
            yield chunk

    async def Samples(  # noqa: N802
        self, request: jobs_pb2.TableRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[jobs_pb2.TableChunk]:
        """Yield raw samples of a job or an agent as one Arrow IPC stream in chunks."""
        table = await self._answer(context, lambda c: results.samples_table(c, request.job_id))
        for chunk in table_chunks(table):
            yield chunk

    def _unknown_engine(self, spec: JobFile) -> str:
        """Return what is wrong with a job whose engine neither this program nor any agent knows."""
        known = {*DEFAULT_ENGINES, *(e for s in self._sessions.all() for e in s.engines)}
        for index, entry in enumerate(spec.models):
            if entry.engine not in known:
                return f"`models[{index}].engine`: no engine is named {entry.engine!r}{suggestion(entry.engine, known)}"
        return ""

    async def _answer(self, context: grpc.aio.ServicerContext, read: Callable[[Any], T]) -> T:
        """Read on another thread, so that a long query never holds up the agents."""
        try:
            return await asyncio.to_thread(self._read, read)
        except UnknownJobError as error:
            return await context.abort(grpc.StatusCode.NOT_FOUND, str(error))

    def _detail(self, connection: Any, job_id: str) -> jobs_pb2.JobDetail:
        return job_detail(connection, job_id, self._waiting_reason(job_id))

    def _waiting_reason(self, job_id: str) -> str:
        if not self._sessions.all():
            return "no agent is connected"
        return next((reason for key, reason in self._dispatcher.waiting.items() if key[0] == job_id), "")

    def _read(self, read: Callable[[Any], T]) -> T:
        with self._store.read() as connection:
            return read(connection)


def _new_job(submission_id: str, spec: JobFile) -> jobs.NewJob:
    return jobs.NewJob(
        submission_id=submission_id,
        name=spec.name,
        spec_json=json.dumps(spec.model_dump(mode="json")),
        priority=spec.priority,
        energy=spec.energy,
        repetitions=spec.repetitions,
        hardware_count=len(spec.hardware),
        max_attempts=spec.max_attempts,
        dataset_name=spec.dataset.name or "",
        dataset_origin=spec.dataset.path or "",
        dataset_limit=spec.dataset.limit,
        models=[
            jobs.NewModel(
                model_id=m.id,
                engine=m.engine,
                source=m.source,
                params_b=m.params_b,
                active_params_b=m.active_params_b,
                input_price_per_mtok=m.price.input_per_mtok if m.price else None,
                output_price_per_mtok=m.price.output_per_mtok if m.price else None,
                spec_json=json.dumps(m.model_dump(mode="json")),
            )
            for m in spec.models
        ],
        submitted_realtime_ns=time.time_ns(),
    )


def _beyond_limits(rows: int, size_bytes: int) -> str:
    """Return what is wrong with a submission of so many rows and bytes, empty when nothing is."""
    if rows <= MAX_SUBMIT_ROWS and size_bytes <= MAX_SUBMIT_BYTES:
        return ""
    return (
        f"a submission has at most {MAX_SUBMIT_ROWS} queries and {MAX_SUBMIT_BYTES >> 20} MiB, and this one has more;"
        " nothing was stored. Import the file once (harness dataset import NAME FILE) and name it in the job:"
        " dataset: {name: NAME}"
    )


def _query_row(row: jobs_pb2.DatasetRow, ordinal: int) -> jobs.QueryRow:
    return jobs.QueryRow(
        query_id=row.query_id,
        ordinal=ordinal,
        text=row.text,
        messages_json=row.messages_json or None,
        reference=row.reference if row.HasField("reference") else None,
        domain=row.domain or None,
        extra_json=row.extra_json or None,
    )


def _cancel(task: jobs.HeldByAgent, reason: str) -> Any:
    from harness_proto.v1 import fleet_pb2

    return fleet_pb2.CancelTasks(
        tasks=[fleet_pb2.HeldTask(task_id=task.task_id, attempt=task.attempt)], reason=reason
    )


def table_chunks(table: pa.Table) -> list[jobs_pb2.TableChunk]:
    """Return a table as the chunks of one Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue().to_pybytes()
    return [
        jobs_pb2.TableChunk(arrow_ipc=data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)
    ]
