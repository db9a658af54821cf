"""A coordinator as the source of a benchmark: the tables of whole jobs travel, the folder is written here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc
from harness_analysis.errors import PublishingError
from harness_analysis.publishing.source import FinishedJob
from harness_proto.v1 import datasets_pb2, jobs_pb2

from harness_cli.connection import CALL_TIMEOUT_S, datasets_stub, jobs_stub, verdicts_stub
from harness_cli.dataset_access import IMPORT_TIMEOUT_S, dataset_row, read_batches

if TYPE_CHECKING:
    import pyarrow as pa
    from harness_store.datasets import DatasetRow

TABLE_TIMEOUT_S = 600.0


@contextlib.contextmanager
def coordinator_source(coordinator: str) -> Iterator[CoordinatorSource]:
    """Open a coordinator as a source.

    Raises:
        Failure: it cannot be reached, or does not admit the caller.
    """
    with (
        datasets_stub(coordinator) as datasets,
        jobs_stub(coordinator) as jobs,
        verdicts_stub(coordinator) as v,
    ):
        yield CoordinatorSource(datasets, jobs, v)


class CoordinatorSource:
    """A `harness_analysis.publishing.source.BenchmarkSource`."""

    def __init__(self, datasets: Any, jobs: Any, verdicts: Any) -> None:
        self._datasets, self._jobs, self._verdicts = datasets, jobs, verdicts
        self._job_json: dict[str, str] = {}
        self._results: dict[str, pa.Table] = {}
        self._queries: dict[str, pa.Table] = {}

    def dataset(self, name: str) -> DatasetRow:
        """Return the dataset of a name."""
        return self._shown(datasets_pb2.DatasetRequest(name=name))

    def dataset_of_id(self, dataset_id: str) -> DatasetRow:
        """Return a dataset by its id."""
        return self._shown(datasets_pb2.DatasetRequest(dataset_id=dataset_id))

    def rows(self, dataset: DatasetRow) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a dataset."""
        request = datasets_pb2.DatasetRequest(dataset_id=dataset.dataset_id)
        yield from read_batches(self._datasets.Rows(request, timeout=IMPORT_TIMEOUT_S))

    def job(self, job_id: str) -> FinishedJob:
        """Return a job; what its queries are called, only its results know."""
        request = jobs_pb2.JobRequest(job_id=job_id)
        with _plainly():
            detail = self._jobs.GetJob(request, timeout=CALL_TIMEOUT_S)
            official = self._verdicts.Describe(request, timeout=CALL_TIMEOUT_S).official
        self._job_json[job_id] = detail.job_json
        found = set(self._result_table(job_id).column("dataset_id").to_pylist())
        over = detail.summary.state in {"done", "failed", "cancelled"}
        if over and len(found) != 1:
            raise PublishingError(f"job {job_id} has no finished task; leave it out")
        energy = json.loads(detail.job_json).get("energy") or ""
        dataset_id = found.pop() if found else ""
        return FinishedJob(job_id, detail.summary.name, detail.summary.state, energy, official, dataset_id)

    def results(self, job_id: str) -> list[pa.RecordBatch]:
        """Return the results of a job."""
        return self._result_table(job_id).to_batches()

    def verdicts(self, job_id: str) -> pa.Table:
        """Return the verdicts of a job."""
        return _table(self._verdicts.List(jobs_pb2.JobRequest(job_id=job_id), timeout=TABLE_TIMEOUT_S))

    def outcomes(self, job_id: str) -> pa.Table:
        """Return the outcomes of a job, made here of its results and queries."""
        import pyarrow as pa
        from harness_analysis.outcomes.from_results import answers_of_results, models_of_job

        results = self._result_table(job_id)
        dataset_id = results.column("dataset_id")[0].as_py()
        if dataset_id not in self._queries:
            row = self.dataset_of_id(dataset_id)
            self._queries[dataset_id] = pa.Table.from_batches(list(self.rows(row)))
        return answers_of_results(results, self._queries[dataset_id], models_of_job(self._job_json[job_id]))

    def _shown(self, request: datasets_pb2.DatasetRequest) -> DatasetRow:
        with _plainly():
            detail = self._datasets.Show(request, timeout=CALL_TIMEOUT_S)
        if not detail.summary.dataset_id:
            raise PublishingError(
                "the coordinator is older and does not tell datasets by their ids; upgrade it, or give --db URL there"
            )
        more = {key: getattr(detail, key) for key in ("mapping_json", "report_json") if detail.HasField(key)}
        return dataset_row(detail.summary, **more)

    def _result_table(self, job_id: str) -> pa.Table:
        if job_id not in self._results:
            self._results[job_id] = _table(
                self._jobs.Results(jobs_pb2.TableRequest(job_id=job_id), timeout=TABLE_TIMEOUT_S)
            )
        return self._results[job_id]


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    """Turn what the coordinator does not know into what a store says of it."""
    try:
        yield
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.NOT_FOUND:
            raise PublishingError(error.details() or "it is not there") from None
        raise


def _table(chunks: Any) -> pa.Table:
    import pyarrow as pa

    return pa.ipc.open_stream(b"".join(chunk.arrow_ipc for chunk in chunks)).read_all()
