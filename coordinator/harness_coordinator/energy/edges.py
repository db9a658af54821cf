"""What an instrument said, whatever its kind: energy between successive edges in time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from harness_coordinator.energy.intake import Bool
from harness_coordinator.energy.records import NAN, Float64


@dataclass(frozen=True, slots=True)
class Edges:
    """Cumulative energy E_k at the times t_k at which the instrument fixed it; n + 1 edges, n intervals.

    For a counter the edges are its ticks and E_k its readings. For a power sensor they are its updates and
    E_k the integral of its readings.
    """

    t_s: Float64
    """n + 1 times, strictly ascending, s."""
    energy_j: Float64
    """n + 1 cumulative energies, not descending, J."""
    slack_s: Float64
    """n + 1: how far each edge may lie from the true one, s."""
    covered: Bool
    """n: False where the interval is a gap in the data or crosses a counter reset."""
    known: Bool
    """n: False where the interval's energy is a guess (reset, gap of a power sensor)."""
    spread_j: Float64
    """n: how far an interval's true energy may lie from the stated one, J (0 for a counter)."""
    spread_lasts_s: float = 0.0
    """For how long the spreads may all lie on one side and so add up; infinite: for ever, 0: they are noise."""
    period_s: float = NAN
    """Update period, s."""
    locked: bool = False
    """Whether most edges were placed on a steady tick that was found from the polls."""
    flags: tuple[str, ...] = ()
    resolution_j: float = 0.0
    """Step of the counter: a reading may be short by up to this, J."""
    gain_error: float = 0.0
    """Relative error of all energies together (a power sensor's gain), 0 for a counter."""

    def __len__(self) -> int:
        """Number of edges."""
        return len(self.t_s)

    def power_w(self) -> Float64:
        """Mean power of each of the n intervals, W."""
        return np.diff(self.energy_j) / np.diff(self.t_s)


def extend_to(edges: Edges, last_poll_s: float) -> Edges:
    """Carry the last interval's power on to the last poll, by at most one update period.

    A counter polled after its last tick says nothing new before the next one: the energy until then is a
    guess and its spread is all of it.
    """
    ahead = min(last_poll_s - edges.t_s[-1], edges.period_s)
    if not (ahead > 0 and math.isfinite(ahead)) or len(edges) < 2:
        return edges
    guess = float(edges.power_w()[-1]) * ahead
    return replace(
        edges,
        t_s=np.append(edges.t_s, edges.t_s[-1] + ahead),
        energy_j=np.append(edges.energy_j, edges.energy_j[-1] + guess),
        slack_s=np.append(edges.slack_s, 0.0),
        covered=np.append(edges.covered, True),
        known=np.append(edges.known, False),
        spread_j=np.append(edges.spread_j, guess),
    )
