"""Where answers come from and verdicts go: the coordinator's Verdicts service, or a database directly."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from harness_analysis.evaluation.judge_client import KeptReply
from harness_analysis.evaluation.judging import AnswerToJudge
from harness_proto.v1 import jobs_pb2, verdicts_pb2, verdicts_pb2_grpc
from harness_store.judgements import JudgementRow
from harness_store.judging import JudgedJob, NewVerdict, VerdictCount

from harness_cli.connection import CALL_TIMEOUT_S, verdicts_stub
from harness_cli.failure import bad_input, unreachable

if TYPE_CHECKING:
    import pyarrow as pa
    from harness_store.database import Store

TABLE_TIMEOUT_S = 600.0


class VerdictDesk(Protocol):
    """Reads what is to be judged, stores what was found. Safe to call from several threads."""

    def job(self, job_id: str) -> JudgedJob:
        """Return how a job stands with its judging."""
        ...

    def answers(self, job_id: str) -> list[AnswerToJudge]:
        """Return the answers that count."""
        ...

    def verdicts(self, job_id: str) -> list[dict[str, Any]]:
        """Return every verdict of a job."""
        ...

    def counts(self, job_id: str, method: str) -> list[VerdictCount]:
        """Return how a method judged, by model."""
        ...

    def record(self, job_id: str, method: str, verdicts: Sequence[NewVerdict]) -> int:
        """Store verdicts in one transaction; return how many were refused."""
        ...

    def use(self, job_id: str, method: str) -> int:
        """Make a method official; return how many verdicts it has."""
        ...

    def find(self, content_hash: str) -> KeptReply | None:
        """Return a judge's earlier reply."""
        ...

    def keep(self, reply: KeptReply) -> None:
        """Keep a judge's reply."""
        ...


@contextlib.contextmanager
def verdict_desk(coordinator: str, database_url: str | None) -> Iterator[VerdictDesk]:
    """Open the desk; what the store or the coordinator refuses becomes a plain failure."""
    if not database_url:
        with verdicts_stub(coordinator) as stub:
            yield WireDesk(stub)
        return
    from harness_store.database import open_store
    from harness_store.errors import StoreError, UnknownJobError, UnknownMethodError

    try:
        store = open_store(database_url, create=False)
        try:
            yield StoreDesk(store)
        finally:
            store.close()
    except (UnknownJobError, UnknownMethodError) as error:
        raise bad_input(str(error)) from None
    except StoreError as error:
        raise unreachable(str(error)) from None


class StoreDesk:
    """The desk on a database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def job(self, job_id: str) -> JudgedJob:
        """Return how a job stands with its judging."""
        from harness_store import judging

        with self._store.read() as c:
            return judging.judged_job(c, job_id)

    def answers(self, job_id: str) -> list[AnswerToJudge]:
        """Return the answers that count."""
        from harness_store import judging

        with self._store.read() as c:
            return [
                AnswerToJudge(
                    task, attempt, query_id, model, query, messages, reference, response, repetition
                )
                for task, attempt, repetition, query_id, model, query, messages, reference, response in (
                    judging.answer_rows(c, job_id)
                )
            ]

    def verdicts(self, job_id: str) -> list[dict[str, Any]]:
        """Return every verdict of a job."""
        from harness_store import judging

        with self._store.read() as c:
            return judging.verdicts_table(c, job_id).to_pylist()

    def counts(self, job_id: str, method: str) -> list[VerdictCount]:
        """Return how a method judged, by model."""
        from harness_store import judging

        with self._store.read() as c:
            return judging.verdict_counts(c, job_id, method)

    def record(self, job_id: str, method: str, verdicts: Sequence[NewVerdict]) -> int:
        """Store verdicts in one transaction; return how many were refused."""
        from harness_store import judging

        with self._store.begin() as c:
            return len(judging.record_verdicts(c, job_id, method, verdicts, now_ns=time.time_ns()))

    def use(self, job_id: str, method: str) -> int:
        """Make a method official; return how many verdicts it has."""
        from harness_store import judging

        with self._store.begin() as c:
            return judging.use_method(c, job_id, method)

    def find(self, content_hash: str) -> KeptReply | None:
        """Return a judge's earlier reply."""
        from harness_store import judgements

        with self._store.read() as c:
            row = judgements.find(c, [content_hash]).get(content_hash)
        return None if row is None else KeptReply(**asdict(row))

    def keep(self, reply: KeptReply) -> None:
        """Keep a judge's reply."""
        from harness_store import judgements

        with self._store.begin() as c:
            judgements.keep(c, [JudgementRow(**asdict(reply))])


