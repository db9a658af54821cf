"""Results in long form: one row per finished task of a job, as an Arrow table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, TextClause, select, text

from harness_store.errors import UnknownJobError
from harness_store.models import Job
from harness_store.sample_tables import samples_table

__all__ = ["RESULTS_SCHEMA", "result_batches", "results_table", "samples_table"]

BATCH_ROWS = 10_000

_STRING, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()


def _four(prefix: str) -> list[tuple[str, pa.DataType]]:
    return [(f"{prefix}_{statistic}", _FLOAT) for statistic in ("avg", "max", "median", "min")]


RESULTS_SCHEMA = pa.schema(
    [
        ("job", _STRING),
        ("task", _STRING),
        ("attempt", _INT),
        ("repetition", _INT),
        ("query_id", _STRING),
        ("model_id", _STRING),
        ("engine", _STRING),
        ("agent", _STRING),
        ("hardware", _STRING),
        ("device_scope", _STRING),
        ("energy_source", _STRING),
        ("joules", _FLOAT),
        ("joules_low", _FLOAT),
        ("joules_high", _FLOAT),
        ("net_joules", _FLOAT),
        ("idle_joules", _FLOAT),
        ("prefill_joules", _FLOAT),
        ("decode_joules", _FLOAT),
        ("host_joules", _FLOAT),
        ("coverage", _FLOAT),
        ("flags", _STRING),
        *_four("watts"),
        ("prompt_tokens", _INT),
        ("output_tokens", _INT),
        ("time_to_first_token_s", _FLOAT),
        ("total_s", _FLOAT),
        ("tokens_per_s", _FLOAT),
        ("ms_per_token", _FLOAT),
        ("flops", _FLOAT),
        ("macs", _FLOAT),
        *_four("gpu_memory_mb"),
        *_four("cpu_memory_mb"),
        *_four("temperature_c"),
        ("load_s", _FLOAT),
        ("correct", _BOOL),
        ("error", _STRING),
        ("response", _STRING),
        ("cost", _FLOAT),
        ("final", _BOOL),
        ("state", _STRING),
        ("run_id", _STRING),
        ("hardware_index", _INT),
        ("dataset_id", _STRING),
        ("domain", _STRING),
        ("reference", _STRING),
        ("method", _STRING),
        ("attribution", _STRING),
        ("energy_state", _STRING),
        ("energy_reason", _STRING),
        ("score", _FLOAT),
        ("cached_tokens", _INT),
        ("finish_reason", _STRING),
        ("reasoning", _STRING),
        ("start_ns", _INT),
        ("end_ns", _INT),
        ("engine_version", _STRING),
        ("precision", _STRING),
        ("parameters", _FLOAT),
        ("active_parameters", _FLOAT),
        ("thinking", _BOOL),
        ("repetition_penalty", _FLOAT),
        ("stated_joules", _FLOAT),
        ("stated_energy_source", _STRING),
        ("batch_size", _INT),
        ("gpu_memory_utilization", _FLOAT),
        ("max_model_len", _INT),
        ("max_num_batched_tokens", _INT),
        ("max_output_tokens", _INT),
        ("num_workers", _INT),
        ("sampling_temperature", _FLOAT),
        ("top_k", _INT),
        ("top_p", _FLOAT),
        ("warmup_steps", _INT),
        *_four("total_watts"),
        ("cpu_count", _INT),
        ("cpu_brand", _STRING),
        ("host_name", _STRING),
        ("os_name", _STRING),
        ("os_version", _STRING),
        ("kernel_version", _STRING),
        ("kv_cache_use_max", _FLOAT),
        ("running_requests_max", _FLOAT),
    ]
)
"""Columns of the results. `joules` is the sum over the sources of the devices the engine ran on; it is null where
one of them is not known, or where some were measured and others estimated. `tokens_per_s` and `ms_per_token` are
output tokens by the total time; `cost` is in the unit of the model's prices. `stated_joules` is a published figure that
the job file quotes for a model that could not be measured; it is never part of `joules`."""


def results_table(connection: Connection, job_id: str) -> pa.Table:
    """Return the finished tasks of a job, one row each, in the order of the job's expansion.

    A failed task has its error and no answer. Columns are those of `RESULTS_SCHEMA`.

    Raises:
        UnknownJobError: no such job.
    """
    if connection.execute(select(Job.job_id).where(Job.job_id == job_id)).first() is None:
        raise UnknownJobError(f"there is no job {job_id!r}; `harness jobs` lists them")
    return pa.Table.from_batches(list(result_batches(connection, job_id)), schema=RESULTS_SCHEMA)


def result_batches(connection: Connection, job_id: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `results_table` in pieces, for jobs that exceed memory."""
    found = connection.execute(_statement(), {"job": job_id}, execution_options={"yield_per": BATCH_ROWS})
    for rows in found.partitions(BATCH_ROWS):
        columns = list(zip(*rows, strict=True))
        arrays = [_array(field, column) for field, column in zip(RESULTS_SCHEMA, columns, strict=True)]
        yield pa.record_batch(arrays, schema=RESULTS_SCHEMA)


def tidy_flags(flags: str | None) -> str | None:
    """Return comma-separated flags sorted, each once, None where there are none."""
    found = sorted({flag for flag in (flags or "").split(",") if flag})
    return ",".join(found) or None


def _statement() -> TextClause:
    # The names are this module's own. A view keeps SQL, dashboards and Python on one definition.
    names = ", ".join(RESULTS_SCHEMA.names)
    query = f"SELECT {names} FROM result_rows WHERE job = :job ORDER BY ordinal"  # noqa: S608
    return text(query)


def _array(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    # SQLite has no booleans, and its whole numbers may stand in a column of floats.
    convert = tidy_flags if field.name == "flags" else {_BOOL: bool, _FLOAT: float, _INT: int}.get(field.type)
    if convert is not None:
        values = [None if value is None else convert(value) for value in values]
    return pa.array(values, type=field.type)
