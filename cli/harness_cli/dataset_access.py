"""Datasets through a coordinator, or in a database directly: the commands are the same for both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from harness_proto.v1 import datasets_pb2, datasets_pb2_grpc

from harness_cli.connection import CALL_TIMEOUT_S, datasets_stub
from harness_cli.failure import bad_input, unreachable

if TYPE_CHECKING:
    import pyarrow as pa
    from harness_analysis.datasets.spool import Spool
    from harness_store.database import Store
    from harness_store.datasets import DatasetRow, Imported, NewDataset

IMPORT_TIMEOUT_S = 3600.0
SEND_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Shown:
    """A dataset, and the rows of those that were made from it, by name."""

    dataset: DatasetRow
    children: dict[str, int]


class DatasetAccess(Protocol):
    """Where datasets are."""

    def listed(self) -> list[DatasetRow]:
        """Return all that have a name."""
        ...

    def shown(self, name: str) -> Shown:
        """Return one with its mapping and report."""
        ...

    def batches(self, name: str) -> Iterator[pa.RecordBatch]:
        """Yield its rows."""
        ...

    def stored(self, new: NewDataset, spool: Spool, row_count: int) -> Imported:
        """Store rows under a name, whole or not at all."""
        ...

    def dropped(self, name: str) -> DatasetRow:
        """Delete one."""
        ...


@contextlib.contextmanager
def open_datasets(
    database_url: str | None, coordinator: str, *, create: bool = False
) -> Iterator[DatasetAccess]:
    """Open the database where `--db` is given, else the coordinator.

    Raises:
        Failure: neither can be reached (exit code 3), or what was asked for is refused (2).
    """
    if not database_url:
        with datasets_stub(coordinator) as stub:
            yield _AtCoordinator(stub)
        return
    from harness_store.database import open_store
    from harness_store.errors import (
        DatasetInUseError,
        DuplicateDatasetError,
        StoreError,
        UnknownDatasetError,
    )

    try:
        store = open_store(database_url, create=create)
        try:
            yield _InStore(store)
        finally:
            store.close()
    except (UnknownDatasetError, DuplicateDatasetError, DatasetInUseError) as error:
        raise bad_input(str(error)) from None
    except StoreError as error:
        raise unreachable(str(error)) from None


def check_name(name: str) -> None:
    """Refuse a name that cannot be a dataset's, before any work is done.

    Raises:
        Failure: it is one.
    """
    from harness_store import datasets

    try:
        datasets.check_name(name)
    except ValueError as error:
        raise bad_input(str(error)) from None


class _InStore:
    def __init__(self, store: Store) -> None:
        self._store = store

    def listed(self) -> list[DatasetRow]:
        from harness_store.dataset_tables import list_datasets

        with self._store.read() as connection:
            return list_datasets(connection)

    def shown(self, name: str) -> Shown:
        from harness_store.dataset_tables import children
        from harness_store.datasets import find_dataset

        with self._store.read() as connection:
            return Shown(find_dataset(connection, name), children(connection, name))

    def batches(self, name: str) -> Iterator[pa.RecordBatch]:
        from harness_store.dataset_tables import row_batch

        row = self.shown(name).dataset
        first = 0
        while first < row.row_count:
            with self._store.read() as connection:
                batch = row_batch(connection, row.dataset_id, first=first)
            if not batch.num_rows:
                raise bad_input(f"{name!r} was dropped while it was read")
            yield batch
            first += batch.num_rows

    def stored(self, new: NewDataset, spool: Spool, row_count: int) -> Imported:
        from harness_store.dataset_tables import rows_of
        from harness_store.datasets import import_rows

        with self._store.begin() as connection:
            imported = import_rows(connection, new, rows_of(spool.batches()))
        assert imported.dataset.row_count == row_count  # noqa: S101 - both are counted from one file
        return imported

    def dropped(self, name: str) -> DatasetRow:
        from harness_store.dataset_tables import drop_dataset

        with self._store.begin() as connection:
            return drop_dataset(connection, name)


class _AtCoordinator:
    def __init__(self, stub: datasets_pb2_grpc.DatasetsStub) -> None:
        self._stub = stub

    def listed(self) -> list[DatasetRow]:
        reply = self._stub.List(datasets_pb2.ListDatasetsRequest(), timeout=CALL_TIMEOUT_S)
        return [dataset_row(message) for message in reply.datasets]

    def shown(self, name: str) -> Shown:
        detail = self._stub.Show(datasets_pb2.DatasetRequest(name=name), timeout=CALL_TIMEOUT_S)
        more = {key: getattr(detail, key) for key in ("mapping_json", "report_json") if detail.HasField(key)}
        return Shown(dataset_row(detail.summary, **more), dict(detail.children))

    def batches(self, name: str) -> Iterator[pa.RecordBatch]:
        yield from read_batches(
            self._stub.Rows(datasets_pb2.DatasetRequest(name=name), timeout=IMPORT_TIMEOUT_S)
        )

    def stored(self, new: NewDataset, spool: Spool, row_count: int) -> Imported:
        from harness_store.datasets import Imported

        about = {k: v for k, v in asdict(new).items() if v is not None}
        header = {k: about[k] for k in ("name", "origin", "licence", "parent", "mapping_json") if k in about}
        commit = datasets_pb2.DatasetCommit(row_count=row_count, report_json=new.report_json)

        def messages() -> Iterator[datasets_pb2.ImportDatasetRequest]:
            yield datasets_pb2.ImportDatasetRequest(header=datasets_pb2.DatasetHeader(**header))
            with spool.path.open("rb") as file:
                while data := file.read(SEND_BYTES):
                    yield datasets_pb2.ImportDatasetRequest(arrow_ipc=data)
            yield datasets_pb2.ImportDatasetRequest(commit=commit)

        reply = self._stub.Import(messages(), timeout=IMPORT_TIMEOUT_S)
        return Imported(dataset_row(reply.dataset), reply.is_new)

    def dropped(self, name: str) -> DatasetRow:
        return dataset_row(self._stub.Drop(datasets_pb2.DatasetRequest(name=name), timeout=IMPORT_TIMEOUT_S))


def read_batches(chunks: Any) -> Iterator[pa.RecordBatch]:
    """Yield the batches of an Arrow IPC stream that arrives in chunks."""
    import pyarrow as pa

    with pa.ipc.open_stream(pa.PythonFile(_ChunkReader(chunks), mode="r")) as reader:
        yield from reader


class _ChunkReader:
    """Chunks of a stream as a file that is read once, so that a large dataset is never whole in memory."""

    closed = False

    def __init__(self, chunks: Any) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts = [self._rest]
        have = len(self._rest)
        while size < 0 or have < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(chunk.arrow_ipc)
            have += len(chunk.arrow_ipc)
        data = b"".join(parts)
        self._rest = b"" if size < 0 else data[size:]
        return data if size < 0 else data[:size]

    def close(self) -> None:
        self.closed = True


def dataset_row(message: datasets_pb2.DatasetSummary, **more: str) -> DatasetRow:
    """Return a dataset as it travelled."""
    from harness_store.datasets import DatasetRow

    def given(name: str) -> str | None:
        return getattr(message, name) if message.HasField(name) else None

    return DatasetRow(
        dataset_id=message.dataset_id,
        name=message.name or None,
        origin=message.origin,
        content_hash=message.content_hash,
        row_count=message.row_count,
        created_realtime_ns=message.created_realtime_ns,
        licence=given("licence"),
        parent=given("parent"),
        owner=given("owner"),
        **more,
    )