class WireDesk:
    """The desk of a coordinator."""

    def __init__(self, stub: verdicts_pb2_grpc.VerdictsStub) -> None:
        self._stub = stub

    def job(self, job_id: str) -> JudgedJob:
        """Return how a job stands with its judging."""
        r = self._stub.Describe(jobs_pb2.JobRequest(job_id=job_id), timeout=CALL_TIMEOUT_S)
        return JudgedJob(r.job_id, r.state, r.official, r.options_json or None, r.tasks, r.answered)

    def answers(self, job_id: str) -> list[AnswerToJudge]:
        """Return the answers that count."""
        return _answers(
            _table(self._stub.Answers(jobs_pb2.JobRequest(job_id=job_id), timeout=TABLE_TIMEOUT_S))
        )

    def verdicts(self, job_id: str) -> list[dict[str, Any]]:
        """Return every verdict of a job."""
        stream = self._stub.List(jobs_pb2.JobRequest(job_id=job_id), timeout=TABLE_TIMEOUT_S)
        return _table(stream).to_pylist()

    def counts(self, job_id: str, method: str) -> list[VerdictCount]:
        """Return how a method judged, by model; counted here, of all that the coordinator lists."""
        by_model: dict[str, list[bool | None]] = {}
        for verdict in self.verdicts(job_id):
            if verdict["method"] == method:
                by_model.setdefault(verdict["model_id"], []).append(verdict["correct"])
        return [
            VerdictCount(
                method, model, len(said), sum(v is not None for v in said), sum(v is True for v in said)
            )
            for model, said in sorted(by_model.items())
        ]

    def record(self, job_id: str, method: str, verdicts: Sequence[NewVerdict]) -> int:
        """Store verdicts in one transaction; return how many were refused."""
        messages = [
            verdicts_pb2.Verdict(
                task_id=v.task_id,
                attempt=v.attempt,
                correct=v.correct,
                score=v.score,
                reason=v.reason or "",
                detail=v.detail or "",
            )
            for v in verdicts
        ]
        request = verdicts_pb2.RecordVerdictsRequest(job_id=job_id, method=method, verdicts=messages)
        return len(self._stub.Record(request, timeout=TABLE_TIMEOUT_S).refused)

    def use(self, job_id: str, method: str) -> int:
        """Make a method official; return how many verdicts it has."""
        request = verdicts_pb2.UseVerdictsRequest(job_id=job_id, method=method)
        return self._stub.Use(request, timeout=CALL_TIMEOUT_S).verdicts

    def find(self, content_hash: str) -> KeptReply | None:
        """Return a judge's earlier reply."""
        from harness_coordinator.verdicts_service import judgement_row

        request = verdicts_pb2.FindJudgementsRequest(content_hashes=[content_hash])
        found = self._stub.FindJudgements(request, timeout=CALL_TIMEOUT_S).judgements
        return KeptReply(**asdict(judgement_row(found[0]))) if found else None

    def keep(self, reply: KeptReply) -> None:
        """Keep a judge's reply."""
        from harness_coordinator.verdicts_service import judgement_message

        message = judgement_message(JudgementRow(**asdict(reply)))
        request = verdicts_pb2.KeepJudgementsRequest(judgements=[message])
        self._stub.KeepJudgements(request, timeout=CALL_TIMEOUT_S)


def _table(chunks: Any) -> pa.Table:
    import pyarrow as pa

    return pa.ipc.open_stream(b"".join(chunk.arrow_ipc for chunk in chunks)).read_all()


def _answers(table: pa.Table) -> list[AnswerToJudge]:
    names = ("task_id", "attempt", "query_id", "model_id", "query", "messages_json", "reference", "response")
    columns = [table.column(name).to_pylist() for name in (*names, "repetition")]
    return [AnswerToJudge(*row) for row in zip(*columns, strict=True)]
