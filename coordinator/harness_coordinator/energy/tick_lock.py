"""Locking a sensor's update period and phase from dithered polls.

A change seen at poll p was made in (t_{p-1}, t_p]. If the sensor ticks at phi + n T, every change says

    before_i <= phi + n_i T <= seen_i

and the strips of many changes intersect in a small region of (T, phi). For a given T the phases that are left
form the interval [max(before_i - n_i T), min(seen_i - n_i T)]; its width -g(T) is concave in T, so the best T is
found by golden-section search. Where the largest width is negative the sensor does not tick steadily.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.intake import Bool
from harness_coordinator.energy.records import NAN, Float64

BLOCKS = (1024, 256, 64, 24)
"""Changes locked together, longest first: a longer block is sharper (error ~ 1 / changes), a shorter one follows
a drifting sensor. 24 changes of a sensor that does not tick steadily all but never agree by chance."""
TOLERATED = 0.01
"""Share of the period by which the strips may miss each other: the sensor's own jitter."""
GOLDEN = 0.6180339887498949
SEARCH_STEPS = 28
"""0.618^28 = 1.4e-6 of the search range, far below the phase that remains open."""


@dataclass(frozen=True, slots=True)
class Lock:
    """Where n changes fell; rows that are not `locked` keep NaN times."""

    t_s: Float64
    slack_s: Float64
    locked: Bool
    period_s: float
    """Median period over all locked changes, s; NaN where nothing locked."""


def lock_ticks(before_s: Float64, seen_s: Float64) -> Lock:
    """Place changes on the sensor's ticks where it ticks steadily.

    Args:
        before_s: n times of the last poll that still saw the old value, s.
        seen_s: n times of the first poll that saw the new one, s.
    """
    count = len(seen_s)
    t_s, slack_s, period = np.full(count, NAN), np.full(count, NAN), np.full(count, NAN)
    middle = (before_s + seen_s) / 2
    first_guess = _typical_step(middle)
    if count < BLOCKS[-1] or not first_guess > 1.2 * float(np.median(seen_s - before_s)):
        return Lock(t_s, slack_s, np.zeros(count, bool), NAN)
    todo = np.arange(count)
    for size in BLOCKS:
        for rows in _blocks(todo, size):
            placed, slack, block_period, good = _lock_blocks(before_s[rows], seen_s[rows], first_guess)
            where = rows[good]
            t_s[where], slack_s[where] = placed[good], slack[good, None]
            period[where] = block_period[good, None]
        todo = np.flatnonzero(np.isnan(t_s))
        if len(todo) < BLOCKS[-1]:
            break
    locked = np.isfinite(t_s)
    return Lock(t_s, slack_s, locked, float(np.median(period[locked])) if locked.any() else NAN)


def _typical_step(middle: Float64) -> float:
    """Mean distance of neighbouring changes, leaving out pauses in which ticks went unseen."""
    step = np.diff(middle)
    if not len(step):
        return NAN
    near = np.abs(step / np.median(step) - 1) < 0.6
    return float(step[near].mean()) if near.any() else float(np.median(step))


def _blocks(todo: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut each unbroken run of `todo` into rows of `size`, the last row reaching back where a rest remains.

    Returns:
        Arrays of shape (blocks, size); runs shorter than `size` give none.
    """
    runs = np.split(todo, np.flatnonzero(np.diff(todo) != 1) + 1)
    rows: list[np.ndarray] = []
    for run in runs:
        whole = len(run) // size
        if not whole:
            continue
        if len(run) % size:
            rows.append(run[-size:][None, :])
        rows.append(run[: whole * size].reshape(whole, size))
    return rows


def _lock_blocks(
    before: Float64, seen: Float64, first_guess: float
) -> tuple[Float64, Float64, Float64, Bool]:
    """Lock b blocks of c changes at once: places (b, c), slack (b), period (b), and which are steady."""
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
    period = (left + right) / 2
    shift = number * period[:, None]
    lowest, highest = (low - shift).max(axis=1), (high - shift).min(axis=1)
    places = origin + shift + ((lowest + highest) / 2)[:, None]
    open_phase = highest - lowest
    steady = (open_phase > -TOLERATED * period) & (np.diff(number, axis=1) > 0).all(axis=1)
    return places, np.abs(open_phase) / 2, period, steady


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
