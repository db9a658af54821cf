"""A counter beside a power reading: both are computed, and rows where they cannot both be right are flagged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.curve import EnergyCurve
from harness_coordinator.energy.intake import Bool, CleanQueries
from harness_coordinator.energy.records import Float64, QueryEnergy
from harness_coordinator.energy.rows import share_bounds
from harness_coordinator.energy.sweep import Shares


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
    shares: Shares,
    *,
    window_s: tuple[float, float],
    device: tuple[float, float],
    first: QueryEnergy,
) -> CrossCheck:
    """Compare a measure with another one that was divided the same way.

    Two measures disagree when their bounds, the power sensor's stated gain error included, do not overlap.
    Queries that the other measure did not cover are not compared (NaN).

    Args:
        other: curve of the other measure.
        queries: n queries.
        shares: what each got of the other measure's energy.
        window_s: the run, s.
        device: bounds of the device's energy over the run by the first measure, J.
        first: rows of the first measure.
    """
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
        disagrees=covered & ((low > first.joules_high) | (high < first.joules_low)),
    )
