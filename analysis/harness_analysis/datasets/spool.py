"""Rows on disk between two steps: written as they come, read as often as needed, mapped instead of loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import pyarrow as pa
from harness_store.dataset_tables import ROWS_SCHEMA


class Spool:
    """An Arrow stream in a temporary file that is gone when the `with` block is left."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="harness-dataset-")
        self._path = Path(self._folder.name) / "rows.arrow"

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def write(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Write batches in place of what was there; return how many rows they had."""
        rows = 0
        with pa.OSFile(str(self._path), "wb") as sink, pa.ipc.new_stream(sink, ROWS_SCHEMA) as writer:
            for batch in batches:
                writer.write_batch(batch)
                rows += batch.num_rows
        return rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield what was written, read from the file."""
        with pa.OSFile(str(self._path), "rb") as source, pa.ipc.open_stream(source) as reader:
            yield from reader

    def table(self) -> pa.Table:
        """Return what was written; its columns lie in the file until they are looked at."""
        with pa.memory_map(str(self._path)) as source:
            return pa.ipc.open_stream(source).read_all()
