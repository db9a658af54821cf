"""Where a benchmark is published from: a store here, or whoever else can give the same tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from harness_store.dataset_tables import row_batch
from harness_store.datasets import DatasetRow, dataset_of_id, find_dataset
from harness_store.errors import UnknownDatasetError, UnknownJobError
from harness_store.judging import judged_job, verdicts_table
from harness_store.models import Job
from harness_store.results import result_batches
from sqlalchemy import select

from harness_analysis.errors import PublishingError
from harness_analysis.outcomes.from_store import answers_in_store
from harness_analysis.reader import StoreReader


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job as it is published."""

    job_id: str
    name: str
    state: str
    energy: str
    evaluation: str
    dataset_id: str


class BenchmarkSource(Protocol):
    """Gives datasets and jobs; what is not there raises PublishingError."""

    def dataset(self, name: str) -> DatasetRow:
        """Return the dataset of a name, with its mapping and report."""
        ...

    def dataset_of_id(self, dataset_id: str) -> DatasetRow:
        """Return the dataset a job took its queries from; it may have no name."""
        ...

    def rows(self, dataset: DatasetRow) -> Iterator[pa.RecordBatch]:
        """Yield its rows; columns are `harness_store.dataset_tables.ROWS_SCHEMA`."""
        ...

    def job(self, job_id: str) -> FinishedJob:
        """Return a job, over or not."""
        ...

    def results(self, job_id: str) -> Iterable[pa.RecordBatch]:
        """Return its results in pieces; columns are `harness_store.results.RESULTS_SCHEMA`."""
        ...

    def verdicts(self, job_id: str) -> pa.Table:
        """Return its verdicts; columns are `harness_store.judging.VERDICTS_SCHEMA`."""
        ...

    def outcomes(self, job_id: str) -> pa.Table:
        """Return its outcomes; columns are `harness_analysis.outcomes.schema.OUTCOMES_SCHEMA`."""
        ...


class StoreSource:
    """A store as a source."""

    def __init__(self, reader: StoreReader) -> None:
        self._reader = reader

    def dataset(self, name: str) -> DatasetRow:
        """Return the dataset of a name."""
        try:
            with self._reader.store.read() as c:
                return find_dataset(c, name)
        except UnknownDatasetError as error:
            raise PublishingError(str(error)) from None

    def dataset_of_id(self, dataset_id: str) -> DatasetRow:
        """Return a dataset by its id."""
        with self._reader.store.read() as c:
            return dataset_of_id(c, dataset_id)

    def rows(self, dataset: DatasetRow) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a dataset; each batch is read by itself, so no transaction lasts."""
        first = 0
        while first < dataset.row_count:
            with self._reader.store.read() as c:
                batch = row_batch(c, dataset.dataset_id, first=first)
            if not batch.num_rows:
                raise PublishingError(f"the dataset {dataset.name!r} was dropped while it was read")
            yield batch
            first += batch.num_rows

    def job(self, job_id: str) -> FinishedJob:
        """Return a job."""
        columns = (Job.job_id, Job.name, Job.state, Job.energy, Job.evaluation, Job.dataset_id)
        try:
            with self._reader.store.read() as c:
                judged_job(c, job_id)
                return FinishedJob(*c.execute(select(*columns).where(Job.job_id == job_id)).one())
        except UnknownJobError as error:
            raise PublishingError(str(error)) from None

    def results(self, job_id: str) -> Iterable[pa.RecordBatch]:
        """Yield the results of a job."""
        with self._reader.store.read() as c:
            yield from result_batches(c, job_id)

    def verdicts(self, job_id: str) -> pa.Table:
        """Return the verdicts of a job."""
        with self._reader.store.read() as c:
            return verdicts_table(c, job_id)

    def outcomes(self, job_id: str) -> pa.Table:
        """Return the outcomes of a job."""
        return answers_in_store(self._reader, job_id)
