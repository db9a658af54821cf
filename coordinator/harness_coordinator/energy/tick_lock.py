"""Locking a sensor's update period and phase from dithered polls.

A change seen at poll p was made in (t_{p-1}, t_p]. If the sensor ticks at phi + n T, every change says

    before_i <= phi + n_i T <= seen_i

and the strips of many changes intersect in a small region of (T, phi). For a given T the phases that are left
form the interval [max(before_i - n_i T), min(seen_i - n_i T)]; its width -g(T) is concave in T, so the best T is
found by golden-section search. Where the largest width is negative the sensor does not tick steadily.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.intake import Bool
from harness_coordinator.energy.records import NAN, Float64

BLOCKS = (1024, 256, 64)
"""Changes locked together, longest first: a longer block is sharper (error ~ 1 / changes), a shorter one follows
a drifting sensor. 64 changes of a sensor that does not tick steadily all but never agree by chance."""
FEWEST_CHANGES = 24
"""With fewer than 64 changes in all, this many are enough and all are locked together."""
AT_ONCE = 65_536
"""Changes searched together, so that the forty passes over them stay in the cache."""
COUNTABLE = 8
"""Ticks in a pause that a first guess of the period still counts right."""
GUESSED_FROM = 50_000
"""Changes that a first guess looks at."""
TOLERATED = 0.01
"""Share of the period by which the strips may miss each other: the sensor's own jitter."""
MEAN_TO_99 = 2.576 * math.sqrt(math.pi / 2)
"""From the mean of a normal error's size to what 99 % are within."""
GOLDEN = 0.6180339887498949
EDGE_STEPS = 8
SEARCH_STEPS = 22
"""0.618^22 = 3e-5 of the search range, far below the phase that remains open."""


@dataclass(frozen=True, slots=True)
class Lock:
    """Where n changes fell; rows that are not `locked` keep NaN times."""

    t_s: Float64
    slack_s: Float64
    locked: Bool
    block_period_s: Float64
    """Period of the block that each change was locked in, s; NaN where not locked."""
    period_s: float
    """Median period over all locked changes, s; NaN where nothing locked."""
    steady_share: float
    """Share of changes that are locked, of those whose polls tell one tick from the next."""


def lock_ticks(before_s: Float64, seen_s: Float64) -> Lock:
    """Place changes on the sensor's ticks where it ticks steadily.

    Args:
        before_s: n times of the last poll that still saw the old value, s.
        seen_s: n times of the first poll that saw the new one, s.
    """
    middle = (before_s + seen_s) / 2
    # Polls a whole period apart do not tell which tick it was: such a change would only be miscounted.
    sharp = seen_s - before_s < _typical_step(middle)
    if sharp.all() or not sharp.any():
        return _lock(before_s, seen_s)
    found = _lock(before_s[sharp], seen_s[sharp])
    t_s, slack_s, period = (np.full(len(seen_s), NAN) for _ in range(3))
    t_s[sharp], slack_s[sharp], period[sharp] = found.t_s, found.slack_s, found.block_period_s
    steady_share = float(found.locked.mean())
    return Lock(t_s, slack_s, np.isfinite(t_s), period, found.period_s, steady_share)


def _lock(before_s: Float64, seen_s: Float64) -> Lock:
    middle = (before_s + seen_s) / 2
    first_guess = _typical_step(middle)
    count = len(seen_s)
    t_s, slack_s, period = (np.full(count, NAN) for _ in range(3))
    if count < FEWEST_CHANGES or not first_guess > 1.2 * float(np.median(seen_s - before_s)):
        return Lock(t_s, slack_s, np.zeros(count, bool), period, NAN, 0.0)
    todo = np.arange(count)
    for size in BLOCKS if count >= BLOCKS[-1] else (count,):
        for rows in _blocks(todo, size):
            placed, slack, block_period, good = _lock_blocks(before_s[rows], seen_s[rows], first_guess)
            where = rows[good]
            t_s[where], slack_s[where] = placed[good], slack[good]
            period[where] = block_period[good, None]
        todo = np.flatnonzero(np.isnan(t_s))
        if len(todo) < BLOCKS[-1]:
            break
    locked = np.isfinite(t_s)
    typical = float(np.median(period[locked])) if locked.any() else NAN
    return Lock(t_s, slack_s, locked, period, typical, float(locked.mean()))


def _typical_step(middle: Float64) -> float:
    """First guess of the period: time by ticks, over the pauses short enough to count the ticks in."""
    step = np.diff(middle[:GUESSED_FROM])
    if not len(step):
        return NAN
    near = step[np.abs(step / np.median(step) - 1) < 0.6]
    period = float(near.mean()) if len(near) else float(np.median(step))
    for _ in range(3):
        ticks = np.rint(step / period)
        countable = (ticks >= 1) & (ticks <= COUNTABLE)
        if not countable.any():
            break
        period = float(step[countable].sum() / ticks[countable].sum())
    return period


