"""Reading a store: results of a job, raw samples, the list of jobs, and who answered what at which cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType

import pyarrow as pa
from harness_store import judging, results
from harness_store.database import Store, open_store
from harness_store.job_summaries import job_summaries
from harness_store.outcomes import outcomes_table

from harness_analysis.frame import Frame

MAX_JOBS = 1_000_000

JOBS_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("job_id", "name", "state")),
        ("priority", pa.int64()),
        ("energy", pa.string()),
        ("submitted_realtime_ns", pa.int64()),
        ("finished_realtime_ns", pa.int64()),
        ("reason", pa.string()),
        *(
            (name, pa.int64())
            for name in ("tasks", "ready", "leased", "running", "done", "failed", "cancelled", "measured")
        ),
        ("joules", pa.float64()),
        ("joules_kind", pa.string()),
    ]
)
"""Columns of `StoreReader.jobs`."""


class StoreReader:
    """What can be read from a store. Each call reads the database anew."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> StoreReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def store(self) -> Store:
        """The store itself, for SQL of one's own."""
        return self._store

    def results(self, job: str) -> Frame:
        """Return one row per finished task of a job; columns are those of `harness_store.results`.

        Raises:
            UnknownJobError: no such job.
        """
        with self._store.read() as connection:
            return Frame(results.results_table(connection, job))

    def verdicts(self, job: str) -> Frame:
        """Return every verdict on a job's answers, by all methods; columns are those of `harness_store.judging`.

        Raises:
            UnknownJobError: no such job.
        """
        with self._store.read() as connection:
            return Frame(judging.verdicts_table(connection, job))

    def samples(self, job_or_agent: str) -> Frame:
        """Return the raw samples of a job's sources over its runs, or everything an agent (id or name) sent.

        Raises:
            UnknownJobError: neither a job nor an agent is called so.
        """
        with self._store.read() as connection:
            return Frame(results.samples_table(connection, job_or_agent))

    def jobs(self, limit: int = MAX_JOBS) -> Frame:
        """Return the newest jobs with their counts and joules, newest first."""
        with self._store.read() as connection:
            rows = [asdict(summary) for summary in job_summaries(connection, limit)]
        return Frame(pa.Table.from_pylist(rows, schema=JOBS_SCHEMA))

    def outcomes(self, models: Sequence[str] | None = None, hardware: Sequence[str] | None = None) -> Frame:
        """Return one row per (query, model, hardware): how often right, joules, cost and time in the mean.

        Args:
            models: model ids, all when None.
            hardware: hardware names or shell-style patterns of them (`*H200*`), all when None.
        """
        with self._store.read() as connection:
            return Frame(outcomes_table(connection, models=models, hardware=hardware))

    def close(self) -> None:
        """Close the connections."""
        self._store.close()


def connect(url: str) -> StoreReader:
    """Open a store for reading.

    Args:
        url: `sqlite:///FILE`, `postgresql://...`, or the path of a SQLite file.

    Raises:
        StoreUnreachableError: there is no such file, server or right.
        NotOurDatabaseError: the file is no database, or the database is another program's.
        NewerDatabaseError: a newer version of this program wrote it.
        OlderDatabaseError: it waits for a migration, which a coordinator does at its start.
    """
    return StoreReader(open_store(url, create=False))
