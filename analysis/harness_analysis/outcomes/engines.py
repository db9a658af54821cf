"""Engines that hold outcomes while they are analysed: DuckDB by default, PostgreSQL or Spark by their URLs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from harness_analysis.errors import OutcomesError

DEFAULT_ENGINE = "duckdb://"
TABLE = "harness_outcomes"
READS_PARQUET = ("duckdb:", "pyspark:")
"""Engines that scan a Parquet file where it lies; to the others its rows are sent."""


def connect_engine(url: str) -> Any:
    """Return an Ibis connection.

    Args:
        url: for `ibis.connect`: `duckdb://` (in memory), `duckdb://FILE`, `postgres://...`, `pyspark://`.

    Raises:
        OutcomesError: an engine that is not known, not installed or does not answer.
    """
    import ibis

    if url.startswith(("postgresql:", "postgresql+")):
        url = "postgres:" + url.partition(":")[2]
    try:
        return ibis.connect(url)
    except ImportError as error:
        raise OutcomesError(f"engine {url}: needs the package {error.name or error}") from None
    except Exception as error:  # noqa: BLE001 - every engine has errors of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise OutcomesError(f"engine {url}: cannot be used: {reason}") from None


def send_rows(connection: Any, rows: pa.Table) -> Any:
    """Bring rows to an engine and return them as an Ibis table that lives as long as the connection."""
    import ibis

    # A column of which nothing is known has no type that an engine could store.
    rows = rows.select([f.name for f in rows.schema if not pa.types.is_null(f.type)])
    if connection.name == "pyspark":  # it has no temporary tables, but views of rows in memory
        return connection.create_view(TABLE, ibis.memtable(rows), overwrite=True)
    return connection.create_table(TABLE, rows, temp=True, overwrite=True)


def known_number(value: Any, backend: str) -> Any:
    """Return a column of numbers with null in the place of NaN and the infinities.

    Args:
        value: an Ibis column of floating-point numbers.
        backend: name of the engine it is on.
    """
    import ibis

    absent: Any = value.isnan() | value.isinf()
    if backend == "duckdb":
        # It takes a Parquet file's statistics, which leave NaN out, as proof that isnan() is false; isfinite() it asks.
        absent = ~_isfinite()(value)
    return ibis.ifelse(absent, ibis.null("float64"), value)


def _isfinite() -> Any:
    import ibis

    @ibis.udf.scalar.builtin(name="isfinite", signature=(("float64",), "boolean"))
    def isfinite(value): ...

    return isfinite
