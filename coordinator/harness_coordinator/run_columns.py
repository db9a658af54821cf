"""What the store holds of a run, as the columns that the energy code takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from harness_store import generations
from numpy.typing import NDArray

from harness_coordinator.energy.records import QueryColumns, SampleColumns

Columns = Mapping[str, NDArray[np.generic]]

WATTS = "watts"
"""Column that `with_power` adds."""


def with_power(samples: Columns) -> Columns:
    """Return columns with the power that watts are described by: the sensor's, else the counter's slope.

    The slope between two changes of a counter stands at the later one; polls between changes stay absent, since
    a repeated value is no news.
    """
    for name in ("power_w", "power_avg_w"):
        if name in samples and np.isfinite(np.asarray(samples[name], np.float64)).any():
            return {**samples, WATTS: np.asarray(samples[name], np.float64)}
    if "energy_j" not in samples:
        return samples
    t_s = np.asarray(samples["t_ns"], np.int64) * 1e-9
    energy = np.asarray(samples["energy_j"], np.float64)
    slope = np.full(t_s.size, np.nan)
    changed = np.flatnonzero(np.diff(energy, prepend=energy[:1]) > 0)
    slope[changed[1:]] = np.diff(energy[changed]) / np.diff(t_s[changed])
    return {**samples, WATTS: slope}


def query_columns(queries: Sequence[generations.RunQuery]) -> QueryColumns:
    """Return queries as columns; what is not known is NaN, or 0 for the first token."""

    def tokens(value: int | None) -> float:
        return math.nan if value is None else float(value)

    return QueryColumns(
        start_ns=np.array([q.start_ns for q in queries], np.int64),
        first_token_ns=np.array([q.first_token_ns or 0 for q in queries], np.int64),
        end_ns=np.array([q.end_ns for q in queries], np.int64),
        prompt_tokens=np.array([tokens(q.prompt_tokens) for q in queries], np.float64),
        output_tokens=np.array([tokens(q.output_tokens) for q in queries], np.float64),
        chunk_ns=[np.asarray(q.chunk_ns, np.int64) for q in queries],
        counted=np.array([q.counted for q in queries], np.bool_),
    )


def sample_columns(samples: Columns) -> SampleColumns:
    """Return samples as columns; the instantaneous power where there is one, else the average."""
    t_ns = np.asarray(samples["t_ns"], np.int64)
    empty_f, empty_i = np.zeros(0), np.zeros(0, np.int64)
    power = samples.get("power_w")
    if power is None or not np.isfinite(np.asarray(power, np.float64)).any():
        power = samples.get("power_avg_w", empty_f)
    return SampleColumns(
        t_ns=t_ns,
        energy_j=np.asarray(samples.get("energy_j", empty_f), np.float64),
        power_w=np.asarray(power, np.float64),
        half_width_ns=np.asarray(samples.get("half_width_ns", empty_i), np.int64),
        interval_ns=np.asarray(samples.get("interval_ns", empty_i), np.int64),
        throttle_bits=np.asarray(samples.get("throttle_bits", empty_i), np.int64),
    )


def known(value: float) -> float | None:
    """Return a plain float, or None for what is not known."""
    return float(value) if math.isfinite(value) else None
