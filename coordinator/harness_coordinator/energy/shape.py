"""Energy inside an interval follows the modelled load, and every interval keeps its measured energy.

Between the edges t_0 and t_1 of an interval with measured energy e, modelled cumulative energy M(t) and variance
clock V(t) (how fast the model's error grows: v_idle dt + v_active (active power)^2 dt),

    E(t) = E_0 + M(t) - M(t_0) + (e - M(t_1) + M(t_0)) (V(t) - V(t_0)) / (V(t_1) - V(t_0))

which is the expectation of a process with independent errors that must end at e; V (v - V) / v is its variance there.
What the model missed thus goes to where it can have gone wrong: to the load, not to the idle time beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from harness_coordinator.energy.activity import Activity
from harness_coordinator.energy.curve import NORMAL_99, EnergyCurve, Spread
from harness_coordinator.energy.edges import Edges
from harness_coordinator.energy.intake import Bool
from harness_coordinator.energy.load_model import LoadModel
from harness_coordinator.energy.records import Float64, Int64

LARGEST_QUANTILE = 8.0
"""Beyond this the residuals are not noise but a different load; the hard envelope takes over."""
SMALLEST_VARIANCE_J2_S = 1e-8
ROUNDING = 1e-6
FEWEST_RESIDUALS = 8
MOST_RESIDUALS = 500_000
"""Intervals whose residuals are looked at; half a day of a 100 ms counter."""
LARGEST_SCATTER_S = 0.01
"""Stamps of a client on the same machine scatter by less; what seems more is the load's level."""


@dataclass(frozen=True, slots=True)
class _Pieces:
    """An instrument's intervals cut at the events of the load: k pieces of constant modelled power."""

    knot_s: Float64
    """k + 1 times: edges and events."""
    at_edge: Int64
    """Which knots are the n + 1 edges."""
    length_s: Float64
    modelled_j: Float64
    active_w: Float64
    """Modelled power above idle."""

    def sums(self, value: Float64) -> Float64:
        """Sum of a piece quantity over each of the n intervals."""
        return np.add.reduceat(value, self.at_edge[:-1])

    def first(self, intervals: int) -> _Pieces:
        """The pieces of the first so many intervals."""
        if intervals >= len(self.at_edge) - 1:
            return self
        end = int(self.at_edge[intervals])
        return _Pieces(
            self.knot_s[: end + 1],
            self.at_edge[: intervals + 1],
            self.length_s[:end],
            self.modelled_j[:end],
            self.active_w[:end],
        )

    def spread(self, value: Float64) -> Float64:
        """An interval quantity repeated for its pieces."""
        return np.repeat(value, np.diff(self.at_edge))


def shape_curve(
    linear: EnergyCurve,
    activity: Activity,
    model: LoadModel,
    lag_error_s: float = 0.0,
    errors: LoadErrors | None = None,
    told: Bool | None = None,
) -> EnergyCurve:
    """Bend a linear curve inside its intervals to the modelled load.

    Args:
        linear: curve with the instrument's edges and the power limits.
        activity: load on the clock of the stamps.
        model: fitted levels and lag.
        lag_error_s: standard error of the lag, s.
        errors: where the model goes wrong, if known from an earlier recording; else found from its residuals.
        told: the intervals in which the activity is all that the device did; the residuals of others tell nothing,
            and only the hard envelope bounds them. None: all.
    """
    edges = _filled(linear.edges, activity, model)
    pieces = _cut(edges, activity, model)
    residual_j = np.diff(edges.energy_j) - pieces.sums(pieces.modelled_j)
    if errors is None:
        errors = find_errors(edges, pieces.first(MOST_RESIDUALS), residual_j, told)
    clock_j2 = (errors.idle_rate + errors.active_rate * pieces.active_w**2) * pieces.length_s
    rise = np.append(0.0, np.cumsum(_bent(edges, pieces, residual_j, clock_j2)))
    # Rounding of the running sum must not move the edges: every interval keeps its measured energy.
    drift = np.interp(np.arange(len(rise)), pieces.at_edge, edges.energy_j - rise[pieces.at_edge])
    variance_j2 = np.append(0.0, np.cumsum(clock_j2))
    stamp_s = math.hypot(errors.stamp_s, lag_error_s if math.isfinite(lag_error_s) else 0.0)
    return replace(
        linear,
        edges=edges,
        knot_s=pieces.knot_s,
        knot_j=np.maximum.accumulate(rise + drift),
        spread=Spread(
            pieces.knot_s, variance_j2, variance_j2[pieces.at_edge], errors.quantile, stamp_s, told
        ),
    )


def _cut(edges: Edges, activity: Activity, model: LoadModel) -> _Pieces:
    events = activity.t_s - model.lag_s
    events = events[(events > edges.t_s[0]) & (events < edges.t_s[-1])]
    knots = np.concatenate([edges.t_s, events])
    knots.sort(kind="stable")
    length = np.diff(knots)
    modelled = np.diff(model.energy_at(activity, knots))
    active = (
        np.divide(modelled, length, out=np.full_like(length, model.idle_w), where=length > 0) - model.idle_w
    )
    # Differences of large sums leave some picowatts in idle time, which must not pass for load.
    active[np.abs(active) < ROUNDING * max(model.idle_w, float(active.max(initial=0.0)))] = 0.0
    return _Pieces(knots, np.searchsorted(knots, edges.t_s), length, modelled, active)


