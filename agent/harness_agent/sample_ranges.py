"""Sample batches of the spool joined for the wire: many batches of many sources in one message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from harness_proto.v1 import telemetry_pb2

SAMPLE_RANGES = "sample_ranges"
"""The feature that a coordinator's welcome names."""
MOST_BATCHES = 64
"""Batches joined in one range: a minute of one source."""
_DTYPES = {
    "t_ns": "<i8", "half_width_ns": "<u4", "energy_j": "<f8", "power_w": "<f8", "power_avg_w": "<f8",
    "memory_used_bytes": "<f8", "temperature_c": "<f4", "utilisation": "<f4", "sm_clock_mhz": "<f4",
    "throttle_bits": "<u4", "interval_ns": "<i8",
}  # fmt: skip


def join_batches(agent_id: str, payloads: Iterable[bytes]) -> bytes:
    """Return one message that holds these batches.

    Args:
        agent_id: whose they are.
        payloads: `SampleBatch` messages as the spool holds them, those of one source in their order.
    """
    joined = telemetry_pb2.SampleBatch(agent_id=agent_id)
    waiting: dict[tuple[str, str], list[telemetry_pb2.SampleBatch]] = {}
    for payload in payloads:
        batch = telemetry_pb2.SampleBatch.FromString(payload)
        key = (batch.boot_id, batch.source_id)
        together = waiting.setdefault(key, [])
        if together and not _follows(together, batch):
            joined.ranges.append(_range(together))
            waiting[key] = together = []
        together.append(batch)
    joined.ranges.extend(_range(together) for together in waiting.values())
    return joined.SerializeToString()


def _follows(together: Sequence[telemetry_pb2.SampleBatch], batch: telemetry_pb2.SampleBatch) -> bool:
    last = together[-1]
    return len(together) < MOST_BATCHES and batch.seq == last.seq + 1 and batch.clock_id == last.clock_id


def _range(batches: Sequence[telemetry_pb2.SampleBatch]) -> telemetry_pb2.SampleRange:
    first = batches[0]
    rows = [len(batch.t_ns) for batch in batches]
    found = telemetry_pb2.SampleRange(
        boot_id=first.boot_id,
        source_id=first.source_id,
        seq_first=first.seq,
        clock_id=first.clock_id,
        rows=rows,
    )
    for name, dtype in _DTYPES.items():
        columns = [getattr(batch, name) for batch in batches]
        if not any(columns):
            continue
        absent = np.nan if dtype[1] == "f" else 0
        parts = [
            np.array(column, dtype) if column else np.full(n, absent, dtype)
            for column, n in zip(columns, rows, strict=True)
        ]
        setattr(found, name, np.concatenate(parts).tobytes())
    return found
