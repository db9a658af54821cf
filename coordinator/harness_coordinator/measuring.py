"""Measuring: turns runs that are over into joules, once their samples have arrived."""

from __future__ import annotations

import asyncio
import json
import logging
import time

from harness_store import events, fleet, jobs, measurements, runs, segments
from harness_store.database import Store
from harness_store.late_samples import reopen_where_samples_arrived
from harness_store.sample_tables import HOST_MEMORY_SOURCE
from sqlalchemy import Connection

from harness_coordinator.energy.records import EnergyError
from harness_coordinator.live_energy import LiveRun
from harness_coordinator.repeating import repeat
from harness_coordinator.run_energy import compute_run_energy, margin_after_ns
from harness_coordinator.sessions import Sessions
from harness_coordinator.settings import (
    LATE_SAMPLES_QUIET_NS,
    LIVE_EVERY_S,
    MEASURE_EVERY_S,
    CoordinatorSettings,
)
from harness_coordinator.write_queue import WriteQueue

_log = logging.getLogger(__name__)


class Measurer:
    """One loop over runs whose energy is pending."""

    def __init__(
        self,
        store: Store,
        writes: WriteQueue,
        sessions: Sessions,
        settings: CoordinatorSettings,
        runs_over: asyncio.Event,
    ) -> None:
        self._store = store
        self._writes = writes
        self._sessions = sessions
        self._settings = settings
        self._runs_over = runs_over
        self._live: dict[str, LiveRun | None] = {}
        """Runs that are on by id; None for one whose joules only its end can tell."""

    async def run(self) -> None:
        """Measure until cancelled."""
        await asyncio.gather(
            repeat("measuring", self.round, MEASURE_EVERY_S, self._runs_over),
            repeat("live measuring", self.live_round, LIVE_EVERY_S),
        )

    async def round(self) -> None:
        """Measure every run that is ready for it."""
        await self._writes.run(
            lambda c: reopen_where_samples_arrived(c, now_ns=time.time_ns(), quiet_ns=LATE_SAMPLES_QUIET_NS),
            patient=True,
        )
        for run_id in await asyncio.to_thread(self._ready):
            rows = await asyncio.to_thread(self._compute, run_id)
            await self._writes.run(lambda c, r=rows: store_energy(c, r))

    async def live_round(self) -> None:
        """Give the runs of agents that are connected here provisional joules, as far as all is known."""
        for run_id, rows in await asyncio.to_thread(self._advance_live):
            await self._writes.run(
                lambda c, i=run_id, r=rows: measurements.add_provisional(c, i, r, now_ns=time.time_ns())
            )

    def _advance_live(self) -> list[tuple[str, list[measurements.NewMeasurement]]]:
        found: list[tuple[str, list[measurements.NewMeasurement]]] = []
        with self._store.read() as connection:
            on = {
                run.run_id: run
                for run in runs.active_runs(connection, [s.agent_id for s in self._sessions.all()])
                if run.ready_ns is not None and run.watermark_ns is not None and run.energy_state != "none"
            }
            for run_id in [i for i in self._live if i not in on]:
                del self._live[run_id]
            for run_id, run in on.items():
                rows = self._advance_one(connection, run_id, run.watermark_ns or 0)
                if rows:
                    found.append((run_id, rows))
        return found

    def _advance_one(
        self, connection: Connection, run_id: str, watermark_ns: int
    ) -> list[measurements.NewMeasurement]:
        try:
            live = self._live[run_id] if run_id in self._live else LiveRun(connection, run_id)
            self._live[run_id] = live
            return live.advance(connection, watermark_ns) if live else []
        except EnergyError as error:
            _log.warning("run %s has no joules before its end: %s", run_id, error)
            self._live[run_id] = None
            return []

    def _ready(self) -> list[str]:
        with self._store.read() as connection:
            return [run.run_id for run in runs.pending_energy(connection) if self._covered(connection, run)]

    def _covered(self, connection: Connection, run: runs.RunRow) -> bool:
        """Whether samples cover the run, or will never do so."""
        waited_s = (time.time_ns() - (run.over_realtime_ns or 0)) / 1e9
        if waited_s > self._settings.samples_wait_s or run.end_ns is None or run.clock_id is None:
            return True
        records = {s.source_id: s for s in fleet.sources_of(connection, run.agent_id)}
        on = self._sessions.get(run.agent_id) is not None
        # Each source has a stream of its own, so the host's memory may come after the joules' samples.
        energy_ids = json.loads(run.source_ids_json or "[]") + json.loads(run.host_source_ids_json or "[]")
        for source_id in (*energy_ids, HOST_MEMORY_SOURCE):
            record = records.get(source_id)
            if record is None or record.gone_reason:
                continue
            # An agent that is still here goes on sampling: what comes just after the end sharpens the last edge.
            until_ns = run.end_ns + (margin_after_ns(record) if on else 0)
            covered_ns = segments.covered_until_ns(connection, run.agent_id, source_id, run.clock_id)
            if covered_ns is None or covered_ns < until_ns:
                return False
        return True

    def _compute(self, run_id: str) -> measurements.RunEnergyRows:
        with self._store.read() as connection:
            return compute_run_energy(connection, run_id, final=True)


def store_energy(connection: Connection, rows: measurements.RunEnergyRows) -> None:
    """Replace a run's energy rows and finish its job if that was the last thing it waited for."""
    measurements.replace_run_energy(connection, rows, now_ns=time.time_ns())
    if rows.reason:
        events.add(connection, kind="energy_incomplete", run_id=rows.run_id, detail=rows.reason)
        _log.warning("energy of run %s: %s", rows.run_id, rows.reason)
    job_id = jobs.job_of_run(connection, rows.run_id)
    if job_id:
        jobs.finish_if_complete(connection, job_id, time.time_ns())
