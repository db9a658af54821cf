"""When a counter ticked: from the polls between which each change fell to edges in time."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from harness_coordinator.energy.counter import Changes
from harness_coordinator.energy.edges import Edges
from harness_coordinator.energy.records import Float64
from harness_coordinator.energy.tick_lock import lock_ticks

GAP_PERIODS = 3.0
"""A pause between changes longer than this many update periods is a gap."""
STEADY_SHARE = 0.8
"""A sensor of which fewer changes lock does not tick steadily: what did lock agreed by chance."""
SHORTEST_STEP_S = 1e-9


def edges_at_polls(changes: Changes, period_s: float = math.nan, resolution_j: float = math.nan) -> Edges:
    """Place each change in the middle of the polls between which it fell.

    A counter that changes at every poll ticks faster than it is polled: its value is then current at the
    poll, or half an update period older where the period is known.

    Args:
        changes: polls that saw the counter change.
        period_s: update period, s; NaN where unknown.
        resolution_j: step of the counter, J; 0 or NaN for none.
    """
    before, seen = changes.before_s.copy(), changes.seen_s
    if len(seen) > 1:
        # The first poll saw a value that may be as old as an update period.
        before[0] = seen[0] - max(period_s if period_s > 0 else 0.0, float(np.median(np.diff(seen))))
    if period_s > 0:
        before = np.maximum(before, seen - period_s) if changes.every_poll else before
        t_s = (before + seen) / 2
    elif changes.every_poll:
        t_s = seen
    else:
        t_s = (before + seen) / 2
    return build_edges(changes, t_s, (seen - before) / 2, period_s, resolution_j)


def edges_at_ticks(changes: Changes, period_s: float = math.nan, resolution_j: float = math.nan) -> Edges:
    """Place each change on the sensor's tick where a steady one is found, else between its polls.

    The first poll saw a value that was made at the last tick before it.

    Args:
        changes: polls that saw the counter change.
        period_s: update period if known, s.
        resolution_j: step of the counter, J; 0 or NaN for none.
    """
    if changes.every_poll or len(changes) < 3:
        return edges_at_polls(changes, period_s, resolution_j)
    lock = lock_ticks(changes.before_s[1:], changes.seen_s[1:])
    if lock.steady_share < STEADY_SHARE:
        return edges_at_polls(changes, period_s, resolution_j)
    # Where polls are far apart the value seen is still the last tick's.
    seen = changes.seen_s[1:]
    before = np.maximum(changes.before_s[1:], seen - lock.period_s)
    t_s = np.append(changes.seen_s[0], np.where(lock.locked, lock.t_s, (before + seen) / 2))
    slack = np.append(0.0, np.where(lock.locked, lock.slack_s, (seen - before) / 2))
    if lock.locked[0]:
        ticks_back = max(math.ceil((t_s[1] - changes.seen_s[0]) / lock.period_s - 1e-6), 1)
        t_s[0], slack[0] = t_s[1] - ticks_back * lock.period_s, slack[1]
    else:
        t_s[0], slack[0] = changes.seen_s[0] - lock.period_s / 2, lock.period_s / 2
    edges = build_edges(changes, t_s, slack, lock.period_s, resolution_j)
    return replace(edges, locked=True)


def build_edges(
    changes: Changes, t_s: Float64, slack_s: Float64, period_s: float, resolution_j: float
) -> Edges:
    """Make edges of placed changes and mark the intervals that are gaps or cross a reset.

    The energy across a counter reset is unknown; it is taken as the mean power of the two neighbouring
    intervals times its length, and may lie off by all of that.
    """
    # Polls of a slow machine can overlap: edges must ascend all the same.
    t_s = np.maximum.accumulate(t_s)
    if (np.diff(t_s) <= 0).any():
        t_s = t_s + SHORTEST_STEP_S * _repeats(t_s)
    length = np.diff(t_s)
    energy = np.diff(changes.energy_j)
    reset = changes.reset[1:]
    spread = np.zeros(len(length))
    if reset.any():
        power = np.where(reset, np.nan, energy / length)
        guess = _neighbour_mean(power) * length
        energy = np.where(reset, guess, energy)
        spread = np.where(reset, guess, spread)
    typical = period_s if period_s > 0 else (float(np.median(length)) if len(length) else math.nan)
    covered = ~(length > GAP_PERIODS * max(typical, changes.median_poll_s)) & ~reset
    return Edges(
        t_s=t_s,
        energy_j=np.append(0.0, np.cumsum(energy)),
        slack_s=slack_s,
        covered=covered,
        known=~reset,
        spread_j=spread,
        period_s=typical,
        resolution_j=resolution_j if resolution_j > 0 else 0.0,
        flags=("counter_reset",) if reset.any() else (),
    )


def _repeats(t_s: Float64) -> Float64:
    """How many equal values precede each element of an ascending array."""
    new = np.append(True, np.diff(t_s) > 0)
    index = np.arange(len(t_s))
    return (index - np.maximum.accumulate(np.where(new, index, 0))).astype(float)


def _neighbour_mean(power: Float64) -> Float64:
    """Mean of the nearest known values before and after each element; 0 where there is none."""
    known = np.isfinite(power)
    if not known.any():
        return np.zeros(len(power))
    index = np.arange(len(power))
    at = np.flatnonzero(known)
    right = np.searchsorted(at, index).clip(0, len(at) - 1)
    left = (np.searchsorted(at, index, side="right") - 1).clip(0, len(at) - 1)
    return (power[at[left]] + power[at[right]]) / 2
