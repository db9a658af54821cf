"""Files become rows of a dataset: read, mapped, checked and counted, some thousand at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from harness_store.dataset_tables import as_batch
from harness_store.datasets import QueryRow

from harness_analysis.datasets.choices import RowError
from harness_analysis.datasets.hub import DEFAULT_SPLIT, read_hub
from harness_analysis.datasets.mapped_row import map_records
from harness_analysis.datasets.mapping import Mapping
from harness_analysis.datasets.records import Record, read_records
from harness_analysis.errors import DatasetError

BATCH_ROWS = 2_000
MAX_LISTED = 20
"""Skipped rows that the report shows; it counts all of them."""

HUB_PREFIX = "hub:"

OnError = Literal["stop", "skip"]


@dataclass
class ImportReport:
    """What an import read and left out."""

    sources: list[str] = field(default_factory=list)
    rows_read: int = 0
    rows_imported: int = 0
    rows_skipped: int = 0
    without_reference: int = 0
    skipped: list[str] = field(default_factory=list)
    """The first ones, with file, line and column."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as it is stored."""
        return {"kind": "import", **self.__dict__}


def import_batches(
    sources: Iterable[str],
    mapping: Mapping,
    report: ImportReport,
    *,
    on_error: OnError = "stop",
    require_reference: bool = False,
    limit: int | None = None,
    hub_split: str = DEFAULT_SPLIT,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of files or hub sets as batches of `harness_store.dataset_tables.ROWS_SCHEMA`.

    Args:
        sources: paths, and `hub:owner/name` for sets of the hub; all with the same mapping.
        mapping: which columns hold what.
        report: counts are added to it.
        on_error: `stop` at the first row that cannot be used, or `skip` it; a file that cannot be read always stops.
        require_reference: whether a row without a reference cannot be used.
        limit: rows to import at most.
        hub_split: part of a hub set.
        progress: called with the number of rows read since it was last called.

    Raises:
        DatasetError: a file, or with `stop` a row, that cannot be used, or no row at all.
        HubError: the hub cannot be reached.
    """
    rows: list[QueryRow] = []
    seen: dict[str, str] = {}
    sources = list(sources)
    for source in sources:
        report.sources.append(source)
        origin = origin_of(source)
        for record in _records(source, mapping, hub_split):
            if limit is not None and report.rows_imported >= limit:
                break
            report.rows_read += 1
            place = record.place if len(sources) == 1 else f"{source} {record.place}"
            try:
                found = _checked(record, mapping, report.rows_imported + 1, origin, require_reference)
                for row in found:
                    where = seen.get(row.query_id)
                    if where is not None:
                        raise RowError(mapping.id or "id", f"{row.query_id!r} is also at {where}")
            except RowError as error:
                _skip(report, f"{source} {record.place}: {error}", on_error)
                continue
            for row in found if limit is None else found[: limit - report.rows_imported]:
                seen[row.query_id] = place
                report.rows_imported += 1
                report.without_reference += row.reference is None
                rows.append(row)
            if len(rows) >= BATCH_ROWS:
                yield as_batch(rows)
                progress(len(rows))
                rows = []
    if rows:
        yield as_batch(rows)
        progress(len(rows))
    if not report.rows_imported:
        what = ", there is no row in it"
        if report.rows_skipped:
            what = f": all {report.rows_skipped} rows were skipped, the first: {report.skipped[0]}"
        raise DatasetError(f"{', '.join(report.sources)}: nothing to import{what}")


def origin_of(source: str) -> str:
    """Return the name of the set that a source is taken for: the file's name, or the hub's."""
    if source.startswith(HUB_PREFIX):
        return source.removeprefix(HUB_PREFIX)
    return Path(source).stem


def _records(source: str, mapping: Mapping, hub_split: str) -> Iterator[Record]:
    if source.startswith(HUB_PREFIX):
        return read_hub(source.removeprefix(HUB_PREFIX), hub_split)
    columns = list(dict.fromkeys(mapping.columns()))
    # A path into a column may also be the name of a column itself; only first parts can be checked beforehand.
    needed = [c for c in columns if "." not in c and c not in mapping.optional]
    needed += [c.partition(".")[0] for c in columns if "." in c and c not in mapping.optional]
    keep = None if mapping.keep is None else [*mapping.keep, *mapping.optional, *columns]
    return read_records(Path(source), needed, keep=keep)


def _checked(
    record: Record, mapping: Mapping, number: int, origin: str, require_reference: bool
) -> list[QueryRow]:
    if record.error:
        raise _LineError(record.error)
    rows = map_records(mapping, record.fields, number=number, origin=origin)
    if require_reference and any(row.reference is None for row in rows):
        raise RowError(mapping.reference or "reference", "is empty")
    return rows


class _LineError(RowError):
    """A line that is no record: no column is to blame."""

    def __init__(self, what: str) -> None:
        super().__init__("", what)
        self.args = (what,)


def _skip(report: ImportReport, what: str, on_error: OnError) -> None:
    if on_error == "stop":
        raise DatasetError(f"{what} (--on-error skip leaves such rows out and counts them)")
    report.rows_skipped += 1
    if len(report.skipped) < MAX_LISTED:
        report.skipped.append(what)
