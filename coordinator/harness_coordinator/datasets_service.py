"""The Datasets service: imports that are stored whole or not at all, lists, rows, and what may be dropped."""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import IO, Any, TypeVar

import grpc
import pyarrow as pa
from harness_proto.v1 import datasets_pb2, datasets_pb2_grpc, jobs_pb2
from harness_store import dataset_tables, datasets
from harness_store.database import Store
from harness_store.errors import DatasetInUseError, DuplicateDatasetError, NotOwnerError, UnknownDatasetError

from harness_coordinator.roles import Gate
from harness_coordinator.write_queue import WriteQueue

MAX_IMPORT_BYTES = 32 << 30
"""Of one import on its way: a million conversations are 2 to 5 GB, and the coordinator's disk is not endless."""

CHUNK_BYTES = 1 << 20
T = TypeVar("T")

_CODES = {
    UnknownDatasetError: grpc.StatusCode.NOT_FOUND,
    NotOwnerError: grpc.StatusCode.PERMISSION_DENIED,
    DatasetInUseError: grpc.StatusCode.FAILED_PRECONDITION,
    DuplicateDatasetError: grpc.StatusCode.INVALID_ARGUMENT,
    ValueError: grpc.StatusCode.INVALID_ARGUMENT,
    pa.ArrowException: grpc.StatusCode.INVALID_ARGUMENT,
}


class DatasetsService(datasets_pb2_grpc.DatasetsServicer):
    """Answers `harness dataset` and other programs."""

    def __init__(self, *, store: Store, writes: WriteQueue, gate: Gate) -> None:
        self._store = store
        self._writes = writes
        self._gate = gate

    async def Import(  # noqa: N802 - the name is the wire's
        self,
        request_iterator: AsyncIterator[datasets_pb2.ImportDatasetRequest],
        context: grpc.aio.ServicerContext,
    ) -> datasets_pb2.ImportDatasetReply:
        """Take rows to a temporary file and store them in one transaction when the last message says so."""
        caller = await self._gate.caller(context)
        header: datasets_pb2.DatasetHeader | None = None
        commit: datasets_pb2.DatasetCommit | None = None
        with tempfile.TemporaryFile(prefix="harness-import-") as spool:
            async for request in request_iterator:
                part = request.WhichOneof("part")
                if part == "header":
                    header = request.header
                    try:
                        datasets.check_name(header.name)
                    except ValueError as error:
                        return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
                elif part == "arrow_ipc":
                    if spool.tell() + len(request.arrow_ipc) > MAX_IMPORT_BYTES:
                        return await context.abort(
                            grpc.StatusCode.RESOURCE_EXHAUSTED,
                            f"an import has at most {MAX_IMPORT_BYTES >> 30} GiB; import it in parts",
                        )
                    spool.write(request.arrow_ipc)
                elif part == "commit":
                    commit = request.commit
                    break
            if header is None or commit is None:
                return await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "an import begins with what it is and ends with a commit; nothing was stored",
                )
            spool.flush()
            new = _new_dataset(header, commit, caller.subject if caller is not None else None)
            rows = commit.row_count
            imported = await self._refusing(context, self._write(lambda c: _import(c, new, spool, rows)))
        return datasets_pb2.ImportDatasetReply(dataset=summary(imported.dataset), is_new=imported.is_new)

    async def List(  # noqa: N802
        self, request: datasets_pb2.ListDatasetsRequest, context: grpc.aio.ServicerContext
    ) -> datasets_pb2.ListDatasetsReply:
        """Return the datasets that have a name."""
        rows = await self._refusing(context, self._read(dataset_tables.list_datasets))
        return datasets_pb2.ListDatasetsReply(datasets=[summary(row) for row in rows])

    async def Show(  # noqa: N802
        self, request: datasets_pb2.DatasetRequest, context: grpc.aio.ServicerContext
    ) -> datasets_pb2.DatasetDetail:
        """Return a dataset with its mapping and report."""

        def read(connection: Any) -> datasets_pb2.DatasetDetail:
            row = _asked(connection, request)
            return datasets_pb2.DatasetDetail(
                summary=summary(row),
                mapping_json=row.mapping_json,
                report_json=row.report_json,
                children=dataset_tables.children(connection, row.name) if row.name else {},
            )

        return await self._refusing(context, self._read(read))

    async def Rows(  # noqa: N802
        self, request: datasets_pb2.DatasetRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[jobs_pb2.TableChunk]:
        """Yield a dataset's rows as one Arrow IPC stream; each batch is read by itself, so no transaction lasts."""
        row = await self._refusing(context, self._read(lambda c: _asked(c, request)))
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, dataset_tables.ROWS_SCHEMA) as writer:
            first = 0
            while first < row.row_count:

                def read(connection: Any, first: int = first) -> pa.RecordBatch:
                    return dataset_tables.row_batch(connection, row.dataset_id, first=first)

                batch = await self._refusing(context, self._read(read))
                if not batch.num_rows:
                    await context.abort(
                        grpc.StatusCode.ABORTED, f"{row.name!r} was dropped while it was read"
                    )
                writer.write_batch(batch)
                first += batch.num_rows
                for chunk in _taken(sink):
                    yield chunk
        for chunk in _taken(sink):
            yield chunk

    async def Drop(  # noqa: N802
        self, request: datasets_pb2.DatasetRequest, context: grpc.aio.ServicerContext
    ) -> datasets_pb2.DatasetSummary:
        """Delete a dataset that no job's results need and that the caller imported."""
        caller = await self._gate.caller(context)
        by = caller.subject if caller is not None else None
        drop = self._write(lambda c: dataset_tables.drop_dataset(c, request.name, by=by))
        return summary(await self._refusing(context, drop))

    async def _refusing(self, context: grpc.aio.ServicerContext, work: Awaitable[T]) -> T:
        """Await work; what the store refuses ends the call with its sentence."""
        try:
            return await work
        except tuple(_CODES) as error:
            code = next(code for kind, code in _CODES.items() if isinstance(error, kind))
            await context.abort(code, str(error))
            raise

    async def _read(self, read: Callable[[Any], T]) -> T:
        """Read on another thread, so that a long query never holds up the agents."""

        def run() -> T:
            with self._store.read() as connection:
                return read(connection)

        return await asyncio.to_thread(run)

    async def _write(self, write: Callable[[Any], T]) -> T:
        """Write in one transaction.

        PostgreSQL takes several writers, so a long import holds nobody up there; SQLite takes one, which is the queue.
        """
        if self._store.dialect != "postgresql":
            return await self._writes.run(write)

        def run() -> T:
            with self._store.begin() as connection:
                return write(connection)

        return await asyncio.to_thread(run)


