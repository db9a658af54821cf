"""Rows on disk between two steps: written as they come, read as often as needed, mapped instead of loaded."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import pyarrow as pa
from harness_store.dataset_tables import ROWS_SCHEMA

PREFIX = "harness-dataset-"
LOCK = "in-use"
ABANDONED_S = 3600.0
"""Age from which on a folder that nobody holds is taken for one of a process that was killed."""


class Spool:
    """An Arrow stream in a temporary file that is gone when the `with` block is left.

    What a killed process left behind, a million conversations perhaps, is removed by the next one.
    """

    def __init__(self) -> None:
        remove_abandoned(Path(tempfile.gettempdir()))
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX)
        self._path = Path(self._folder.name) / "rows.arrow"
        # A lock and no process id: containers may share a folder and not their processes.
        self._lock = (Path(self._folder.name) / LOCK).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()
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


def remove_abandoned(folder: Path) -> None:
    """Remove spools that nobody holds; those of other users stay."""
    for lock in folder.glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError):
            if time.time() - lock.stat().st_mtime < ABANDONED_S:
                continue
            with lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
