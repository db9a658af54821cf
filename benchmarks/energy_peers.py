"""The arithmetic of other tools, on the polls that ours gets: theirs without their faults of timing."""

from __future__ import annotations

import numpy as np
from harness_coordinator.energy.records import Float64, Int64, SampleColumns


def counter_at_edges(samples: SampleColumns, start_ns: Int64, end_ns: Int64) -> Float64:
    """Counter read at the window's start and end and subtracted (zeus: begin_window / end_window).

    Args:
        samples: reads of the counter, among them one at each edge.
        start_ns: window starts.
        end_ns: window ends.
    """
    return _held(samples, end_ns) - _held(samples, start_ns)


def last_minus_first(samples: SampleColumns, start_ns: Int64, end_ns: Int64) -> Float64:
    """Last minus first of the polls inside the window (intelligence-per-watt); nothing for fewer than two."""
    first = np.searchsorted(samples.t_ns, start_ns, side="left")
    last = np.searchsorted(samples.t_ns, end_ns, side="right") - 1
    inside = last > first
    energy = samples.energy_j
    return np.where(inside, energy[np.maximum(last, 0)] - energy[np.minimum(first, len(energy) - 1)], 0.0)


def between_polls(samples: SampleColumns, start_ns: Int64, end_ns: Int64) -> Float64:
    """Straight lines between the polls that saw the counter change."""
    changed = np.append(True, np.diff(samples.energy_j) != 0)
    t_ns, energy = samples.t_ns[changed], samples.energy_j[changed]
    origin = t_ns[0]
    return np.interp(end_ns - origin, t_ns - origin, energy) - np.interp(
        start_ns - origin, t_ns - origin, energy
    )


def joules_per_token(device_j: float, output_tokens: Float64) -> Float64:
    """Run energy over output tokens, times a query's own (benchmarks that report one J/token)."""
    return device_j * output_tokens / output_tokens.sum()


def equal_split(device_j: float, count: int) -> Float64:
    """Run energy over the number of queries."""
    return np.full(count, device_j / count)


def _held(samples: SampleColumns, t_ns: Int64) -> Float64:
    at = np.searchsorted(samples.t_ns, t_ns, side="right") - 1
    return samples.energy_j[np.clip(at, 0, len(samples.t_ns) - 1)]
