"""What many messages say of many tasks, applied by a handful of statements instead of a handful for each.

The rows are read once and locked, the messages applied to them in their order in memory, and what changed is
written together. The fences are those of `leases`: a message counts for the (task, attempt) that is held by
its agent and run, and for no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import Connection, and_, bindparam, select, update

from harness_store.bulk_insert import BulkInsert
from harness_store.listed import listed, one_of
from harness_store.models import Evaluation, Generation, Job, Query, Run, Task
from harness_store.models.base import StorableText, storable
from harness_store.retries import HELD, RETRY_DELAYS_S, give_back
from harness_store.rows import table_of, upsert


@dataclass(slots=True)
class TaskNow:
    """A task as the messages so far have left it."""

    task_id: str
    attempt: int
    job_id: str
    state: str
    lease_agent_id: str | None
    run_id: str | None
    failures: int
    max_attempts: int
    evaluation: str
    evaluation_options_json: str | None
    reference: str | None

    def is_held(self, attempt: int, agent_id: str, run_id: str) -> bool:
        """Whether this attempt is the one that agent and run work on."""
        return self._is_fenced(attempt, agent_id, run_id) and self.state in HELD

    def was_done(self, attempt: int, agent_id: str, run_id: str) -> bool:
        """Whether this very attempt is the one that counts already."""
        return self._is_fenced(attempt, agent_id, run_id) and self.state == "done"

    def may_be_evidence(self, attempt: int, agent_id: str) -> bool:
        """Whether a result that does not count may be kept: never under an attempt that another agent holds."""
        mine = self.lease_agent_id in {None, agent_id}
        return attempt < self.attempt or (attempt == self.attempt and mine)

    def _is_fenced(self, attempt: int, agent_id: str, run_id: str) -> bool:
        return self.attempt == attempt and self.lease_agent_id == agent_id and self.run_id == run_id


@dataclass(frozen=True, slots=True)
class RunOwner:
    """Whose run it is."""

    agent_id: str
    job_id: str


@dataclass(slots=True)
class TaskBatch:
    """Tasks, runs and what is to be written of them; `write` does it."""

    tasks: dict[str, TaskNow]
    runs: dict[str, RunOwner]
    now_ns: int
    started: list[str] = field(default_factory=list[str])
    done: list[str] = field(default_factory=list[str])
    generations: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    verdicts: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    _returned: list[tuple[TaskNow, dict[str, Any]]] = field(
        default_factory=list[tuple[TaskNow, dict[str, Any]]]
    )

    def mark_running(self, task: TaskNow) -> None:
        """Note that a leased task was started."""
        if task.state == "leased":
            task.state = "running"
            self.started.append(task.task_id)

    def complete(self, task: TaskNow) -> None:
        """Note that a held task is done."""
        task.state = "done"
        self.done.append(task.task_id)

    def fail(self, task: TaskNow, reason: str, *, retryable: bool) -> bool:
        """Note that an attempt failed; return whether the task failed for good with it."""
        over = not retryable or task.failures + 1 >= task.max_attempts
        self._return(
            task, "failed" if over else "ready", costs_attempt=True, retryable=retryable, reason=reason
        )
        return over

    def release(self, task: TaskNow) -> None:
        """Take back a held task that was not started."""
        self._return(task, "ready", costs_attempt=False, retryable=True, reason=None)

    def _return(self, task: TaskNow, state: str, **how: Any) -> None:
        before = TaskNow(*(getattr(task, name) for name in TaskNow.__slots__))
        self._returned.append((before, how))
        task.state = state
        if state == "ready":
            task.lease_agent_id = task.run_id = None

    def write(self, connection: Connection) -> None:
        """Write what changed; the order is that in which one task can pass through the states."""
        # What was started and done in one batch is written once: each change of state moves the row in three indexes.
        started, done = set(self.started), set(self.done)
        for ids, statement in (
            (started - done, _STARTED),
            (done - started, _DONE),
            (started & done, _STARTED_AND_DONE),
        ):
            if ids:
                connection.execute(statement, {"b_ids": listed(ids), "b_now_ns": self.now_ns})
        for task, how in self._returned:
            give_back(connection, cast(Any, task), now_ns=self.now_ns, retry_delays_s=RETRY_DELAYS_S, **how)
        if self.generations:
            # Two dozen values a result: the driver takes tuples at a third of the cost.
            _INSERT.run(connection, [_stored(row) for row in self.generations])
        upsert(connection, Evaluation, self.verdicts)


def read_batch(
    connection: Connection, task_ids: Iterable[str], run_ids: Iterable[str], now_ns: int
) -> TaskBatch:
    """Read and lock the tasks that messages speak of, and whose the runs are."""
    rows = connection.execute(_TASKS, {"b_ids": listed(set(task_ids))})
    tasks = {row[0]: TaskNow(*row) for row in rows}
    return TaskBatch(tasks, run_owners(connection, set(run_ids)), now_ns)


def run_owners(connection: Connection, run_ids: Iterable[str]) -> dict[str, RunOwner]:
    """Return whose these runs are; unknown ones are left out."""
    rows = connection.execute(_RUNS, {"b_ids": listed(run_ids)})
    return {row.run_id: RunOwner(row.agent_id, row.job_id) for row in rows}


def _stored(row: Mapping[str, Any]) -> tuple[Any, ...]:
    values = _values(row)
    # Nearly no row holds a NUL, and asking each value costs more than asking all texts together.
    return tuple(map(storable, values)) if "\x00" in "".join(filter(None, _texts(row))) else values


_GENERATION = tuple(column.name for column in table_of(Generation).columns)
_values = itemgetter(*_GENERATION)
_texts = itemgetter(*(c.name for c in table_of(Generation).columns if isinstance(c.type, StorableText)))
_INSERT = BulkInsert(table_of(Generation), _GENERATION, "ON CONFLICT (task_id, attempt) DO NOTHING")
_TASKS = (
    select(
        Task.task_id,
        Task.attempt,
        Task.job_id,
        Task.state,
        Task.lease_agent_id,
        Task.run_id,
        Task.failures,
        Task.max_attempts,
        Job.evaluation,
        Job.evaluation_options_json,
        Query.reference,
    )
    .join(Job, Job.job_id == Task.job_id)
    .join(Query, and_(Query.dataset_id == Task.dataset_id, Query.query_id == Task.query_id))
    .where(one_of(Task.task_id, "b_ids"))
    .order_by(Task.task_id)
    .with_for_update(of=Task)
)
_RUNS = select(Run.run_id, Run.agent_id, Run.job_id).where(one_of(Run.run_id, "b_ids"))
_NOW = bindparam("b_now_ns")
_STARTED = (
    update(Task)
    .where(one_of(Task.task_id, "b_ids"))
    .values(state="running", started_realtime_ns=_NOW, updated_realtime_ns=_NOW)
)
_DONE = (
    update(Task)
    .where(one_of(Task.task_id, "b_ids"))
    .values(state="done", lease_expires_realtime_ns=None, reason=None, updated_realtime_ns=_NOW)
)
_STARTED_AND_DONE = (
    update(Task)
    .where(one_of(Task.task_id, "b_ids"))
    .values(
        state="done",
        started_realtime_ns=_NOW,
        lease_expires_realtime_ns=None,
        reason=None,
        updated_realtime_ns=_NOW,
    )
)