def summary(row: datasets.DatasetRow) -> datasets_pb2.DatasetSummary:
    """Return a dataset as it travels."""
    return datasets_pb2.DatasetSummary(
        name=row.name or "",
        origin=row.origin,
        content_hash=row.content_hash,
        row_count=row.row_count,
        created_realtime_ns=row.created_realtime_ns,
        licence=row.licence,
        parent=row.parent,
        owner=row.owner,
        dataset_id=row.dataset_id,
    )


def _asked(connection: Any, request: datasets_pb2.DatasetRequest) -> datasets.DatasetRow:
    """Return the dataset of a request, by its id where one is given."""
    if request.dataset_id:
        return datasets.dataset_of_id(connection, request.dataset_id)
    return datasets.find_dataset(connection, request.name)


def _new_dataset(
    header: datasets_pb2.DatasetHeader, commit: datasets_pb2.DatasetCommit, owner: str | None
) -> datasets.NewDataset:
    def given(message: Any, name: str) -> str | None:
        return getattr(message, name) if message.HasField(name) else None

    return datasets.NewDataset(
        name=header.name,
        origin=header.origin,
        now_ns=time.time_ns(),
        licence=given(header, "licence"),
        parent=given(header, "parent"),
        owner=owner,
        mapping_json=given(header, "mapping_json"),
        report_json=given(commit, "report_json"),
    )


def _import(connection: Any, new: datasets.NewDataset, spool: IO[bytes], row_count: int) -> datasets.Imported:
    spool.seek(0)  # the write queue runs an operation again when another one of its group failed
    with pa.ipc.open_stream(spool) as reader:
        imported = datasets.import_rows(connection, new, dataset_tables.rows_of(iter(reader)))
    if imported.dataset.row_count != row_count:
        raise ValueError(f"{imported.dataset.row_count} of {row_count} rows arrived; nothing was stored")
    return imported


def _taken(sink: io.BytesIO) -> list[jobs_pb2.TableChunk]:
    """Return what was written to a buffer as chunks, and empty it."""
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return [
        jobs_pb2.TableChunk(arrow_ipc=data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)
    ]
