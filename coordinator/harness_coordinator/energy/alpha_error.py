"""How far a query's joules move because alpha is known only so well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.alpha import Alpha
from harness_coordinator.energy.intake import CleanQueries
from harness_coordinator.energy.records import Float64
from harness_coordinator.energy.segments import make_segments
from harness_coordinator.energy.sweep import Shares, TimeCut, active_shares


@dataclass(frozen=True, slots=True)
class AlphaError:
    """How much too low and too high each of n shares may be because of alpha, J."""

    low_j: Float64
    high_j: Float64
    conceivable: bool
    """Whether these are the ends of what is conceivable, not 99 % of a fitted error: then they add up with others."""


def alpha_error(cut: TimeCut, queries: CleanQueries, shares: Shares, weight: Alpha) -> AlphaError | None:
    """Share the energy again at other values of what alpha may be, and see how far each share goes.

    A query that was alone keeps all of the energy at any alpha: its error is zero. None where alpha plays no part.

    Args:
        cut: the run, cut at the events of the queries.
        queries: n queries.
        shares: what each got at the fitted alpha.
        weight: the fitted alpha.
    """
    candidates = weight.candidates()
    if not candidates or not shares.overlap_s > 0:
        return None
    low = np.zeros(len(queries))
    high = np.zeros(len(queries))
    for alpha in candidates:
        other = active_shares(cut, make_segments(queries, "tokens", alpha), len(queries))
        np.minimum(low, other - shares.active_j, out=low)
        np.maximum(high, other - shares.active_j, out=high)
    return AlphaError(-low, high, weight.assumed)
