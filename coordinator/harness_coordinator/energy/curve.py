"""E(t), the cumulative energy of one source, with its envelope: every joule is a difference of two of its values."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness_coordinator.energy.edges import Edges
from harness_coordinator.energy.intake import Bool, seconds
from harness_coordinator.energy.records import NAN, Float64, Int64

NORMAL_99 = 2.576
"""Standard deviations on either side that hold 99 % of a normal distribution."""
SLACK_BLOCK = 250_000
"""Times whose slack is computed at once: a dozen temporaries of this length stay in the cache."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How uncertain the shape inside the intervals is, as a variance that grows with time.

    Between two edges the deviation from the model is a Brownian bridge on the clock V(t): at a point x inside
    an interval of total variance v its variance is V(x) (v - V(x)) / v (Wiener process tied at both ends).
    """

    t_s: Float64
    variance_j2: Float64
    """Cumulative V at `t_s`, J^2, not descending."""
    edge_variance_j2: Float64
    """V at the curve's edges, J^2."""
    quantile: float
    """Standard deviations that hold 99 % of the residuals."""
    stamp_s: float = 0.0
    """Standard deviation of a single stamp about the common lag, the lag's own error included, s."""
    told: Bool | None = None
    """Intervals in which the load is known, and so their shape; None: all."""