def _blocks(todo: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut each unbroken run of `todo` into rows of `size`, the last row reaching back where a rest remains.

    Returns:
        Arrays of shape (blocks, size), each small enough to be searched at once; runs shorter than `size` give none.
    """
    runs = np.split(todo, np.flatnonzero(np.diff(todo) != 1) + 1)
    rows: list[np.ndarray] = []
    for run in runs:
        whole = len(run) // size
        if not whole:
            continue
        if len(run) % size:
            rows.append(run[-size:][None, :])
        table = run[: whole * size].reshape(whole, size)
        rows.extend(np.array_split(table, -(-table.size // AT_ONCE)))
    return rows


def _lock_blocks(
    before: Float64, seen: Float64, first_guess: float
) -> tuple[Float64, Float64, Float64, Bool]:
    """Lock b blocks of c changes at once: places (b, c), slack (b, c), period (b), and which are steady."""
    origin = before[:, :1]
    low, high = before - origin, seen - origin
    number, period = _number_ticks((low + high) / 2, first_guess)
    number = number - np.rint(number.mean(axis=1, keepdims=True))
    reach = np.maximum(number.max(axis=1) - number.min(axis=1), 1.0)
    # No feasible period is further off than two polling intervals over the whole block.
    span = 2 * (high - low).max(axis=1) / reach
    left, right = period - span, period + span

    def room(trial: Float64) -> Float64:
        shift = number * trial[:, None]
        return (high - shift).min(axis=1) - (low - shift).max(axis=1)

    def phase(trial: Float64) -> Float64:
        shift = number * trial[:, None]
        return ((high - shift).min(axis=1) + (low - shift).max(axis=1)) / 2

    inner, outer = right - GOLDEN * (right - left), left + GOLDEN * (right - left)
    room_inner, room_outer = room(inner), room(outer)
    for _ in range(SEARCH_STEPS):
        go_left = room_inner > room_outer
        left, right = np.where(go_left, left, inner), np.where(go_left, outer, right)
        trial = np.where(go_left, right - GOLDEN * (right - left), left + GOLDEN * (right - left))
        room_trial = room(trial)
        inner, outer = np.where(go_left, trial, outer), np.where(go_left, inner, trial)
        room_inner, room_outer = (
            np.where(go_left, room_trial, room_outer),
            np.where(go_left, room_inner, room_trial),
        )
    widest = (left + right) / 2
    open_phase = room(widest)
    steady = (open_phase > -TOLERATED * widest) & (np.diff(number, axis=1) > 0).all(axis=1)
    shortest = _edge_of(room, widest, widest - span)
    longest = _edge_of(room, widest, widest + span)
    period = (shortest + longest) / 2
    places = phase(period)[:, None] + number * period[:, None]
    # Feasible lines form a polygon in (T, phi): its corners are furthest from the line in its middle.
    slack = np.zeros_like(places)
    for corner, open_half in ((shortest, 0.0), (widest, np.abs(open_phase)[:, None] / 2), (longest, 0.0)):
        slack = np.maximum(
            slack, np.abs(phase(corner)[:, None] + number * corner[:, None] - places) + open_half
        )
    return origin + places, slack + _wandering(places, low, high)[:, None], period, steady


def _wandering(places: Float64, low: Float64, high: Float64) -> Float64:
    """99 % error of a block's places where its ticks wander about a steady beat, s.

    What polling adds to (middle of the polls) - (place) is nearly independent from tick to tick; what neighbours have
    in common is the place's own error. Its variance is their covariance, where that is more than chance.

    Polls that keep a ratio with the ticks have much in common themselves, so this is not all: a tick that is off by d
    falls outside the polls around its place in |d| / width of cases. Among n changes of which v do that, the mean of
    |d| is at most (v + 3 sqrt(v) + ln 100) width / n with 99 % (Poisson), and its normal 99 % error 3.2 times that.
    """
    middle = (low + high) / 2
    outside = ((places < low) | (places > high)).sum(axis=1)
    most = MEAN_TO_99 * (outside + 3 * np.sqrt(outside) + math.log(100)) * (high - low).mean(axis=1)
    most = most / places.shape[1]
    away = middle - places
    away = away - away.mean(axis=1, keepdims=True)
    variance = (away**2).mean(axis=1)
    common = (away[:, 1:] * away[:, :-1]).mean(axis=1)
    chance = 2 * variance / np.sqrt(places.shape[1])
    return np.minimum(np.where(common > chance, 2.576 * np.sqrt(np.maximum(common, 0.0)), 0.0), most)


def _edge_of(room: Callable[[Float64], Float64], inside: Float64, outside: Float64) -> Float64:
    """Period just beyond the last one that leaves a phase open, by bisection; per block."""
    for _ in range(EDGE_STEPS):
        middle = (inside + outside) / 2
        fits = room(middle) >= 0
        inside, outside = np.where(fits, middle, inside), np.where(fits, outside, middle)
    return outside


def _number_ticks(middle: Float64, first_guess: float) -> tuple[Float64, Float64]:
    """Count the ticks of each block by a line fitted to ever longer beginnings of it.

    Doubling keeps the extrapolation below half a period, so that no tick is miscounted.
    """
    blocks, size = middle.shape
    period = np.full(blocks, first_guess)
    offset = middle[:, 0]
    length = min(8, size)
    while True:
        part = middle[:, :length]
        number = np.rint((part - offset[:, None]) / period[:, None])
        mean_n, mean_t = number.mean(axis=1), part.mean(axis=1)
        away = number - mean_n[:, None]
        variance = np.maximum((away**2).sum(axis=1), 1e-12)
        # Few ticks say less of the period than all of them did: only a longer part may correct the guess.
        if length >= 32 or length == size:
            period = (away * (part - mean_t[:, None])).sum(axis=1) / variance
        offset = mean_t - mean_n * period
        if length == size:
            return number, period
        length = min(2 * length, size)
