"""Arrival times of output chunks as a small blob: zlib over little-endian int64 differences."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def encode_times(t_ns: Sequence[int] | ArrayLike) -> bytes | None:
    """Return times (ns) as bytes, None for no times."""
    times = np.asarray(t_ns, dtype="<i8") if len(t_ns) else None  # type: ignore[arg-type]
    if times is None:
        return None
    steps = times.copy()
    steps[1:] -= times[:-1]
    return zlib.compress(steps.tobytes(), level=6)


def decode_times(blob: bytes | None) -> NDArray[np.int64]:
    """Return the times (ns) of `encode_times`, empty for None."""
    if blob is None:
        return np.zeros(0, np.int64)
    return np.cumsum(np.frombuffer(zlib.decompress(blob), dtype="<i8"), dtype=np.int64)
