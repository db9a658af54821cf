"""Sample batches of the wire as numpy columns."""

from __future__ import annotations

from operator import attrgetter

import numpy as np
from harness_proto.v1 import telemetry_pb2
from numpy.typing import NDArray

_COLUMNS: tuple[tuple[str, type[np.generic]], ...] = (
    ("half_width_ns", np.int64),
    ("energy_j", np.float64),
    ("power_w", np.float64),
    ("power_avg_w", np.float64),
    ("memory_used_bytes", np.float64),
    ("temperature_c", np.float32),
    ("utilisation", np.float32),
    ("sm_clock_mhz", np.float32),
    ("throttle_bits", np.int64),
    ("interval_ns", np.int64),
)


_RANGE_COLUMNS: tuple[tuple[str, np.dtype[np.generic]], ...] = tuple(
    (name, np.dtype(kind))
    for name, kind in (
        ("t_ns", "<i8"),
        ("half_width_ns", "<u4"),
        ("energy_j", "<f8"),
        ("power_w", "<f8"),
        ("power_avg_w", "<f8"),
        ("memory_used_bytes", "<f8"),
        ("temperature_c", "<f4"),
        ("utilisation", "<f4"),
        ("sm_clock_mhz", "<f4"),
        ("throttle_bits", "<u4"),
        ("interval_ns", "<i8"),
    )
)
_raw_columns = attrgetter(*(name for name, _ in _RANGE_COLUMNS))
LARGEST_SEQ = 2**63 - 1
"""What SQL's integers hold."""


class MalformedBatchError(ValueError):
    """A batch whose columns do not fit together; the message says which."""


def columns_of(batch: telemetry_pb2.SampleBatch) -> dict[str, NDArray[np.generic]]:
    """Return the columns that the batch carries, all as long as `t_ns`.

    Raises:
        MalformedBatchError: no samples, columns of different lengths, or no name.
    """
    _check_name(batch.boot_id, batch.source_id, batch.seq)
    t_ns = np.array(batch.t_ns, dtype=np.int64)
    if t_ns.size == 0:
        raise MalformedBatchError(f"batch {batch.seq} of {batch.source_id} holds no samples")
    columns: dict[str, NDArray[np.generic]] = {"t_ns": t_ns}
    for name, dtype in _COLUMNS:
        values = getattr(batch, name)
        if not values:
            continue
        if len(values) != t_ns.size:
            raise MalformedBatchError(
                f"batch {batch.seq} of {batch.source_id}: {name} has {len(values)} values for {t_ns.size} times"
            )
        columns[name] = np.array(values, dtype=dtype)
    return columns


def columns_of_range(found: telemetry_pb2.SampleRange) -> dict[str, NDArray[np.generic]]:
    """Return the columns that the range carries, all as long as `t_ns`; nothing is copied.

    Raises:
        MalformedBatchError: no samples, batches without samples, columns of different lengths, or no name.
    """
    rows = list(found.rows)
    total = sum(rows)
    if not rows or 0 in rows:
        raise MalformedBatchError(f"batches from {found.seq_first} of {found.source_id} hold no samples")
    _check_name(found.boot_id, found.source_id, found.seq_first, len(rows))
    columns: dict[str, NDArray[np.generic]] = {}
    for (name, dtype), raw in zip(_RANGE_COLUMNS, _raw_columns(found), strict=True):
        if raw or name == "t_ns":
            columns[name] = _array(found, name, raw, dtype, total)
    return columns


def _array(
    found: telemetry_pb2.SampleRange, name: str, raw: bytes, dtype: np.dtype[np.generic], rows: int
) -> NDArray[np.generic]:
    if len(raw) != rows * dtype.itemsize:
        raise MalformedBatchError(
            f"batches from {found.seq_first} of {found.source_id}: {name} has {len(raw)} bytes for {rows} times"
        )
    return np.frombuffer(raw, dtype)


def _check_name(boot_id: str, source_id: str, seq: int, batches: int = 1) -> None:
    if not source_id or not boot_id or not 0 < seq <= LARGEST_SEQ - batches:
        raise MalformedBatchError("a sample batch needs a boot, a source and a sequence number from 1")
