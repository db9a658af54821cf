"""What becomes of a task that comes back from an agent undone: ready again, later or at once, or failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, literal_column, select, update

from harness_store.models import Task

HELD = ("leased", "running")

IS_HELD = Task.state.in_([literal_column(f"'{state}'") for state in HELD])
"""The condition with its values in the text: a list of parameters is expanded anew at each execution."""

RETRY_DELAYS_S = (2.0, 10.0, 60.0)
"""Before the second, third and every later attempt."""


@dataclass(frozen=True, slots=True)
class ReturnedTask:
    """A task taken from an agent, and what became of it."""

    task_id: str
    attempt: int
    job_id: str
    agent_id: str
    run_id: str | None
    state: str


@dataclass(frozen=True, slots=True)
class Returned:
    """Tasks that were taken back; false where there were none."""

    tasks: tuple[ReturnedTask, ...]

    @property
    def jobs(self) -> set[str]:
        """Ids of their jobs."""
        return {task.job_id for task in self.tasks}

    def __bool__(self) -> bool:
        return bool(self.tasks)


def held_tasks() -> Select[*tuple[Any, ...]]:
    """Return the query that `give_back` takes its rows from."""
    return select(
        Task.task_id,
        Task.attempt,
        Task.job_id,
        Task.lease_agent_id,
        Task.run_id,
        Task.state,
        Task.failures,
        Task.max_attempts,
    )


FENCE = (
    Task.task_id == bindparam("f_task_id"),
    Task.attempt == bindparam("f_attempt"),
    Task.lease_agent_id == bindparam("f_agent_id"),
    Task.run_id == bindparam("f_run_id"),
)
"""The task is leased to this agent and run under this attempt; `fence_values` has the parameters."""


def fence_values(task_id: str, attempt: int, agent_id: str, run_id: str) -> dict[str, str | int]:
    """Return the parameters of `FENCE`."""
    return {"f_task_id": task_id, "f_attempt": attempt, "f_agent_id": agent_id, "f_run_id": run_id}


def lock_held(connection: Connection, fence: dict[str, str | int]) -> Row[*tuple[Any, ...]] | None:
    """Return the fenced task if it is held, locked until the transaction ends, or None."""
    return connection.execute(_LOCK_HELD, fence).first()


def give_back(
    connection: Connection,
    row: Row[*tuple[Any, ...]],
    *,
    costs_attempt: bool,
    retryable: bool,
    reason: str | None,
    now_ns: int,
    retry_delays_s: Sequence[float],
) -> ReturnedTask:
    """Make a held task ready again, after the delay of its attempt, or failed when it had its attempts.

    Args:
        connection: in a transaction that has locked the row.
        row: of `held_tasks`.
        costs_attempt: whether the task was worked on.
        retryable: whether another attempt makes sense.
        reason: why it came back, kept with the task.
        now_ns: realtime.
        retry_delays_s: before the second attempt, the third...; the last holds for all later ones.
    """
    failures = row.failures + (1 if costs_attempt else 0)
    over = costs_attempt and (not retryable or failures >= row.max_attempts)
    delay_s = (
        retry_delays_s[min(failures, len(retry_delays_s)) - 1] if costs_attempt and retry_delays_s else 0.0
    )
    state = "failed" if over else "ready"
    connection.execute(
        _GIVE_BACK,
        {
            "b_task_id": row.task_id,
            "state": state,
            "failures": failures,
            "not_before_realtime_ns": now_ns + int(delay_s * 1e9) if costs_attempt else 0,
            # A failed task keeps its last agent and run, for whoever looks for the cause.
            "lease_agent_id": row.lease_agent_id if over else None,
            "run_id": row.run_id if over else None,
            "lease_expires_realtime_ns": None,
            "reason": reason,
            "updated_realtime_ns": now_ns,
        },
    )
    return ReturnedTask(row.task_id, row.attempt, row.job_id, row.lease_agent_id, row.run_id, state)


def take_back(
    connection: Connection,
    rows: Sequence[Row[*tuple[Any, ...]]],
    *,
    reason: str,
    now_ns: int,
    retry_delays_s: Sequence[float],
) -> Returned:
    """Take tasks from an agent that will not finish them; those it had started have used up an attempt."""
    return Returned(
        tuple(
            give_back(
                connection,
                row,
                costs_attempt=row.state == "running",
                retryable=True,
                reason=reason,
                now_ns=now_ns,
                retry_delays_s=retry_delays_s,
            )
            for row in rows
        )
    )


_LOCK_HELD = held_tasks().where(*FENCE, IS_HELD).with_for_update()
_GIVE_BACK = update(Task).where(Task.task_id == bindparam("b_task_id"))
