"""The form of a compacted segment: an Arrow IPC stream (zstd) of columns made small without losing a bit.

Whole numbers are stored as differences; a float column whose values are all multiples of 1, 1/1000 or 1/10^6
(what sensors deliver in bytes, milliwatts or microjoules) as differences of those multiples, if and only if
that gives back every value exactly. Everything else is stored as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness_store.errors import BadSegmentError
from harness_store.models import ARROW_ZSTD
from harness_store.sample_columns import DTYPES, NAMES

SCALES = (1.0, 1e3, 1e6)
ZSTD_LEVEL = 3

_FIRST, _SCALE = b"first", b"scale"


def encode_segment(columns: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return normalised columns as one Arrow IPC stream of one record batch."""
    fields: list[Any] = []
    arrays: list[Any] = []
    for name in NAMES:
        if name not in columns:
            continue
        values = columns[name]
        meta: dict[bytes, bytes] = {}
        whole = values if values.dtype.kind == "i" else None
        if values.dtype.kind == "f":
            scale, whole = _as_multiples(values)
            if whole is not None:
                meta[_SCALE] = repr(scale).encode()
        if whole is not None:
            meta[_FIRST] = str(int(whole[0])).encode()
            array = pa.array(_narrow(np.diff(whole, prepend=whole[0])))
        else:
            array = pa.array(values)
        fields.append(pa.field(name, array.type, metadata=meta))
        arrays.append(array)
    schema = pa.schema(fields)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", ZSTD_LEVEL))
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    return sink.getvalue().to_pybytes()


def decode_segment(codec: str, payload: bytes) -> dict[str, NDArray[np.generic]]:
    """Return the columns of `encode_segment`, bit for bit.

    Raises:
        BadSegmentError: a codec of another program version, or a payload that is no segment.
    """
    if codec != ARROW_ZSTD:
        raise BadSegmentError(f"a segment is stored as {codec!r}, which this version cannot read")
    try:
        table = pa.ipc.open_stream(payload).read_all()
    except pa.ArrowInvalid as error:
        raise BadSegmentError(f"a stored segment cannot be read: {error}") from None
    found: dict[str, NDArray[np.generic]] = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        values = column.to_numpy()
        meta = field.metadata or {}
        dtype = DTYPES[field.name]
        if _FIRST in meta:
            values = np.cumsum(values, dtype=np.int64) + int(meta[_FIRST])
            if _SCALE in meta:
                values = (values / float(meta[_SCALE])).astype(dtype)
        found[field.name] = values.astype(dtype, copy=False)
    return found


def _as_multiples(values: NDArray[np.generic]) -> tuple[float, NDArray[np.int64] | None]:
    exact = values.astype(np.float64)
    if not np.isfinite(exact).all() or np.abs(exact).max(initial=0.0) > 2.0**52 / SCALES[-1]:
        return 0.0, None
    bits = values.view(f"<i{values.itemsize}")
    for scale in SCALES:
        whole = np.rint(exact * scale).astype(np.int64)
        back = (whole / scale).astype(values.dtype)
        # Compared as bits: -0.0 is not 0.0 here.
        if np.array_equal(back.view(bits.dtype), bits):
            return scale, whole
    return 0.0, None


def _narrow(values: NDArray[np.int64]) -> NDArray[np.signedinteger[Any]]:
    """Return whole numbers in the smallest type that holds them all."""
    low, high = int(values.min()), int(values.max())
    for dtype in (np.int8, np.int16, np.int32):
        info = np.iinfo(dtype)
        if info.min <= low and high <= info.max:
            return values.astype(dtype)
    return values
