"""The Verdicts service: answers out to whoever judges them, verdicts and judges' answers back in."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import fields
from typing import Any, TypeVar

import grpc
from harness_proto.v1 import jobs_pb2, verdicts_pb2, verdicts_pb2_grpc
from harness_store import judgements, judging
from harness_store.database import Store
from harness_store.errors import UnknownJobError, UnknownMethodError

from harness_coordinator.jobs_service import table_chunks
from harness_coordinator.write_queue import WriteQueue

METHOD_NAME = re.compile(r"[a-z_]+(?::[\w.\-]{1,100}(?:@[\w.:/\-]{1,200})?)?")
"""A rule, `code`, `majority`, or `judge:NAME`, `judge:NAME@REFERENCE`, `human:NAME`."""

_OPTIONAL = ("prompt_tokens", "output_tokens", "cost_usd", "seconds")
T = TypeVar("T")


class VerdictsService(verdicts_pb2_grpc.VerdictsServicer):
    """Serves `harness evaluate` and `harness judges`; it judges nothing itself."""

    def __init__(self, *, store: Store, writes: WriteQueue) -> None:
        self._store = store
        self._writes = writes

    async def Describe(  # noqa: N802 - the name is the wire's
        self, request: jobs_pb2.JobRequest, context: grpc.aio.ServicerContext
    ) -> verdicts_pb2.JudgedJobReply:
        """Return how a job stands with its judging."""
        job = await self._answer(context, lambda c: judging.judged_job(c, request.job_id))
        return verdicts_pb2.JudgedJobReply(
            job_id=job.job_id,
            state=job.state,
            official=job.official,
            options_json=job.options_json or "",
            tasks=job.tasks,
            answered=job.answered,
        )

    async def Answers(  # noqa: N802
        self, request: jobs_pb2.JobRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[jobs_pb2.TableChunk]:
        """Yield the answers that count as one Arrow IPC stream in chunks."""
        await self._answer(context, lambda c: judging.judged_job(c, request.job_id))
        table = await self._answer(context, lambda c: judging.answers_table(c, request.job_id))
        for chunk in table_chunks(table):
            yield chunk

    async def List(  # noqa: N802
        self, request: jobs_pb2.JobRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[jobs_pb2.TableChunk]:
        """Yield every verdict of a job as one Arrow IPC stream in chunks."""
        table = await self._answer(context, lambda c: judging.verdicts_table(c, request.job_id))
        for chunk in table_chunks(table):
            yield chunk

    async def Record(  # noqa: N802
        self, request: verdicts_pb2.RecordVerdictsRequest, context: grpc.aio.ServicerContext
    ) -> verdicts_pb2.RecordVerdictsReply:
        """Store verdicts in one transaction."""
        if not METHOD_NAME.fullmatch(request.method):
            return await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"{request.method!r} is no name of a method"
            )
        await self._answer(context, lambda c: judging.judged_job(c, request.job_id))
        new = [verdict_of(v) for v in request.verdicts]
        refused = await self._writes.run(
            lambda c: judging.record_verdicts(c, request.job_id, request.method, new, now_ns=time.time_ns())
        )
        return verdicts_pb2.RecordVerdictsReply(
            stored=len(new) - len(refused),
            refused=[verdicts_pb2.RefusedVerdict(task_id=t, attempt=a) for t, a in refused],
        )

    async def Use(  # noqa: N802
        self, request: verdicts_pb2.UseVerdictsRequest, context: grpc.aio.ServicerContext
    ) -> verdicts_pb2.UseVerdictsReply:
        """Make a method official."""
        try:
            count = await self._writes.run(lambda c: judging.use_method(c, request.job_id, request.method))
        except (UnknownJobError, UnknownMethodError) as error:
            return await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        return verdicts_pb2.UseVerdictsReply(verdicts=count)

    async def FindJudgements(  # noqa: N802
        self, request: verdicts_pb2.FindJudgementsRequest, context: grpc.aio.ServicerContext
    ) -> verdicts_pb2.FindJudgementsReply:
        """Return what judges answered before."""
        found = await self._answer(context, lambda c: judgements.find(c, list(request.content_hashes)))
        return verdicts_pb2.FindJudgementsReply(judgements=[judgement_message(r) for r in found.values()])

    async def KeepJudgements(  # noqa: N802
        self, request: verdicts_pb2.KeepJudgementsRequest, context: grpc.aio.ServicerContext
    ) -> verdicts_pb2.KeepJudgementsReply:
        """Keep what judges answered."""
        rows = [judgement_row(m) for m in request.judgements]
        kept = await self._writes.run(lambda c: judgements.keep(c, rows))
        return verdicts_pb2.KeepJudgementsReply(kept=kept)

    async def _answer(self, context: grpc.aio.ServicerContext, read: Callable[[Any], T]) -> T:
        """Read on another thread, so that a long query never holds up the agents."""
        try:
            return await asyncio.to_thread(self._read, read)
        except UnknownJobError as error:
            return await context.abort(grpc.StatusCode.NOT_FOUND, str(error))

    def _read(self, read: Callable[[Any], T]) -> T:
        with self._store.read() as connection:
            return read(connection)


def verdict_of(message: verdicts_pb2.Verdict) -> judging.NewVerdict:
    """Return a verdict as the store takes it."""
    return judging.NewVerdict(
        task_id=message.task_id,
        attempt=message.attempt,
        correct=message.correct if message.HasField("correct") else None,
        score=message.score if message.HasField("score") else None,
        reason=message.reason or None,
        detail=message.detail or None,
    )


def judgement_message(row: judgements.JudgementRow) -> verdicts_pb2.StoredJudgement:
    """Return a judge's answer as it travels."""
    known = {f.name: getattr(row, f.name) for f in fields(row)}
    return verdicts_pb2.StoredJudgement(**{k: v for k, v in known.items() if v is not None})


def judgement_row(message: verdicts_pb2.StoredJudgement) -> judgements.JudgementRow:
    """Return a judge's answer as the store takes it."""
    known: dict[str, Any] = {f.name: getattr(message, f.name) for f in fields(judgements.JudgementRow)}
    for name in _OPTIONAL:
        if not message.HasField(name):
            known[name] = None
    return judgements.JudgementRow(**known)
