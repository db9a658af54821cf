"""Housekeeping: leases that ended, agents that vanished or are drained, lost runs."""

from __future__ import annotations

import asyncio
import time

from harness_store import events, fleet, jobs, leases, runs
from sqlalchemy import Connection

from harness_coordinator.dispatch import Dispatcher
from harness_coordinator.repeating import repeat
from harness_coordinator.sessions import Sessions
from harness_coordinator.settings import (
    HOUSEKEEPING_EVERY_S,
    RETRY_DELAYS_S,
    CoordinatorSettings,
)
from harness_coordinator.write_queue import WriteQueue


class Housekeeper:
    """One slow loop."""

    def __init__(
        self,
        writes: WriteQueue,
        sessions: Sessions,
        dispatcher: Dispatcher,
        settings: CoordinatorSettings,
        runs_over: asyncio.Event,
    ) -> None:
        self._writes = writes
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._settings = settings
        self._runs_over = runs_over

    async def run(self) -> None:
        """Keep house until cancelled."""
        await repeat("housekeeping", self.round, HOUSEKEEPING_EVERY_S)

    async def round(self) -> None:
        """Do everything that is due once."""
        await self._tell_agents()
        changed = await self._writes.run(self._expire, patient=True)
        if changed:
            self._runs_over.set()
            self._dispatcher.wake()

    async def _tell_agents(self) -> None:
        """Let sessions know what an administrator decided of their agents, in this process or in another."""
        sessions = self._sessions.all()
        states = await self._writes.run(fleet.withheld, patient=True) if sessions else {}
        for session in sessions:
            state = states.get(session.agent_id)
            if state == "removed":
                session.refuse("this agent was removed from the fleet")
            draining = state == "drained"
            if session.draining != draining:
                session.draining = draining
                self._dispatcher.wake()

    def _expire(self, connection: Connection) -> bool:
        now_ns = time.time_ns()
        lost_ns = int(self._settings.lease_s * 1e9)
        for agent_id in fleet.mark_lost(connection, older_than_ns=now_ns - lost_ns):
            events.add(connection, kind="agent_lost", agent_id=agent_id, detail="no heartbeat for one lease")
        given_back = leases.expire(connection, now_ns=now_ns, retry_delays_s=RETRY_DELAYS_S)
        lost_runs = runs.mark_lost(connection, now_ns=now_ns)
        for job_id in {*given_back.jobs, *lost_runs.jobs}:
            jobs.finish_if_complete(connection, job_id, now_ns)
        return bool(given_back.jobs or lost_runs.jobs)
