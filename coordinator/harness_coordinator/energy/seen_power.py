"""A power sensor that sees part of the time: the load's levels are fitted to what it saw, then integrated.

An A100 or H100 shows, every 100 ms, the mean of 25 ms: any integral of its readings aliases with the load
(arXiv 2312.02741). But each reading is the modelled power averaged over the sensor's window, with its delay:

    P_n = p_idle + sum_j c_j (F_j(t_n + lag) - F_j(t_n + lag - w)) / w

with F_j the running sums of the activity. Window w and lag are those that leave the least unexplained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from harness_coordinator.energy.activity import Activity
from harness_coordinator.energy.curve import NORMAL_99, EnergyCurve, Spread
from harness_coordinator.energy.load_model import (
    LoadModel,
    Observations,
    explained_held_out,
    fit_lag,
    fit_levels,
)
from harness_coordinator.energy.power import Readings
from harness_coordinator.energy.records import Float64

WINDOWS_S = (0.001, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
"""Averaging windows tried where the source does not state its own (known sensors: 10, 25, 100, 1000 ms)."""
SHORTEST_WINDOW_S = 0.001
SEARCH_READINGS = 4000
"""Readings used to choose among windows and delays."""
DRIFT_READINGS = 301
"""Readings over which what the model missed is averaged before it is added back, for a sensor that sees part of the
time: drift over half a minute is kept, the beat of the sensor with the load is not."""
LOCAL_READINGS = 11
"""The same for a sensor that sees all of it."""
FEWEST_PAIRS = 8


@dataclass(frozen=True, slots=True)
class SeenFit:
    """A load model fitted to a sensor's readings."""

    model: LoadModel
    window_s: float
    """Time that one reading averages over, s."""
    lag_error_s: float
    explained: float
    beats_lines: bool
    """Whether it foretells readings better than the straight line between their neighbours does."""


def fit_seen(activity: Activity, readings: Readings, averaging_s: float) -> SeenFit:
    """Fit the load's levels, and the sensor's window and delay, to its readings.

    Args:
        activity: load on the clock of the stamps.
        readings: updates of the sensor.
        averaging_s: window it averages over if known, s; else the known kinds of sensor are tried.
    """
    steady = readings.period_s if readings.period_s > 0 else 0.1
    if averaging_s >= 0:
        candidates: tuple[float, ...] = (max(averaging_s, SHORTEST_WINDOW_S),)
    else:
        candidates = tuple(sorted({*WINDOWS_S, round(steady, 4)}))
    best = (np.inf, candidates[0], 0.0, np.inf)
    for window_s in candidates:
        seen = observed(readings, window_s).thinned(SEARCH_READINGS)
        lag_s, error_s = fit_lag(activity, seen, 1.5 * steady)
        _, squares = fit_levels(activity, seen, lag_s)
        score = squares / window_s**2
        if score < best[0]:
            best = score, window_s, lag_s, error_s
    _, window_s, lag_s, error_s = best
    seen = observed(readings, window_s).thinned()
    model, _ = fit_levels(activity, seen, lag_s)
    explained = explained_held_out(activity, seen, lag_s)
    power = seen.energy_j / window_s
    unexplained = (1 - explained) * float(((power - power.mean()) ** 2).mean())
    # A line through two noisy neighbours misses by 1.5 times the noise: a model must do as well without that.
    lines = float(((power[1:-1] - (power[:-2] + power[2:]) / 2) ** 2).mean()) / 1.5
    return SeenFit(model, window_s, error_s, explained, beats_lines=unexplained < lines)


def observed(readings: Readings, window_s: float) -> Observations:
    """What the sensor saw: the energy of its window before each update."""
    return Observations(readings.t_s - window_s, readings.t_s, readings.power_w * window_s)