@dataclass(frozen=True, slots=True)
class EnergyCurve:
    """Cumulative energy of one source: piecewise linear, never falling, additive by construction.

    Times outside the instrument's edges have no energy: the curve is flat there and coverage says so.
    """

    origin_ns: int
    knot_s: Float64
    knot_j: Float64
    edges: Edges
    floor_w: float = 0.0
    """Power that the device never goes below, W."""
    ceiling_w: float = NAN
    """Power that it never exceeds, W."""
    spread: Spread | None = None
    _covered_s: Float64 = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        """Sum the gap-free time up to each edge."""
        length = np.where(self.edges.covered, np.diff(self.edges.t_s), 0.0)
        object.__setattr__(self, "_covered_s", np.append(0.0, np.cumsum(length)))

    def energy_j(self, t_ns: Int64) -> Float64:
        """Cumulative energy at the given times (ns, any shape), J."""
        return self.at(self._seconds(t_ns))

    def low_j(self, t_ns: Int64) -> Float64:
        """Lower envelope of the cumulative energy at the given times (ns), J."""
        t_s = self._seconds(t_ns)
        return self.at(t_s) - self.slack_j(t_s)[0]

    def high_j(self, t_ns: Int64) -> Float64:
        """Upper envelope of the cumulative energy at the given times (ns), J."""
        t_s = self._seconds(t_ns)
        return self.at(t_s) + self.slack_j(t_s)[1]

    def coverage(self, start_ns: Int64, end_ns: Int64) -> Float64:
        """Share of each window [start, end] (ns) that lies inside gap-free data; 0 to 1."""
        return self.coverage_at(self._seconds(start_ns), self._seconds(end_ns))

    def window_j(self, start_ns: Int64, end_ns: Int64) -> tuple[Float64, Float64, Float64]:
        """Energy of each window (ns): estimate, lower and upper 99 % bound, J."""
        return self.window_at(self._seconds(start_ns), self._seconds(end_ns))

    def at(self, t_s: Float64) -> Float64:
        """Cumulative energy at times in seconds after the origin, J."""
        return np.interp(t_s, self.knot_s, self.knot_j)

    def coverage_at(self, start_s: Float64, end_s: Float64) -> Float64:
        """Coverage of windows given in seconds; a window of no length is covered where its moment is."""
        start_s, end_s = np.asarray(start_s, np.float64), np.asarray(end_s, np.float64)
        length = end_s - start_s
        inside = np.interp(end_s, self.edges.t_s, self._covered_s) - np.interp(
            start_s, self.edges.t_s, self._covered_s
        )
        k = self._interval(start_s)
        moment = self.edges.covered[k] & (start_s >= self.edges.t_s[0]) & (start_s <= self.edges.t_s[-1])
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.clip(inside / length, 0.0, 1.0)
        # Sums of seconds carry rounding in the tenth digit: full coverage must read as 1.
        return np.where(length > 0, np.where(share > 1 - 1e-9, 1.0, share), moment.astype(float))

    def slack_j(self, t_s: Float64) -> tuple[Float64, Float64]:
        """How far the truth may lie below and above the curve at each time (s), J.

        Hard envelope, for t in the interval k with edges (t0, E0), (t1, E1) of slack u0, u1:

            U = min(E1 + ceiling (t - t1 + u1)+ - floor (t1 - u1 - t)+ , E0 + ceiling (t - t0 + u0))
            L = max(E0 - ceiling (t0 + u0 - t)+ + floor (t - t0 - u0)+ , E1 - ceiling (t1 + u1 - t))

        and, where the shape inside the interval was modelled, no wider than the 99 % of the bridge.
        """
        t_s = np.asarray(t_s, np.float64)
        if t_s.size > SLACK_BLOCK:
            parts = [self.slack_j(block) for block in np.array_split(t_s, -(-t_s.size // SLACK_BLOCK))]
            return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        edges = self.edges
        k = self._interval(t_s)
        t = np.clip(t_s, edges.t_s[0], edges.t_s[-1])
        t0, t1 = edges.t_s[k], edges.t_s[k + 1]
        u0, u1 = edges.slack_s[k], edges.slack_s[k + 1]
        e0, e1 = edges.energy_j[k], edges.energy_j[k + 1]
        unsure = edges.spread_j[k]
        middle = self.at(t)
        ceiling, floor = self.ceiling_w, self.floor_w
        early, late = t - t1 + u1, t0 + u0 - t
        upper = np.minimum(
            e1 + unsure + ceiling * np.maximum(early, 0) - floor * np.maximum(-early, 0),
            e0 + ceiling * (t - t0 + u0),
        )
        lower = np.maximum(
            e0 - ceiling * np.maximum(late, 0) + floor * np.maximum(-late, 0),
            e1 - unsure - ceiling * (t1 + u1 - t),
        )
        below = np.maximum(middle - lower, 0.0) + edges.resolution_j
        above = np.maximum(upper - middle, 0.0) + edges.resolution_j
        if self.spread is not None:
            power_w = (e1 - e0) / (t1 - t0)
            stamp_j = self.spread.quantile * self.spread.stamp_s * power_w
            placed_j = 2 * power_w * np.maximum(u0, u1)
            soft = np.hypot(self._bridge_j(t, k), stamp_j) + placed_j
            if self.spread.told is not None:
                soft = np.where(self.spread.told[k], soft, np.inf)
            below, above = np.minimum(below, soft), np.minimum(above, soft)
        return below, above

    def stamp_error_j(self, t_s: Float64) -> Float64:
        """99 % error of E at the moment that a stamp means, from the stamp's scatter about the common lag, J."""
        spread = self.spread
        if spread is None or not spread.stamp_s > 0:
            return np.zeros_like(t_s)
        k = self._interval(t_s)
        power_w = np.diff(self.edges.energy_j)[k] / np.diff(self.edges.t_s)[k]
        return spread.quantile * spread.stamp_s * power_w

    def window_at(self, start_s: Float64, end_s: Float64) -> tuple[Float64, Float64, Float64]:
        """Energy and 99 % bounds of windows given in seconds, J; see `window_j`."""
        start_s, end_s = np.asarray(start_s, np.float64), np.asarray(end_s, np.float64)
        joules = self.at(end_s) - self.at(start_s)
        below_a, above_a = self.slack_j(start_s)
        below_b, above_b = self.slack_j(end_s)
        if self.spread is not None:
            down, up = np.hypot(below_b, above_a), np.hypot(above_b, below_a)
        else:
            down, up = below_b + above_a, above_b + below_a
        unsure, missing_s = self.unsure_between(start_s, end_s)
        length = np.maximum(end_s - start_s, 0.0)
        low = np.maximum(joules - down - unsure, 0.0) + self.floor_w * missing_s
        high = np.minimum(joules + up + unsure + self.ceiling_w * missing_s, self.ceiling_w * length)
        gain = self.edges.gain_error
        return joules, np.minimum(low * (1 - gain), joules), np.maximum(high * (1 + gain), joules)

    def unsure_between(self, start_s: Float64, end_s: Float64) -> tuple[Float64, Float64]:
        """Energy that whole intervals inside each window may be wrong by (J), and its time outside all data (s).

        Errors e that stay on one side for up to T (a load of power range 2 e that beats with the sensor) add up to
        no more than e T / 2 over any longer window of length L, since whole beats cancel; with the scatter of L / p
        readings that is, as a share of e L, T / (2 L) + 2.58 sqrt(p / L).
        """
        edges = self.edges
        lasts_s = edges.spread_lasts_s
        adds = np.ones(len(edges.known), bool) if lasts_s > 0 else ~edges.known
        total = np.append(0.0, np.cumsum(np.where(adds, edges.spread_j, 0.0)))
        square = np.append(0.0, np.cumsum(np.where(adds, 0.0, edges.spread_j**2)))
        guessed = np.interp(end_s, edges.t_s, total) - np.interp(start_s, edges.t_s, total)
        noise = np.interp(end_s, edges.t_s, square) - np.interp(start_s, edges.t_s, square)
        if lasts_s > 0:
            length = np.maximum(end_s - start_s, 1e-9)
            beat = lasts_s / (2 * length) + NORMAL_99 * np.sqrt(edges.period_s / length)
            guessed = guessed * np.minimum(beat, 1.0)
        first, last = edges.t_s[0], edges.t_s[-1]
        within = np.clip(end_s, first, last) - np.clip(start_s, first, last)
        return guessed + np.sqrt(np.maximum(noise, 0.0)), np.maximum(end_s - start_s - within, 0.0)

    def _bridge_j(self, t: Float64, k: NDArrayInt) -> Float64:
        spread = self.spread
        if spread is None:
            return np.zeros_like(t)
        start = spread.edge_variance_j2[k]
        whole = np.maximum(spread.edge_variance_j2[k + 1] - start, 1e-300)
        part = np.clip((np.interp(t, spread.t_s, spread.variance_j2) - start) / whole, 0.0, 1.0)
        return spread.quantile * np.sqrt(whole * part * (1 - part))

    def _interval(self, t_s: Float64) -> NDArrayInt:
        k = np.searchsorted(self.edges.t_s, t_s, side="right") - 1
        return np.clip(k, 0, len(self.edges.t_s) - 2)

    def _seconds(self, t_ns: Int64) -> Float64:
        return seconds(t_ns, self.origin_ns)


NDArrayInt = np.ndarray[tuple[int, ...], np.dtype[np.intp]]


def linear_curve(origin_ns: int, edges: Edges, floor_w: float = 0.0, ceiling_w: float = NAN) -> EnergyCurve:
    """Curve that is straight between edges: all that can be said where no activity is known."""
    return EnergyCurve(origin_ns, edges.t_s, edges.energy_j, edges, floor_w, ceiling_w)


def covered_everywhere(count: int) -> Bool:
    """Coverage of n intervals without a gap."""
    return np.ones(count, bool)
