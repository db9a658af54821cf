"""Agents on which an engine did not start several times in a row: they get no more tasks of that group.

Kept in memory: after a restart of the coordinator each agent is tried anew, as it is after a restart of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness_coordinator.scheduler import GroupKey

MOST_KEPT = 4096
"""Groups and agents remembered; a coordinator that serves for months sees any number of jobs."""


@dataclass(frozen=True, slots=True)
class Start:
    """What became of one run's engine; `reason` is empty where it started."""

    key: GroupKey
    agent_id: str
    boot_id: str
    run_id: str
    reason: str = ""


@dataclass(slots=True)
class _Failures:
    run_ids: set[str] = field(default_factory=set[str])
    """A run counts once, however often it is told."""
    reason: str = ""


class FailedStarts:
    """Failures since the last success, by group and process of an agent."""

    def __init__(self) -> None:
        self._failures: dict[tuple[GroupKey, str, str], _Failures] = {}

    def note(self, start: Start) -> None:
        """Count a start that failed, or forget those before one that did not."""
        place = (start.key, start.agent_id, start.boot_id)
        if not start.reason:
            self._failures.pop(place, None)
            return
        while place not in self._failures and len(self._failures) >= MOST_KEPT:
            del self._failures[next(iter(self._failures))]
        failures = self._failures.setdefault(place, _Failures())
        failures.run_ids.add(start.run_id)
        failures.reason = start.reason

    def forget(self, key: GroupKey) -> None:
        """Try every agent anew for a group."""
        for place in [place for place in self._failures if place[0] == key]:
            del self._failures[place]

    def forget_job(self, job_id: str) -> None:
        """Try every agent anew for a job: somebody asked for it."""
        for place in [place for place in self._failures if place[0][0] == job_id]:
            del self._failures[place]

    def reasons(self, key: GroupKey, boots: Mapping[str, str], most: int) -> dict[str, str]:
        """Return why, by agent id, of the agents that failed this often.

        Args:
            key: the group.
            boots: process of each connected agent, by agent id.
            most: failures in a row after which an agent is given up for the group.
        """
        if not self._failures:
            return {}
        found: dict[str, str] = {}
        for agent_id, boot_id in boots.items():
            failures = self._failures.get((key, agent_id, boot_id))
            if failures is not None and len(failures.run_ids) >= most:
                found[agent_id] = failures.reason
        return found
