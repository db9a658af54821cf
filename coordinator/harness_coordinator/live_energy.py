"""Joules of a run while it is on: provisional rows at a constant cost per sample and per generation.

A live row has no bounds and is not final: the run's end brings the baseline after it, the fitted alpha and load
model, and with them the rows that take its place.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence

import numpy as np
from harness_store import fleet, generations, jobs, measurements, runs, segments
from sqlalchemy import Connection

from harness_coordinator.energy.alpha import DEFAULT_ALPHA
from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import EnergyError
from harness_coordinator.energy.streaming import FinishedQueries, StreamingAttributor
from harness_coordinator.run_columns import known, query_columns, sample_columns
from harness_coordinator.source_records import traits_of

OVERLAP_NS = 2_000_000_000
"""Generations are looked for again this far back: two coordinators on one database commit out of order."""

PROVISIONAL = "provisional"


class LiveRun:
    """One run that is on; holds what is open, whatever the run's length."""

    def __init__(self, connection: Connection, run_id: str) -> None:
        """Begin at the run's start.

        Raises:
            EnergyError: its sources cannot be integrated as they go.
        """
        run = runs.get_run(connection, run_id)
        spec = json.loads(jobs.spec_json(connection, run.job_id))
        self.run_id = run_id
        self._agent_id = run.agent_id
        self._clock_id = run.clock_id or ""
        self._attribution = str(spec.get("attribution", "tokens"))
        self._received_ns = 0
        self._numbers = itertools.count()
        self._queries: dict[int, tuple[str, int]] = {}
        self._seen: dict[tuple[str, int], int] = {}
        records = {s.source_id: s for s in fleet.sources_of(connection, run.agent_id)}
        self._sources = [
            _LiveSource(connection, run, records[source_id], self._attribution)
            for source_id in json.loads(run.source_ids_json or "[]")
            if source_id in records
        ]

    def advance(self, connection: Connection, watermark_ns: int) -> list[measurements.NewMeasurement]:
        """Take what is new in the store and return the rows of queries whose whole time is settled.

        Args:
            connection: the store; only read.
            watermark_ns: no query that started before this is still unreported.

        Raises:
            EnergyError: the samples cannot be divided; the run's end will tell more.
        """
        numbers, queries = self._new_queries(connection)
        rows: list[measurements.NewMeasurement] = []
        for source in self._sources:
            finished = source.advance(
                connection, numbers, queries, watermark_ns, self._agent_id, self._clock_id
            )
            rows += self._rows(source, finished)
        return rows

    def _new_queries(self, connection: Connection) -> tuple[list[int], list[generations.RunQuery]]:
        since_ns = self._received_ns - OVERLAP_NS
        numbers: list[int] = []
        queries: list[generations.RunQuery] = []
        for received_ns, query in generations.queries_received_since(connection, self.run_id, since_ns):
            self._received_ns = max(self._received_ns, received_ns)
            key = (query.task_id, query.attempt)
            if key in self._seen:
                continue
            number = next(self._numbers)
            self._seen[key] = received_ns
            if query.counted and not query.warmup:
                self._queries[number] = key
            numbers.append(number)
            queries.append(query)
        for key in [k for k, at_ns in self._seen.items() if at_ns < self._received_ns - 2 * OVERLAP_NS]:
            del self._seen[key]
        return numbers, queries

    def _rows(self, source: _LiveSource, finished: FinishedQueries) -> list[measurements.NewMeasurement]:
        rows: list[measurements.NewMeasurement] = []
        for i, number in enumerate(finished.key.tolist()):
            if number not in self._queries:
                continue
            task_id, attempt = self._queries[number]
            rows.append(
                measurements.NewMeasurement(
                    task_id=task_id,
                    attempt=attempt,
                    source_id=source.record.source_id,
                    role="primary",
                    scope=source.record.scope,
                    energy_source=source.record.energy_source,
                    method="live",
                    attribution=self._attribution,
                    joules=known(finished.joules[i]),
                    net_joules=known(finished.net_joules[i]),
                    idle_joules=known(finished.idle_joules[i]),
                    prefill_joules=known(finished.prefill_joules[i]),
                    decode_joules=known(finished.decode_joules[i]),
                    flags=PROVISIONAL,
                )
            )
        source.done.update(finished.key.tolist())
        for number in [n for n in source.done if all(n in s.done for s in self._sources)]:
            self._queries.pop(number, None)
            for one in self._sources:
                one.done.discard(number)
        return rows


class _LiveSource:
    """One primary source of a run."""

    def __init__(
        self, connection: Connection, run: runs.RunRow, record: fleet.SourceRecord, attribution: str
    ) -> None:
        self.record = record
        self.done: set[int] = set()
        start_ns = run.start_ns or 0
        self._read_ns = start_ns - OVERLAP_NS
        self._attributor = StreamingAttributor(
            traits_of(record),
            alpha=DEFAULT_ALPHA,
            baseline_w=_baseline_w(connection, run, record),
            origin_ns=start_ns,
            attribution=attribution,
        )

    def advance(
        self,
        connection: Connection,
        numbers: Sequence[int],
        queries: Sequence[generations.RunQuery],
        watermark_ns: int,
        agent_id: str,
        clock_id: str,
    ) -> FinishedQueries:
        samples = segments.read_columns(
            connection,
            agent_id=agent_id,
            source_id=self.record.source_id,
            clock_id=clock_id,
            start_ns=self._read_ns + 1,
        )
        if samples["t_ns"].size:
            self._read_ns = int(np.asarray(samples["t_ns"], np.int64)[-1])
            self._attributor.add_samples(sample_columns(samples))
        if numbers:
            self._attributor.add_queries(numbers, query_columns(queries))
        return self._attributor.advance(watermark_ns)


def _baseline_w(connection: Connection, run: runs.RunRow, record: fleet.SourceRecord) -> float:
    """Return the idle power before the first query, W; NaN where it was not measured or cannot be told."""
    windows = runs.baselines(connection, run.run_id)
    if not windows:
        return math.nan
    samples = segments.read_columns(
        connection,
        agent_id=run.agent_id,
        source_id=record.source_id,
        clock_id=run.clock_id or "",
        start_ns=windows[0][0] - OVERLAP_NS,
        end_ns=windows[0][1] + OVERLAP_NS,
    )
    try:
        energy = measure_source(
            traits_of(record), sample_columns(samples), query_columns(()), windows[0], windows[:1]
        )
    except EnergyError:
        return math.nan
    return energy.baselines[0].power_w if energy.baselines else math.nan