def _bent(edges: Edges, pieces: _Pieces, residual_j: Float64, clock_j2: Float64) -> Float64:
    """Energy of each piece: the model's, plus its part of what the model missed.

    Where a piece would give energy back, because the model overstates the interval by more than its load, the
    whole interval is the model scaled to the measured energy instead.
    """
    bent = pieces.modelled_j + clock_j2 * pieces.spread(residual_j / pieces.sums(clock_j2))
    falls = np.minimum.reduceat(bent, pieces.at_edge[:-1]) < 0
    if falls.any():
        modelled = pieces.sums(pieces.modelled_j)
        measured = np.diff(edges.energy_j)
        gain = np.divide(measured, modelled, out=np.zeros_like(modelled), where=modelled > 0)
        flat_w = np.where(modelled > 0, 0.0, measured / np.diff(edges.t_s))
        scaled = pieces.modelled_j * pieces.spread(gain) + pieces.length_s * pieces.spread(flat_w)
        bent = np.where(np.repeat(falls, np.diff(pieces.at_edge)), scaled, bent)
    return bent


@dataclass(frozen=True, slots=True)
class LoadErrors:
    """Where the model goes wrong, from the residuals of the intervals."""

    idle_rate: float
    """Variance per second of time, J^2/s."""
    active_rate: float
    """Variance per (active power)^2 and second, s."""
    stamp_s: float
    """Standard deviation of single stamps about the common lag, s."""
    quantile: float
    """Standard deviations that hold 99 % of the residuals."""


def find_errors(edges: Edges, pieces: _Pieces, residual_j: Float64, told: Bool | None = None) -> LoadErrors:
    """Split the residuals' variance into that of idle time, of the load's level, and of the stamps.

    Intervals without load give the first, loaded ones without an event the second; an event whose stamp is off
    by d moves (step in power) x d between intervals, so the rest over the sum of squared steps is the third.
    """
    count = len(pieces.at_edge) - 1
    span, residual_j = np.diff(edges.t_s[: count + 1]), residual_j[:count]
    work = pieces.sums(pieces.active_w**2 * pieces.length_s)
    jump = np.append(0.0, np.diff(pieces.active_w)) ** 2
    jump[pieces.at_edge[:-1]] = 0.0
    jumps = pieces.sums(jump)
    sure = (edges.known & edges.covered)[:count]
    if told is not None:
        sure = sure & told[:count]
    quiet, loud = sure & (work <= 0), sure & (work > 0)
    steady, eventful = loud & (jumps <= 0), loud & (jumps > 0)
    square = residual_j**2
    idle_rate = SMALLEST_VARIANCE_J2_S
    if np.count_nonzero(quiet) >= FEWEST_RESIDUALS:
        idle_rate = max(idle_rate, float(square[quiet].sum() / span[quiet].sum()))
    active_rate = stamp_s = 0.0
    level = steady if np.count_nonzero(steady) >= FEWEST_RESIDUALS else loud
    if level.any():
        rest = float((square[level] - idle_rate * span[level]).sum())
        active_rate = max(rest, 0.01 * float(square[level].sum())) / float(work[level].sum())
    expected = idle_rate * span + active_rate * work
    if np.count_nonzero(eventful) >= FEWEST_RESIDUALS:
        # A level that is off for the whole query makes an interval filled by a share f off by f^2, not f.
        filled = pieces.sums(pieces.active_w * pieces.length_s) ** 2 / span
        rest = float((square - idle_rate * span - active_rate * filled)[eventful].sum())
        stamp_s = min(math.sqrt(max(rest, 0.0) / float(jumps[eventful].sum())), LARGEST_SCATTER_S)
        expected += stamp_s**2 * jumps
    kept = loud if np.count_nonzero(loud) >= FEWEST_RESIDUALS else sure
    quantile = LARGEST_QUANTILE
    if kept.any():
        ratio = np.abs(residual_j[kept]) / np.sqrt(expected[kept])
        quantile = float(np.clip(np.quantile(ratio, 0.99), NORMAL_99, LARGEST_QUANTILE))
    return LoadErrors(idle_rate, active_rate, stamp_s, quantile)


def _filled(edges: Edges, activity: Activity, model: LoadModel) -> Edges:
    """Let the model say what an interval held where the instrument does not (a reset, the time after its last tick)."""
    if edges.known.all():
        return edges
    modelled = np.diff(model.energy_at(activity, edges.t_s))
    energy = np.where(edges.known, np.diff(edges.energy_j), modelled)
    return replace(edges, energy_j=edges.energy_j[0] + np.append(0.0, np.cumsum(energy)))
