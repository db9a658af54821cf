"""Readings of one source gathered into columns: what the sampler hands on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

import numpy as np
from harness_backends.telemetry.source import Reading
from numpy.typing import NDArray

INTEGER_COLUMNS = ("t_ns", "half_width_ns", "throttle_bits", "interval_ns")
COLUMNS = tuple(field.name for field in fields(Reading))
_FLOAT_COLUMNS = tuple(name for name in COLUMNS if name not in INTEGER_COLUMNS)
_OPTIONAL_INTEGER_COLUMNS = ("throttle_bits", "interval_ns")
_ROW = attrgetter(*_FLOAT_COLUMNS)


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """Polls of one source in time order; `columns` are the fields of `Reading`, all of one length.

    `t_ns` and `half_width_ns` are always there. A float column that is NaN throughout and an integer column
    (`throttle_bits`, `interval_ns`) that is zero throughout are left out.
    """

    source_id: str
    columns: dict[str, NDArray[np.int64] | NDArray[np.float64]]

    def __len__(self) -> int:
        """Return the number of polls."""
        return len(self.columns["t_ns"])


def to_block(source_id: str, readings: Sequence[Reading]) -> SampleBlock:
    """Turn readings into columns.

    Args:
        source_id: the source that was read.
        readings: at least one reading, in time order.
    """
    columns: dict[str, NDArray[np.int64] | NDArray[np.float64]] = {
        "t_ns": np.array([reading.t_ns for reading in readings], np.int64),
        "half_width_ns": np.array([reading.half_width_ns for reading in readings], np.int64),
    }
    floats = np.array([_ROW(reading) for reading in readings], np.float64)
    for index, name in enumerate(_FLOAT_COLUMNS):
        values = np.ascontiguousarray(floats[:, index])
        if not np.isnan(values).all():
            columns[name] = values
    for name in _OPTIONAL_INTEGER_COLUMNS:
        numbers = np.array([getattr(reading, name) for reading in readings], np.int64)
        if numbers.any():
            columns[name] = numbers
    return SampleBlock(source_id, columns)
