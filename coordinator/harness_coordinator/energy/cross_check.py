"""A counter beside a power reading: both are computed, and rows where they cannot both be right are flagged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.baseline import BaselineLine
from harness_coordinator.energy.curve import EnergyCurve
from harness_coordinator.energy.intake import Bool, CleanQueries
from harness_coordinator.energy.records import Float64
from harness_coordinator.energy.rows import share_bounds
from harness_coordinator.energy.segments import Segments
from harness_coordinator.energy.sweep import share_energy


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """What the other measure says, of the device and of each of n queries, J."""

    device_j: float
    joules: Float64
    device_disagrees: bool
    disagrees: Bool


def cross_check(
    other: EnergyCurve,
    queries: CleanQueries,
    segments: Segments,
    *,
    window_s: tuple[float, float],
    baseline: BaselineLine | None,
    device: tuple[float, float],
    low_j: Float64,
    high_j: Float64,
) -> CrossCheck:
    """Divide the other measure's energy the same way and compare.

    Two measures disagree when their bounds, the power sensor's stated gain error included, do not overlap.
    Queries that the other measure did not cover are not compared (NaN).

    Args:
        other: curve of the other measure.
        queries: n queries.
        segments: their weights, as used for the first measure.
        window_s: the run, s.
        baseline: idle power by the first measure, W.
        device: bounds of the device's energy over the run by the first measure, J.
        low_j: lower bounds of the queries' joules by the first measure.
        high_j: upper bounds.
    """
    shares = share_energy(other, segments, len(queries), window_s, baseline)
    joules = shares.active_j + shares.idle_j
    low, high = share_bounds(other, queries, shares, joules)
    covered = queries.usable & (other.coverage_at(queries.start_s, queries.end_s) >= 1)
    begin, finish = (np.array(edge) for edge in window_s)
    device_j, device_low, device_high = (float(x) for x in other.window_at(begin, finish))
    whole = float(other.coverage_at(begin, finish)) >= 1
    return CrossCheck(
        device_j=device_j,
        joules=np.where(covered, joules, np.nan),
        device_disagrees=whole and (device_low > device[1] or device_high < device[0]),
        disagrees=covered & ((low > high_j) | (high < low_j)),
    )
