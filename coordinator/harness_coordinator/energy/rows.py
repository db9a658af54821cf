"""One row per query: its share of the joules, the bounds of that share, and what to know about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness_coordinator.energy.alpha_error import AlphaError
from harness_coordinator.energy.baseline import BaselineLine
from harness_coordinator.energy.curve import EnergyCurve
from harness_coordinator.energy.flags import query_flags
from harness_coordinator.energy.intake import Bool, CleanQueries
from harness_coordinator.energy.records import Float64, QueryEnergy
from harness_coordinator.energy.sweep import Shares


def query_rows(
    curve: EnergyCurve,
    queries: CleanQueries,
    shares: Shares,
    *,
    window_s: tuple[float, float],
    baseline: BaselineLine | None,
    conditions: dict[str, Bool],
    alpha: AlphaError | None = None,
) -> QueryEnergy:
    """Make the rows of one source.

    A query outside all samples and one that ends before it starts have absent (NaN) joules: the curve holds
    no energy for them, so the sum over the others is unchanged. Without a baseline, net and idle joules are
    absent. Prefill joules are those of the time up to the first token, decode joules the rest; both are
    gross, and absent where no first token is known.

    Args:
        curve: energy of the source.
        queries: n queries.
        shares: what each got.
        window_s: the run, s after the origin.
        baseline: idle power, None where unmeasured.
        conditions: further flags, name to n booleans.
        alpha: how far the shares move because alpha is not known exactly.
    """
    joules = shares.active_j + shares.idle_j
    low, high = share_bounds(curve, queries, shares, joules, alpha)
    coverage = curve.coverage_at(queries.start_s, queries.end_s)
    edges = curve.edges
    first, last = edges.t_s[0], edges.t_s[-1]
    absent = ~queries.usable | (queries.end_s < first) | (queries.start_s > last)
    outside = (queries.start_s < first) | (queries.end_s > last)
    phases = np.isfinite(queries.first_s)
    has_idle = np.full(len(queries), baseline is not None)
    nan = np.nan
    conditions = {
        "end_before_start": ~queries.usable,
        "zero_length": queries.usable & (queries.end_s == queries.start_s),
        "no_samples": absent & queries.usable,
        "outside_samples": outside & ~absent,
        "outside_window": (queries.start_s < window_s[0]) | (queries.end_s > window_s[1]),
        "gap": (coverage < 1) & ~absent & ~outside,
        "counter_reset": _touches(curve, ~edges.known & ~edges.covered, queries) & ~absent,
        "warmup": ~queries.counted,
        "below_baseline": shares.clipped_j > 0.01 * np.maximum(joules, 1e-12),
        **conditions,
    }
    return QueryEnergy(
        joules=np.where(absent, nan, joules),
        joules_low=np.where(absent, nan, low),
        joules_high=np.where(absent, nan, high),
        net_joules=np.where(absent | ~has_idle, nan, shares.active_j),
        idle_joules=np.where(absent | ~has_idle, nan, shares.idle_j),
        prefill_joules=np.where(absent | ~phases, nan, shares.prefill_j),
        decode_joules=np.where(absent | ~phases, nan, shares.decode_j),
        coverage=np.where(queries.usable, coverage, 0.0),
        flags=query_flags(conditions, len(queries)),
    )


def share_bounds(
    curve: EnergyCurve,
    queries: CleanQueries,
    shares: Shares,
    joules: Float64,
    alpha: AlphaError | None = None,
) -> tuple[Float64, Float64]:
    """99 % bounds of each query's joules.

    The error of E at the query's own start and end enters with the share it had there, that at the events of
    others with the change it made to the share, that of alpha with what it moves between queries. For a query
    alone these are the bounds of its window.
    """
    start, end = queries.start_s, np.maximum(queries.end_s, queries.start_s)
    (head_low, head_high), (tail_low, tail_high) = shares.start_error_j, shares.end_error_j
    if curve.spread is not None:
        down = np.sqrt(head_low**2 + tail_low**2 + shares.noise_j**2)
        up = np.sqrt(head_high**2 + tail_high**2 + shares.noise_j**2)
    else:
        down, up = head_low + tail_low + shares.noise_j, head_high + tail_high + shares.noise_j
    if alpha is not None:
        join = np.add if alpha.conceivable else np.hypot
        down, up = join(down, alpha.low_j), join(up, alpha.high_j)
    unsure, missing_s = curve.unsure_between(start, end)
    part = np.clip(joules / np.maximum(curve.at(end) - curve.at(start), 1e-300), 0.0, 1.0)
    share = np.maximum(part, shares.largest_share)
    missing_j = np.where(missing_s > 0, curve.ceiling_w * missing_s, 0.0)
    gain = curve.edges.gain_error
    low = np.maximum(joules - down - share * unsure, 0.0) * (1 - gain)
    high = np.minimum(
        (joules + up + share * unsure + missing_j) * (1 + gain), curve.ceiling_w * (end - start)
    )
    return np.minimum(low, joules), np.maximum(high, joules)


def _touches(curve: EnergyCurve, marked: Bool, queries: CleanQueries) -> Bool:
    """Which queries overlap a marked interval of the instrument."""
    if not marked.any():
        return np.zeros(len(queries), bool)
    before = np.append(0, np.cumsum(marked))
    last = len(marked) - 1
    lo = np.clip(np.searchsorted(curve.edges.t_s, queries.start_s, side="right") - 1, 0, last)
    hi = np.clip(np.searchsorted(curve.edges.t_s, queries.end_s, side="left"), 1, last + 1)
    return before[np.maximum(hi, lo + 1)] > before[lo]


def with_check(rows: QueryEnergy, joules: Float64, disagrees: Bool) -> QueryEnergy:
    """Add the other measure's joules to the rows, and the flag where the two cannot both be right."""
    flags = [
        (*own, "counter_disagrees") if differs else own
        for own, differs in zip(rows.flags, disagrees.tolist(), strict=True)
    ]
    return replace(rows, flags=flags, cross_check_joules=joules)
