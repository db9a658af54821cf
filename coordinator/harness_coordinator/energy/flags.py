"""Flags: what a reader must know about a row before trusting its joules."""

from __future__ import annotations

import numpy as np

from harness_coordinator.energy.intake import Bool
from harness_coordinator.energy.records import Float64, Int64

THERMAL_BITS = 2 | 4
POWER_CAP_BIT = 1

MEANING = {
    "shared_device": "other processes used the device during the run; their energy is in these joules",
    "gap": "part of the window has no samples for more than three update periods",
    "counter_reset": "the energy counter started again inside the window; that energy is a guess",
    "outside_samples": "part of the window lies before the first or after the last sample",
    "no_samples": "no sample covers the window; its joules are absent",
    "end_before_start": "the window ends before it starts; its joules are absent",
    "zero_length": "the window has no length",
    "outside_window": "part of the query lies outside the run; only the inside is counted",
    "first_token_outside": "the first token was stamped outside the query and was ignored",
    "tokens_unknown": "a token count is missing; the typical one of the others was used as weight",
    "warmup": "a warm-up query: its joules are part of the unattributed ones",
    "below_baseline": "the device used less than its idle power for part of the query",
    "overlap": "queries overlap although one at a time was asked for; they shared equally",
    "throttled": "the device was slowed down by heat or hardware protection",
    "power_capped": "the device was held at its power limit",
    "counter_disagrees": "energy counter and integrated power differ by more than their bounds",
    "counter_rejected": "the energy counter contradicts the power reading by more than a factor of ten: not used",
    "counter_frozen": "the energy counter never changed: power was integrated instead",
    "no_baseline": "no idle power was measured: net and idle joules are absent",
    "baseline_short": "idle power was measured for less than 10 s",
    "baseline_missing": "a baseline window has no samples",
    "alpha_default": "too few queries to tell what a prompt token costs: the documented default was used",
    "unseen_time": "power was integrated straight, and its sensor sees part of the time, or nobody knows how much: "
    "the bounds allow for anything it showed within 200 readings",
    "samples_reordered": "samples arrived out of order and were sorted",
    "duplicate_samples": "several samples had one time stamp; the last was kept",
    "bad_samples": "samples with a negative or infinite value were left out",
    "estimated": "the source is a model, not a sensor",
}


def query_flags(conditions: dict[str, Bool], count: int) -> list[tuple[str, ...]]:
    """Turn one boolean column per flag into a tuple of flags per row.

    Args:
        conditions: flag name to n booleans; at most 62 flags.
        count: number of rows n.
    """
    code = np.zeros(count, np.int64)
    names = list(conditions)
    for bit, name in enumerate(names):
        code |= np.asarray(conditions[name], np.int64) << bit
    kinds, which = np.unique(code, return_inverse=True)
    tuples = [tuple(name for bit, name in enumerate(names) if kind >> bit & 1) for kind in kinds.tolist()]
    return [tuples[k] for k in which.tolist()]


def throttle_flags(t_s: Float64, bits: Int64, start_s: Float64, end_s: Float64) -> dict[str, Bool]:
    """Which windows hold a poll that saw the device throttled (`throttled`) or at its power limit."""
    found: dict[str, Bool] = {}
    if len(bits) != len(t_s) or not bits.any():
        return found
    order = np.argsort(t_s, kind="stable")
    t_s, bits = t_s[order], bits[order]
    lo, hi = np.searchsorted(t_s, start_s, side="left"), np.searchsorted(t_s, end_s, side="right")
    for name, mask in (("throttled", THERMAL_BITS), ("power_capped", POWER_CAP_BIT)):
        seen = np.append(0, np.cumsum((bits & mask) != 0))
        found[name] = seen[np.maximum(hi, lo)] > seen[lo]
    return found
