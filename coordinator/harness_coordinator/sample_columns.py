"""Sample batches of the wire as numpy columns."""

from __future__ import annotations

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


class MalformedBatchError(ValueError):
    """A batch whose columns do not fit together; the message says which."""


def columns_of(batch: telemetry_pb2.SampleBatch) -> dict[str, NDArray[np.generic]]:
    """Return the columns that the batch carries, all as long as `t_ns`.

    Raises:
        MalformedBatchError: no samples, columns of different lengths, or no name.
    """
    if not batch.source_id or not batch.boot_id or batch.seq == 0:
        raise MalformedBatchError("a sample batch needs a boot, a source and a sequence number from 1")
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
