"""Arrow tables from a database or from a coordinator, printed or written to a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness_cli.connection import CALL_TIMEOUT_S, jobs_stub
from harness_cli.failure import bad_input, unreachable
from harness_cli.output import print_rows, to_csv

if TYPE_CHECKING:
    import pyarrow as pa
    from harness_analysis.reader import StoreReader
    from harness_proto.v1 import jobs_pb2_grpc

FILE_KINDS = (".csv", ".json", ".parquet")


def fetch_table(
    *,
    database_url: str | None,
    coordinator: str,
    read: Callable[[StoreReader], pa.Table],
    ask: Callable[[jobs_pb2_grpc.JobsStub], Iterable[Any]],
) -> pa.Table:
    """Read a table directly where `--db` is given, else ask the coordinator for it."""
    if database_url:
        from harness_analysis import connect
        from harness_store.errors import StoreError, UnknownJobError

        try:
            return read(connect(database_url))
        except UnknownJobError as error:
            raise bad_input(str(error)) from None
        except StoreError as error:
            raise unreachable(str(error)) from None
    import pyarrow as pa

    with jobs_stub(coordinator) as stub:
        data = b"".join(chunk.arrow_ipc for chunk in ask(stub))
    return pa.ipc.open_stream(data).read_all()


def deliver_table(
    table: pa.Table,
    output: Path | None,
    output_format: str,
    columns: Sequence[str],
    *,
    empty: str,
    labels: Mapping[str, str] | None = None,
) -> None:
    """Write a table to `output`, or print it."""
    if output is not None:
        write_table(table, output)
        click.echo(f"{table.num_rows} rows written to {output}", err=True)
        return
    print_rows(
        table.to_pylist(),
        output_format,
        columns=[c for c in columns if c in table.column_names],
        labels=labels,
        empty=empty,
        fold=True,
    )


def check_output(output: Path | None) -> None:
    """Refuse an output file whose kind is not known, or that has no folder to lie in, before any work is done."""
    if output is None:
        return
    if output.suffix.lower() not in FILE_KINDS:
        raise bad_input(f"-o {output}: the file name must end in {', '.join(FILE_KINDS)}")
    if not output.absolute().parent.is_dir():
        raise bad_input(f"-o {output}: there is no folder {output.parent}")


def write_table(table: pa.Table, output: Path) -> None:
    """Write a table as .csv, .json or .parquet, by the file's ending; the file appears whole or not at all."""
    partial = output.with_name(output.name + ".partial")
    try:
        if output.suffix.lower() == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(table, partial)
        elif output.suffix.lower() == ".csv":
            partial.write_text(to_csv(table.to_pylist(), table.column_names), encoding="utf-8")
        else:
            partial.write_text(json.dumps(table.to_pylist(), indent=2, default=str), encoding="utf-8")
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise bad_input(f"{output}: cannot be written: {error.strerror}") from None


__all__ = ["CALL_TIMEOUT_S", "check_output", "deliver_table", "fetch_table", "write_table"]
