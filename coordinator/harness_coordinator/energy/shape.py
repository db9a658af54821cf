"""Energy inside an interval follows the modelled load, and every interval keeps its measured energy.

Between the edges t_0 and t_1 of an interval with measured energy e, modelled cumulative energy M(t) and variance
clock V(t) (how fast the model's error grows: v_idle dt + v_active (active power)^2 dt),

    E(t) = E_0 + M(t) - M(t_0) + (e - M(t_1) + M(t_0)) (V(t) - V(t_0)) / (V(t_1) - V(t_0))

which is the expectation of a process with independent errors that must end at e; V (v - V) / v is its variance there.
What the model missed thus goes to where it can have gone wrong: to the load, not to the idle time beside it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness_coordinator.energy.activity import Activity
from harness_coordinator.energy.curve import EnergyCurve, Spread
from harness_coordinator.energy.edges import Edges
from harness_coordinator.energy.load_model import LoadModel
from harness_coordinator.energy.records import Float64

NORMAL_99 = 2.576
LARGEST_QUANTILE = 8.0
"""Beyond this the residuals are not noise but a different load; the hard envelope takes over."""
SMALLEST_VARIANCE_J2_S = 1e-8


def shape_curve(linear: EnergyCurve, activity: Activity, model: LoadModel, lag_error_s: float) -> EnergyCurve:
    """Bend a linear curve inside its intervals to the modelled load.

    Args:
        linear: curve with the instrument's edges and the power limits.
        activity: load on the clock of the stamps.
        model: fitted levels and lag.
        lag_error_s: standard error of the lag, s.
    """
    edges = _filled(linear.edges, activity, model)
    inside = activity.t_s - model.lag_s
    inside = inside[(inside > edges.t_s[0]) & (inside < edges.t_s[-1])]
    knots = np.concatenate([edges.t_s, inside])
    order = np.argsort(knots, kind="stable")
    knots = knots[order]
    at_edge = np.empty(len(edges), np.int64)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    at_edge[:] = place[: len(edges)]
    interval = np.repeat(np.arange(len(edges) - 1), np.diff(at_edge))
    modelled = model.energy_at(activity, knots)
    step = np.diff(modelled)
    length = np.diff(knots)
    active_w = np.divide(step, length, out=np.zeros_like(step), where=length > 0) - model.idle_w
    by_interval = _per_interval(edges, interval, step)
    residual = np.diff(edges.energy_j) - by_interval
    idle_rate, active_rate, quantile = _variance_rates(edges, interval, length, active_w, residual)
    clock_step = idle_rate * length + active_rate * active_w**2 * length
    whole = _per_interval(edges, interval, clock_step)
    bent = step + residual[interval] * clock_step / whole[interval]
    # A residual larger than the load of a piece would make it give energy back: such intervals are scaled.
    falls = np.zeros(len(edges) - 1, bool)
    falls[interval[bent < 0]] = True
    if falls.any():
        gain = np.divide(
            np.diff(edges.energy_j), by_interval, out=np.zeros_like(by_interval), where=by_interval > 0
        )
        scaled = step * gain[interval]
        flat = np.diff(edges.energy_j)[interval] * length / np.diff(edges.t_s)[interval]
        bent = np.where(falls[interval], np.where(by_interval[interval] > 0, scaled, flat), bent)
    rise = np.append(0.0, np.cumsum(bent))
    # Rounding of the running sum must not move the edges: every interval keeps its measured energy.
    drift = np.interp(np.arange(len(knots)), at_edge, edges.energy_j - rise[at_edge])
    knot_j = np.maximum.accumulate(rise + drift)
    largest_step = float(np.percentile(active_w, 99)) if len(active_w) else 0.0
    return replace(
        linear,
        edges=edges,
        knot_s=knots,
        knot_j=knot_j,
        spread=Spread(
            t_s=knots,
            variance_j2=np.append(0.0, np.cumsum(clock_step)),
            quantile=quantile,
            lag_slack_j=NORMAL_99
            * (lag_error_s if np.isfinite(lag_error_s) else 0.0)
            * max(largest_step, 0.0),
        ),
    )


def _per_interval(edges: Edges, interval: np.ndarray, step: Float64) -> Float64:
    return np.bincount(interval, step, len(edges) - 1).astype(np.float64)


def _filled(edges: Edges, activity: Activity, model: LoadModel) -> Edges:
    """Let the model say what an interval held where the instrument does not (a reset, the time after its last tick)."""
    if edges.known.all():
        return edges
    modelled = np.diff(model.energy_at(activity, edges.t_s))
    energy = np.where(edges.known, np.diff(edges.energy_j), modelled)
    return replace(edges, energy_j=edges.energy_j[0] + np.append(0.0, np.cumsum(energy)))


def _variance_rates(
    edges: Edges, interval: np.ndarray, length: Float64, active_w: Float64, residual: Float64
) -> tuple[float, float, float]:
    """How fast the error grows in idle time (J^2/s) and per (active W)^2 s, and the 99 % quantile."""
    span = np.diff(edges.t_s)
    work = _per_interval(edges, interval, active_w**2 * length)
    sure = edges.known & edges.covered
    quiet, loud = sure & (work <= 0), sure & (work > 0)
    square = residual**2
    idle_rate = SMALLEST_VARIANCE_J2_S
    if np.count_nonzero(quiet) >= 8:
        idle_rate = max(idle_rate, float(square[quiet].sum() / span[quiet].sum()))
    active_rate = 0.0
    if loud.any():
        rest = float((square[loud] - idle_rate * span[loud]).sum())
        active_rate = max(rest, 0.01 * float(square[loud].sum())) / float(work[loud].sum())
    expected = idle_rate * span + active_rate * work
    kept = loud if np.count_nonzero(loud) >= 8 else sure
    if not kept.any():
        return idle_rate, active_rate, LARGEST_QUANTILE
    ratio = np.abs(residual[kept]) / np.sqrt(expected[kept])
    return idle_rate, active_rate, float(np.clip(np.quantile(ratio, 0.99), NORMAL_99, LARGEST_QUANTILE))