def seen_curve(
    linear: EnergyCurve,
    activity: Activity,
    readings: Readings,
    fit: SeenFit,
    told_s: tuple[float, float] = (-math.inf, math.inf),
) -> EnergyCurve:
    """Integrate the fitted load, plus what it missed averaged over some readings, on the clock of the stamps.

    Args:
        linear: curve of the same readings, for its limits and gaps.
        activity: load on the clock of the stamps.
        readings: updates of the sensor.
        fit: the load fitted to them.
        told_s: from when to when the activity is all that the device did. How far the power is from the model is
            judged there, for there; outside it is judged by all readings, and the hard envelope holds inside a window.
    """
    model = replace(fit.model, lag_s=0.0)
    centre = readings.t_s + fit.model.lag_s - fit.window_s / 2
    seen = np.diff(
        np.stack([model.energy_at(activity, centre + side * fit.window_s / 2) for side in (-1, 1)]), axis=0
    )[0]
    missed_w = readings.power_w - seen / fit.window_s
    partial = fit.window_s < 0.5 * readings.period_s
    smooth_w = _moving_mean(missed_w, DRIFT_READINGS if partial else LOCAL_READINGS)
    inside = activity.t_s[(activity.t_s > centre[0]) & (activity.t_s < centre[-1])]
    knots = np.union1d(centre, inside)
    missed_at = np.interp(knots, centre, smooth_w)
    step = np.diff(model.energy_at(activity, knots)) + np.diff(knots) * (missed_at[1:] + missed_at[:-1]) / 2
    knot_j = np.append(0.0, np.cumsum(np.maximum(step, 0.0)))
    # What a local mean takes up it also takes away from the scatter: judge by the drift-free one.
    missed_w = missed_w - _moving_mean(missed_w, DRIFT_READINGS)
    first, last = np.searchsorted(readings.t_s, told_s)
    error_w, lasting_s = _level_error(activity, centre[first:last], missed_w[first:last], fit.window_s)
    outside_w, outside_s = _level_error(activity, centre, missed_w, fit.window_s)
    told = (readings.t_s[:-1] >= told_s[0]) & (readings.t_s[1:] <= told_s[1])
    each_w = np.where(told, error_w, max(error_w, outside_w))
    each_s = np.where(told, lasting_s, max(lasting_s, outside_s))
    length = np.diff(centre)
    covered = readings.covered
    edges = replace(
        linear.edges,
        t_s=centre,
        energy_j=np.interp(centre, knots, knot_j),
        slack_s=np.zeros(len(centre)),
        covered=covered,
        known=covered,
        spread_j=NORMAL_99 * each_w * length * np.sqrt(np.maximum(each_s / np.maximum(length, 1e-9), 1.0)),
        spread_lasts_s=0.0,
    )
    rate = error_w**2 * lasting_s
    clock = Spread(knots, rate * (knots - knots[0]), rate * (centre - knots[0]), NORMAL_99, told=told)
    return replace(linear, knot_s=knots, knot_j=knot_j, edges=edges, spread=clock)


def _level_error(
    activity: Activity, centre_s: Float64, missed_w: Float64, window_s: float
) -> tuple[float, float]:
    """How far the power is from the model, W, and for how long it stays so, s.

    Every stretch of work may have its own level, or the power may wander within it: the correlation rho of
    neighbouring readings inside one stretch tells which. A reading that averages over several stretches shows
    the root of their number less of their scatter; the energy of one stretch is off by all of it.
    """
    busy_s = activity.total[:, 0]
    stretches = np.count_nonzero(np.diff(busy_s) == 0) + 1
    distance = np.diff(centre_s)
    period_s = float(np.median(distance))
    stretch_s = min(float(busy_s[-1]) / stretches, LOCAL_READINGS * max(window_s, period_s))
    noise_w = float(np.std(missed_w))
    busy = np.diff(activity.at(centre_s)[:, 0])
    together = busy >= distance * (1 - 1e-6)
    rho = 1.0
    if np.count_nonzero(together) >= FEWEST_PAIRS and noise_w > 0:
        before, after = missed_w[:-1][together], missed_w[1:][together]
        rho = float(np.clip((before * after).mean() / ((before**2).mean() + 1e-300), 0.0, 1.0))
    lasting_s = period_s + rho * max(stretch_s - period_s, 0.0)
    return noise_w * float(np.sqrt(max(window_s / max(stretch_s, 1e-9), 1.0))), lasting_s


def _moving_mean(value: Float64, count: int) -> Float64:
    """Mean over `count` neighbours, fewer at the ends."""
    half = count // 2
    total = np.append(0.0, np.cumsum(value))
    index = np.arange(len(value))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(value))
    return (total[high] - total[low]) / (high - low)
