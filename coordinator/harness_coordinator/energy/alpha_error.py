"""How far a query's joules move because alpha is known only so well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.alpha import Alpha
from harness_coordinator.energy.baseline import BaselineLine
from harness_coordinator.energy.curve import EnergyCurve
from harness_coordinator.energy.intake import CleanQueries
from harness_coordinator.energy.records import Float64
from harness_coordinator.energy.segments import make_segments
from harness_coordinator.energy.sweep import Shares, share_energy


@dataclass(frozen=True, slots=True)
class AlphaError:
    """How much too low and too high each of n shares may be because of alpha, J."""

    low_j: Float64
    high_j: Float64
    conceivable: bool
    """Whether these are the ends of what is conceivable, not 99 % of a fitted error: then they add up with others."""


def alpha_error(
    curve: EnergyCurve,
    queries: CleanQueries,
    shares: Shares,
    weight: Alpha,
    window_s: tuple[float, float],
    baseline: BaselineLine | None,
) -> AlphaError | None:
    """Share the energy again at other values of what alpha may be, and see how far each share goes.

    A query that was alone keeps all of the energy at any alpha: its error is zero. None where alpha plays no part.

    Args:
        curve: energy of the source.
        queries: n queries.
        shares: what each got at the fitted alpha.
        weight: the fitted alpha.
        window_s: the run, s after the origin.
        baseline: idle power, None where unmeasured.
    """
    candidates = weight.candidates()
    if not candidates or not shares.overlap_s > 0:
        return None
    joules = shares.active_j + shares.idle_j
    shifts: list[Float64] = []
    for alpha in candidates:
        segments = make_segments(queries, "tokens", alpha)
        other = share_energy(curve, segments, len(queries), window_s, baseline, with_errors=False)
        shifts.append(other.active_j + other.idle_j - joules)
    return AlphaError(
        low_j=np.maximum(-np.min(shifts, axis=0), 0.0),
        high_j=np.maximum(np.max(shifts, axis=0), 0.0),
        conceivable=weight.assumed,
    )
