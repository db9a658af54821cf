"""The columns of samples, and the packed form in which a fresh block is stored.

A block is about twenty rows: the ~1 kB of framing of an Arrow stream would weigh as much as its data, and
cost ten times the processor time. Compaction turns blocks into Arrow segments.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from harness_store.errors import BadSegmentError

Columns = Mapping[str, NDArray[np.generic]]

DTYPES: dict[str, np.dtype[np.generic]] = {
    "t_ns": np.dtype("<i8"),
    "half_width_ns": np.dtype("<i8"),
    "energy_j": np.dtype("<f8"),
    "power_w": np.dtype("<f8"),
    "power_avg_w": np.dtype("<f8"),
    "memory_used_bytes": np.dtype("<f8"),
    "temperature_c": np.dtype("<f4"),
    "utilisation": np.dtype("<f4"),
    "sm_clock_mhz": np.dtype("<f4"),
    "throttle_bits": np.dtype("<i8"),
    "interval_ns": np.dtype("<i8"),
}
"""Every column of a source's samples. The order is part of the packed form: append, never reorder."""

NAMES = tuple(DTYPES)
_HEADER = struct.Struct("<BHI")
_VERSION = 1


def normalise(columns: Columns) -> dict[str, NDArray[np.generic]]:
    """Return the columns in their stored types, in the fixed order, all as long as `t_ns`.

    Raises:
        BadSegmentError: an unknown column, no times, different lengths, or values that do not fit their type.
    """
    names = tuple(columns)
    in_order = _in_order(names)
    if "t_ns" not in columns or len(columns["t_ns"]) == 0:
        raise BadSegmentError("samples need at least one time in `t_ns`")
    rows = len(columns["t_ns"])
    found: dict[str, NDArray[np.generic]] = {}
    for name in in_order:
        values, dtype = columns[name], DTYPES[name]
        if len(values) != rows:
            if len(values) == 0:
                continue
            raise BadSegmentError(f"{name} has {len(values)} values for {rows} times")
        if not isinstance(values, np.ndarray) or (values.dtype is not dtype and values.dtype != dtype):
            values = np.asarray(values, dtype=dtype)
        found[name] = values
    return found


@lru_cache(maxsize=256)
def _in_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names in the fixed order; a source sends the same ones a thousand times."""
    if unknown := set(names) - set(NAMES):
        raise BadSegmentError(f"samples have no column {min(unknown)!r}; known are {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in names)


def pack(columns: Columns) -> bytes:
    """Return normalised columns as bytes: version, mask of columns, number of rows, then the values."""
    head = _HEADER.pack(_VERSION, _mask(tuple(columns)), len(columns["t_ns"]))
    return b"".join([head, *(values.tobytes() for values in columns.values())])


@lru_cache(maxsize=256)
def _mask(names: tuple[str, ...]) -> int:
    return sum(1 << NAMES.index(name) for name in names)


def unpack(payload: bytes) -> dict[str, NDArray[np.generic]]:
    """Return the columns of `pack`.

    Raises:
        BadSegmentError: the payload is cut or of another form.
    """
    if len(payload) < _HEADER.size:
        raise BadSegmentError("a stored block is cut short")
    version, mask, rows = _HEADER.unpack_from(payload)
    names = [name for i, name in enumerate(NAMES) if mask >> i & 1]
    size = _HEADER.size + rows * sum(DTYPES[name].itemsize for name in names)
    if version != _VERSION or len(payload) != size:
        raise BadSegmentError(f"a stored block of form {version} has {len(payload)} bytes instead of {size}")
    found: dict[str, NDArray[np.generic]] = {}
    at = _HEADER.size
    for name in names:
        found[name] = np.frombuffer(payload, DTYPES[name], rows, at)
        at += rows * DTYPES[name].itemsize
    return found


def concatenate(parts: Sequence[Columns]) -> dict[str, NDArray[np.generic]]:
    """Join blocks end to end; a column that some have and others lack is NaN (or 0 for whole numbers) there."""
    names = [name for name in NAMES if any(name in part for part in parts)]
    return {
        name: np.concatenate(
            [part[name] if name in part else _absent(name, len(part["t_ns"])) for part in parts]
        )
        for name in names
    }


def ordered(columns: Columns) -> dict[str, NDArray[np.generic]]:
    """Return the columns in order of time, each time once (the first of its kind wins)."""
    t_ns = columns["t_ns"]
    if len(t_ns) < 2 or bool((np.diff(t_ns) > 0).all()):
        return dict(columns)
    _, index = np.unique(t_ns, return_index=True)
    return {name: values[index] for name, values in columns.items()}


def _absent(name: str, rows: int) -> NDArray[np.generic]:
    dtype = DTYPES[name]
    return np.full(rows, np.nan if dtype.kind == "f" else 0, dtype)
