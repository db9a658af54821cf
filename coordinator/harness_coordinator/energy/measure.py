"""The facade: one source's samples and queries in, conserved joules with bounds out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness_coordinator.energy.alpha import Alpha, fit_alpha
from harness_coordinator.energy.alpha_error import alpha_error
from harness_coordinator.energy.baseline import BaselineLine, measure_baselines
from harness_coordinator.energy.conserve import check_conservation
from harness_coordinator.energy.cross_check import cross_check
from harness_coordinator.energy.flags import throttle_flags
from harness_coordinator.energy.intake import NS, Bool, CleanQueries, clean_queries, clean_samples, seconds
from harness_coordinator.energy.power import UNSEEN_TIME
from harness_coordinator.energy.records import (
    BadSamplesError,
    QueryColumns,
    SampleColumns,
    SourceEnergy,
    SourceTraits,
)
from harness_coordinator.energy.rows import query_rows, with_check
from harness_coordinator.energy.segments import METHODS, make_segments
from harness_coordinator.energy.source_curve import EVERYTHING, SourceCurve, build_curve, choose_kind
from harness_coordinator.energy.sweep import cut_time, share_energy

ATTRIBUTIONS = METHODS
KINDS = ("auto", "counter", "power")
INSIDES = ("auto", "shape", "linear")


def measure_source(
    traits: SourceTraits,
    samples: SampleColumns,
    queries: QueryColumns,
    window_ns: tuple[int, int],
    baseline_windows_ns: Sequence[tuple[int, int]] = (),
    *,
    attribution: str = "tokens",
    method: str = "auto",
    inside: str = "auto",
    alpha: float | None = None,
    activity: QueryColumns | None = None,
) -> SourceEnergy:
    """Measure what one source used over a run and divide it among the queries of the run.

    Args:
        traits: what is known of the source.
        samples: its polls, in any order; those around the run make its edges sharp.
        queries: all queries that were in flight during the run, warm-ups included.
        window_ns: start and end of the run; its energy is what is divided.
        baseline_windows_ns: times with the model loaded and nothing in flight.
        attribution: `tokens`, `time` or `exclusive`.
        method: `counter`, `power`, or `auto` for the counter where it is believable.
        inside: `shape` lets energy inside an update period follow the queries, `linear` does not, `auto`
            does where the queries explain the measured energies.
        alpha: output tokens that a prompt token counts for; fitted when None.
        activity: when the engine worked, where that is not told by `queries` (windows to be integrated, say);
            the windows are then taken at their own times, whatever the lag of the activity's stamps.

    Returns:
        Joules of the source and of each query, aligned with `queries`.

    Raises:
        BadSamplesError: there is nothing to integrate, a column has the wrong length, or an argument has no
            such value.
        ConservationError: the parts do not add up to the whole.
    """
    _check_arguments(window_ns, attribution, method, inside)
    clean = clean_samples(samples)
    kind, kind_flags = choose_kind(traits, clean, method)
    stamped = clean_queries(queries, clean.origin_ns)
    loads = stamped if activity is None else clean_queries(activity, clean.origin_ns)
    source = build_curve(
        traits, clean, kind, loads, inside, _told(baseline_windows_ns, loads, clean.origin_ns)
    )
    curve = source.curve
    asked = stamped.earlier_by(source.lag_s) if activity is None else stamped
    baselines, baseline_flags = measure_baselines(curve, baseline_windows_ns)
    line = BaselineLine.through(baselines, clean.origin_ns)
    weight = _alpha(alpha, attribution, source, loads, asked)
    window_s = (window_ns[0] - clean.origin_ns) * NS, (window_ns[1] - clean.origin_ns) * NS
    segments = make_segments(asked, attribution, weight.value)
    cut = cut_time(curve, segments, window_s, line)
    shares = share_energy(curve, segments, len(asked), window_s, line, own_stamps=activity is None, cut=cut)
    _, device_low, device_high = (float(x) for x in curve.window_j(*(np.array(edge) for edge in window_ns)))
    conditions = _conditions(queries, asked, samples, clean.origin_ns, attribution)
    if attribution == "exclusive":
        conditions["overlap"] = _overlapping(asked)
    if UNSEEN_TIME in source.flags:
        conditions[UNSEEN_TIME] = asked.usable
    moved = alpha_error(cut, asked, shares, weight) if attribution == "tokens" else None
    if moved is not None and moved.conceivable:
        conditions["alpha_default"] = moved.low_j + moved.high_j > 0
    rows = query_rows(
        curve, asked, shares, window_s=window_s, baseline=line, conditions=conditions, alpha=moved
    )
    check = None
    if kind == "counter" and np.count_nonzero(~np.isnan(clean.power_w)) >= 2:
        # A sensor that nobody knows anything of is taken to see everything here: else no lie would ever show.
        unseen = traits.unseen_share if traits.averaging_s >= 0 else 0.0
        power_traits = replace(traits, energy_source="power", unseen_share=unseen)
        beside = build_curve(power_traits, clean, "power", loads, "linear").curve
        other = share_energy(beside, segments, len(asked), window_s, line)
        check = cross_check(
            beside, asked, other, window_s=window_s, device=(device_low, device_high), first=rows
        )
        rows = with_check(rows, check.joules, check.disagrees)
    given = np.nan_to_num(rows.joules)
    attributed = float(given[asked.counted].sum())
    unattributed = shares.unattributed_j + float(given[~asked.counted].sum())
    check_conservation(shares.device_j, attributed, unattributed, f"source {traits.source_id}")
    coverage = float(curve.coverage(np.array(window_ns[0]), np.array(window_ns[1])))
    name = "estimated" if traits.energy_source == "estimated" else kind
    return SourceEnergy(
        source_id=traits.source_id,
        scope=traits.scope,
        energy_source=name,
        method=f"{name}-{source.inside}",
        attribution=attribution,
        start_ns=window_ns[0],
        end_ns=window_ns[1],
        device_joules=shares.device_j,
        device_joules_low=device_low,
        device_joules_high=device_high,
        attributed_joules=attributed,
        unattributed_joules=unattributed,
        coverage=coverage,
        baselines=tuple(baselines),
        alpha=weight.value if attribution == "tokens" else math.nan,
        alpha_standard_error=weight.standard_error,
        flags=_run_flags(
            clean.flags,
            kind_flags,
            source.flags,
            baseline_flags,
            ("alpha_default",) if attribution == "tokens" and alpha is None and weight.assumed else (),
            ("counter_disagrees",) if check is not None and check.device_disagrees else (),
            baseline=line is not None,
            estimated=name == "estimated",
            gap=coverage < 1,
            outside=window_s[0] < curve.edges.t_s[0] or window_s[1] > curve.edges.t_s[-1],
        ),
        queries=rows,
        cross_check_joules=math.nan if check is None else check.device_j,
        cross_check_method="" if check is None else "power-linear",
        period_s=curve.edges.period_s,
        lag_s=source.lag_s,
        lag_standard_error_s=source.lag_standard_error_s,
        load_levels=source.levels,
        explained=source.explained,
    )


def _told(
    baseline_windows_ns: Sequence[tuple[int, int]], loads: CleanQueries, origin_ns: int
) -> tuple[float, float]:
    """From when to when the queries tell all that the device did: from the first baseline or query to the last.

    Before that an engine loads, compiles and warms its caches, after it it is taken down. Without a baseline nothing
    tells where that ends, and all that was recorded counts.
    """
    if not baseline_windows_ns or not loads.usable.any():
        return EVERYTHING
    edges_s = (np.array(baseline_windows_ns, np.int64) - origin_ns) * NS
    start_s, end_s = loads.start_s[loads.usable], loads.end_s[loads.usable]
    return float(min(edges_s.min(), start_s.min())), float(max(edges_s.max(), end_s.max()))


def _alpha(
    given: float | None, attribution: str, source: SourceCurve, loads: CleanQueries, asked: CleanQueries
) -> Alpha:
    if attribution != "tokens":
        return Alpha(math.nan)
    if given is not None:
        return Alpha(given)
    known = int(np.count_nonzero(np.isfinite(loads.output_tokens) & np.isfinite(loads.prompt_tokens)))
    if not known and not np.isfinite(asked.output_tokens).any():
        return Alpha(math.nan)
    return fit_alpha(source.activity, source.seen, known, source.seen_lag_s)


def _check_arguments(window_ns: tuple[int, int], attribution: str, method: str, inside: str) -> None:
    for what, value, known in (
        ("attribution", attribution, ATTRIBUTIONS),
        ("method", method, KINDS),
        ("inside", inside, INSIDES),
    ):
        if value not in known:
            raise BadSamplesError(f"{what} is {value!r}; it must be one of {', '.join(known)}")
    if window_ns[1] < window_ns[0]:
        raise BadSamplesError(f"the run ends at {window_ns[1]} ns before it starts at {window_ns[0]} ns")


def _conditions(
    queries: QueryColumns, asked: CleanQueries, samples: SampleColumns, origin_ns: int, attribution: str
) -> dict[str, Bool]:
    """Flags that come of the query's own stamps and of the polls during it."""
    known = np.isfinite(asked.prompt_tokens) & np.isfinite(asked.output_tokens)
    conditions: dict[str, Bool] = {
        "first_token_outside": (np.asarray(queries.first_token_ns) != 0)
        & ~np.isfinite(asked.first_s)
        & asked.usable
    }
    if attribution == "tokens" and known.any():
        conditions["tokens_unknown"] = ~known
    if len(samples.throttle_bits):
        poll_s = seconds(samples.t_ns, origin_ns)
        conditions |= throttle_flags(poll_s, samples.throttle_bits, asked.start_s, asked.end_s)
    return conditions


def _overlapping(asked: CleanQueries) -> Bool:
    """Which queries were in flight together with another one."""
    start, end = np.sort(asked.start_s[asked.usable]), np.sort(asked.end_s[asked.usable])
    begun = np.searchsorted(start, asked.end_s, side="left")
    ended = np.searchsorted(end, asked.start_s, side="right")
    return asked.usable & (begun - ended > 1)


def _run_flags(
    *groups: Sequence[str], baseline: bool, estimated: bool, gap: bool, outside: bool
) -> tuple[str, ...]:
    flags = [flag for group in groups for flag in group]
    if not baseline:
        flags.append("no_baseline")
    if estimated:
        flags.append("estimated")
    if outside:
        flags.append("outside_samples")
    elif gap:
        flags.append("gap")
    return tuple(dict.fromkeys(flags))
