"""The modelled load: idle, in flight, prefill and output tokens, fitted to what the instrument saw.

Power is taken as  P(t) = p_idle + p_busy [in flight] + p_prefill [a prefill running] + e_prompt r_prompt(t)
+ e_output r_output(t)  with r the token rates. What an instrument saw over [a, b] is the integral of P there, so the
levels are linear least squares of the seen energies on the terms' increments, none below zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.activity import Activity
from harness_coordinator.energy.records import Float64

MOST_OBSERVATIONS = 20_000
"""Windows used for a fit: more sharpen five numbers no further and cost time."""
FEWEST_OBSERVATIONS = 24
ROUNDING = 1e-20
HELD_OUT_BLOCK = 8
"""Windows held out together, so that neighbours do not tell on each other."""


@dataclass(frozen=True, slots=True)
class Observations:
    """What the instrument saw: energy over n windows in time."""

    start_s: Float64
    end_s: Float64
    energy_j: Float64

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.start_s)

    def thinned(self, most: int = MOST_OBSERVATIONS) -> Observations:
        """At most that many of them, in unbroken stretches over the whole record."""
        count = len(self)
        if count <= most:
            return self
        stretches = 40
        length = most // stretches
        begin = np.linspace(0, count - length, stretches).astype(np.int64)
        rows = (begin[:, None] + np.arange(length)).ravel()
        return Observations(self.start_s[rows], self.end_s[rows], self.energy_j[rows])


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Fitted levels: `idle_w`, then one per term of the activity (W for times, J for tokens)."""

    terms: tuple[str, ...]
    idle_w: float
    levels: Float64
    lag_s: float = 0.0
    """Stamps trail the device by this much: the load at device time t is the activity at t + lag."""

    def energy_at(self, activity: Activity, t_s: Float64) -> Float64:
        """Modelled cumulative energy at device times, J (up to a constant)."""
        # The model is one running sum at the events: interpolating that costs a fraction of doing so by term.
        return self.idle_w * t_s + np.interp(t_s + self.lag_s, activity.t_s, activity.total @ self.levels)

    def named(self) -> tuple[tuple[str, float], ...]:
        """Levels by name, for the record."""
        return ("idle", self.idle_w), *zip(self.terms, (float(x) for x in self.levels), strict=True)


def design(activity: Activity, seen: Observations, lag_s: float) -> Float64:
    """Matrix of terms, (n, 1 + f): the window's length, then the load inside it."""
    load = activity.between(seen.start_s + lag_s, seen.end_s + lag_s)
    return np.column_stack([seen.end_s - seen.start_s, load])


def least_squares(matrix: Float64, energy_j: Float64) -> tuple[Float64, float]:
    """Non-negative least squares by leaving out what would be negative; returns levels and the sum of squares.

    A tenth-of-a-millionth ridge on scaled columns keeps terms that move together from growing apart.
    """
    scale = np.sqrt((matrix**2).sum(axis=0))
    usable = scale > 0
    scaled = matrix / np.where(usable, scale, 1.0)
    square, right = scaled.T @ scaled, scaled.T @ energy_j
    levels = np.zeros(matrix.shape[1])
    active = usable.copy()
    while active.any():
        rows = np.flatnonzero(active)
        solved = np.linalg.solve(square[np.ix_(rows, rows)] + 1e-7 * np.eye(len(rows)), right[rows])
        if (solved >= 0).all():
            levels[rows] = solved
            break
        active[rows[int(np.argmin(solved))]] = False
    residual = energy_j - scaled @ levels
    return levels / np.where(usable, scale, 1.0), float(residual @ residual)


def fit_levels(activity: Activity, seen: Observations, lag_s: float) -> tuple[LoadModel, float]:
    """Fit the levels at a given lag; returns the model and its sum of squared residuals (J^2)."""
    levels, squares = least_squares(design(activity, seen, lag_s), seen.energy_j)
    return LoadModel(activity.terms, float(levels[0]), levels[1:], lag_s), squares


def explained_held_out(activity: Activity, seen: Observations, lag_s: float) -> float:
    """Share of the variance of unseen windows that the activity explains, beyond their mean power.

    Two halves of alternating blocks; each is predicted from the other. 1 is perfect, 0 or less is useless.
    """
    if len(seen) < FEWEST_OBSERVATIONS:
        return 0.0
    matrix = design(activity, seen, lag_s)
    half = (np.arange(len(seen)) // HELD_OUT_BLOCK) % 2 == 0
    left_over = without = 0.0
    for train in (half, ~half):
        test = ~train
        levels, _ = least_squares(matrix[train], seen.energy_j[train])
        mean_w = seen.energy_j[train].sum() / matrix[train, 0].sum()
        left_over += float(((seen.energy_j[test] - matrix[test] @ levels) ** 2).sum())
        without += float(((seen.energy_j[test] - mean_w * matrix[test, 0]) ** 2).sum())
    # Of a power that never changes there is nothing to explain, only rounding.
    total = float((seen.energy_j**2).sum())
    return 1.0 - left_over / without if without > ROUNDING * total else 0.0


def fit_lag(activity: Activity, seen: Observations, reach_s: float) -> tuple[float, float]:
    """Find how far the stamps trail the device, by the lag that leaves the least unexplained.

    A coarse scan over [-reach, reach] is refined by golden section; the standard error is that of a parabola
    through the minimum. A lag that is less than three standard errors from zero is taken as zero.

    Returns:
        Lag and its standard error, s.
    """

    def squares(lag_s: float) -> float:
        return least_squares(design(activity, seen, lag_s), seen.energy_j)[1]

    coarse = np.linspace(-reach_s, reach_s, 41)
    scan = np.array([squares(float(lag)) for lag in coarse])
    best = int(np.argmin(scan))
    step = float(coarse[1] - coarse[0])
    left, right = float(coarse[best]) - step, float(coarse[best]) + step
    for _ in range(12):
        inner, outer = right - 0.618 * (right - left), left + 0.618 * (right - left)
        if squares(inner) < squares(outer):
            right = outer
        else:
            left = inner
    lag_s = (left + right) / 2
    bottom = squares(lag_s)
    noise = bottom / max(len(seen) - 6, 1)
    probe = max(step / 4, 1e-4)
    bend = (squares(lag_s + probe) + squares(lag_s - probe) - 2 * bottom) / probe**2
    error_s = float(np.sqrt(2 * noise / bend)) if bend > 0 else float("inf")
    if not np.isfinite(error_s) or abs(lag_s) < 3 * error_s or squares(0.0) - bottom < 9 * noise:
        return 0.0, error_s
    return lag_s, error_s
