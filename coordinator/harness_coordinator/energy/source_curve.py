"""From the polls of one source to its curve E(t): which measure, which edges, what shape inside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from harness_coordinator.energy.activity import Activity, activity_of
from harness_coordinator.energy.counter import find_changes, find_resolution
from harness_coordinator.energy.curve import EnergyCurve, linear_curve
from harness_coordinator.energy.edges import Edges, extend_to
from harness_coordinator.energy.frames import frame_edges
from harness_coordinator.energy.intake import CleanQueries, CleanSamples
from harness_coordinator.energy.load_model import (
    FEWEST_OBSERVATIONS,
    Observations,
    explained_held_out,
    fit_lag,
    fit_levels,
)
from harness_coordinator.energy.power import (
    STATED_GAIN_ERROR,
    UNSEEN_TIME,
    Readings,
    averaged_edges,
    read_updates,
    trapezoid_edges,
    unseen_share,
)
from harness_coordinator.energy.records import NAN, BadSamplesError, SourceTraits
from harness_coordinator.energy.seen_power import SHORTEST_WINDOW_S, fit_seen, observed, seen_curve
from harness_coordinator.energy.shape import shape_curve
from harness_coordinator.energy.ticks import edges_at_ticks

CEILING_MARGIN = 1.5
"""Power over its limit that a device may draw for a moment, as a factor: an H200 limited to 700 W was seen at 957 W
over 25 ms and at 819 W over 100 ms (docs/hardware-runs.md)."""
CEILING_UNSTATED = 2.0
"""Largest power inside an interval where no limit is known, in units of the largest interval mean seen."""
FLOOR_MARGIN = 0.5
"""Least power inside an interval, in units of the smallest interval mean seen."""
CLEARLY_EXPLAINED = 0.25
"""Share of the held-out variance above which the queries are taken to shape the power."""
EVERYTHING = (-math.inf, math.inf)
LAG_REACH_S = 0.1
"""Stamps further than this from the device's work are another fault than lag."""


@dataclass(frozen=True, slots=True)
class SourceCurve:
    """A curve and how it came about."""

    curve: EnergyCurve
    kind: str
    """`counter`, `power`, `frame` or `estimated`: what was integrated."""
    inside: str
    flags: tuple[str, ...] = ()
    lag_s: float = NAN
    lag_standard_error_s: float = NAN
    explained: float = NAN
    levels: tuple[tuple[str, float], ...] = ()
    activity: Activity | None = None
    seen: Observations | None = None
    """What the instrument saw, for fitting; on its own clock."""
    seen_lag_s: float = 0.0
    """The load at time t of `seen` is the activity at t plus this."""


def choose_kind(traits: SourceTraits, samples: CleanSamples, method: str) -> tuple[str, tuple[str, ...]]:
    """Say which measure of a source to integrate: its counter where it has a believable one, else its power.

    Raises:
        BadSamplesError: the asked-for measure is not in the samples, or there is none at all.
    """
    has_counter = np.count_nonzero(~np.isnan(samples.energy_j)) >= 2
    has_power = np.count_nonzero(~np.isnan(samples.power_w)) >= 1
    where = f"source {traits.source_id or 'without a name'}"
    if method == "counter" and not has_counter:
        raise BadSamplesError(f"{where} has fewer than two energy readings; use method power or auto")
    if method == "power" and not has_power:
        raise BadSamplesError(f"{where} has no power reading; use method counter or auto")
    if not has_counter and not has_power:
        raise BadSamplesError(f"{where} has no usable energy or power reading in {len(samples.t_s)} samples")
    if method == "power" or not has_counter:
        return "power", ()
    if method == "auto" and has_power:
        reading = samples.energy_j[~np.isnan(samples.energy_j)]
        if (reading == reading[0]).all():
            return "power", ("counter_frozen",)
        if _contradicts(samples):
            return "power", ("counter_rejected",)
    framed = bool(len(samples.interval_s)) and bool((samples.interval_s > 0).any())
    return ("frame" if framed else "counter"), ()


def _contradicts(samples: CleanSamples) -> bool:
    """Whether counter and power differ by more than a factor of ten (frozen or mis-scaled counters exist)."""
    step = np.diff(samples.energy_j)
    counted = float(np.nansum(np.where(step > 0, step, 0.0)))
    both = ~np.isnan(samples.power_w)
    if np.count_nonzero(both) < 2:
        return False
    t_s, power_w = samples.t_s[both], samples.power_w[both]
    length = float(t_s[-1] - t_s[0])
    integrated = float(np.trapezoid(power_w, t_s))
    if length < 1.0 or integrated <= 0:
        return False
    return not 0.1 < counted / integrated < 10.0


def build_edges(traits: SourceTraits, samples: CleanSamples, kind: str) -> Edges:
    """Edges of a counter or of frames; at least two.

    Raises:
        BadSamplesError: fewer than two edges: there is nothing to integrate between.
    """
    if kind == "frame":
        return frame_edges(samples)
    changes = find_changes(samples, traits.counter_wrap_j, computed=traits.energy_source == "estimated")
    if len(changes) < 2:
        raise _too_few(traits, samples, kind)
    stated = traits.counter_resolution_j
    resolution_j = stated if stated >= 0 else find_resolution(samples)
    edges = edges_at_ticks(changes, traits.counter_period_s, resolution_j)
    if traits.gain_error >= 0:
        edges = replace(edges, gain_error=traits.gain_error)
    return extend_to(edges, changes.last_poll_s)


def build_power_edges(traits: SourceTraits, samples: CleanSamples) -> tuple[Edges, Readings]:
    """Edges of a power sensor, and its readings; at least two.

    Raises:
        BadSamplesError: fewer than two readings.
    """
    readings = read_updates(samples, traits.power_period_s)
    if len(readings.t_s) < 2:
        raise _too_few(traits, samples, "power")
    gain_error = traits.gain_error if traits.gain_error >= 0 else STATED_GAIN_ERROR
    if averages_its_period(traits.averaging_s, readings):
        edges = averaged_edges(readings, gain_error)
    else:
        unseen = traits.unseen_share
        if not unseen >= 0:
            unseen = unseen_share(traits.averaging_s, readings.period_s)
        edges = trapezoid_edges(readings, traits.averaging_s, gain_error, unseen)
    return extend_to(edges, readings.last_poll_s), readings


def averages_its_period(averaging_s: float, readings: Readings) -> bool:
    """Whether each reading is the mean over just the time since the one before: then nothing goes unseen."""
    return readings.locked and abs(averaging_s / readings.period_s - 1) < 0.1


def _too_few(traits: SourceTraits, samples: CleanSamples, kind: str) -> BadSamplesError:
    return BadSamplesError(
        f"source {traits.source_id or 'without a name'}: its {kind} changed fewer than two times in "
        f"{len(samples.t_s)} samples, so no energy can be told; record for longer"
    )


def power_limits(edges: Edges, max_power_w: float) -> tuple[float, float]:
    """Least and largest power that the device can have had at any moment, W."""
    length = np.diff(edges.t_s)
    slack = edges.slack_s[1:] + edges.slack_s[:-1]
    energy = np.diff(edges.energy_j)
    sure = edges.known & edges.covered
    if not sure.any():
        sure = np.ones(len(length), bool)
    floor = FLOOR_MARGIN * float((energy / (length + slack))[sure].min())
    sharp = sure & (slack < 0.1 * length)
    if sharp.any():
        largest = float((energy / length)[sharp].max())
    else:
        # Edges that may lie anywhere between two polls make single intervals look hot: take eight together.
        together = min(8, len(length))
        run = np.arange(len(length) - together + 1)
        largest = float(
            (
                (edges.energy_j[run + together] - edges.energy_j[run])
                / (edges.t_s[run + together] - edges.t_s[run])
            ).max()
        )
        largest = max(largest, float(np.median((energy / length)[sure])))
    stated = CEILING_MARGIN * max_power_w if max_power_w > 0 else CEILING_UNSTATED * largest
    return floor, max(stated, largest)


def bound_guesses(edges: Edges, floor_w: float, ceiling_w: float) -> Edges:
    """Let an interval whose energy is a guess be off by as much as the limits of power allow."""
    if edges.known.all():
        return edges
    length, energy = np.diff(edges.t_s), np.diff(edges.energy_j)
    widest = np.maximum(energy - floor_w * length, ceiling_w * length - energy)
    return replace(edges, spread_j=np.where(edges.known, edges.spread_j, np.maximum(widest, edges.spread_j)))


def build_curve(
    traits: SourceTraits,
    samples: CleanSamples,
    kind: str,
    queries: CleanQueries,
    inside: str = "auto",
    told_s: tuple[float, float] = EVERYTHING,
) -> SourceCurve:
    """Make E(t) of one measure of a source.

    Args:
        traits: what is known of the source.
        samples: its cleaned polls.
        kind: as `choose_kind` said.
        queries: when the engine worked.
        inside: `linear`, `shape`, or `auto` for shape where the queries explain held-out intervals clearly.
        told_s: from when to when the queries tell all that the device did; what it did outside (an engine that
            loads, compiles and warms its caches) teaches nothing about them.
    """
    if kind == "power":
        edges, readings = build_power_edges(traits, samples)
    else:
        edges, readings = build_edges(traits, samples, kind), None
    floor_w, ceiling_w = power_limits(edges, traits.max_power_w)
    edges = bound_guesses(edges, floor_w, ceiling_w)
    curve = linear_curve(samples.origin_ns, edges, floor_w, ceiling_w)
    straight = SourceCurve(curve, kind, "linear", edges.flags)
    activity = activity_of(queries)
    if activity is None:
        return straight
    straight = replace(straight, activity=activity)
    if readings is not None and not averages_its_period(traits.averaging_s, readings):
        return _seen(straight, activity, readings, traits.averaging_s, inside, told_s)
    return _shaped(straight, activity, inside, told_s)


def _shaped(
    straight: SourceCurve, activity: Activity, inside: str, told_s: tuple[float, float]
) -> SourceCurve:
    """Bend a curve whose intervals hold measured energy to the load, where the load explains it."""
    edges = straight.curve.edges
    told = (edges.t_s[:-1] >= told_s[0]) & (edges.t_s[1:] <= told_s[1])
    sure = edges.known & edges.covered & told
    seen = Observations(edges.t_s[:-1][sure], edges.t_s[1:][sure], np.diff(edges.energy_j)[sure]).thinned()
    straight = replace(straight, seen=seen)
    if inside == "linear" or len(seen) < FEWEST_OBSERVATIONS:
        return straight
    lag_s, lag_error_s = fit_lag(activity, seen, LAG_REACH_S)
    explained = explained_held_out(activity, seen, lag_s)
    if inside == "auto" and explained < CLEARLY_EXPLAINED:
        return replace(straight, explained=explained)
    model, _ = fit_levels(activity, seen, lag_s)
    return replace(
        straight,
        curve=shape_curve(straight.curve, activity, model, lag_error_s, told=told),
        inside="shape",
        lag_s=lag_s,
        seen_lag_s=lag_s,
        lag_standard_error_s=lag_error_s,
        explained=explained,
        levels=model.named(),
    )


def _seen(
    straight: SourceCurve,
    activity: Activity,
    readings: Readings,
    averaging_s: float,
    inside: str,
    told_s: tuple[float, float],
) -> SourceCurve:
    """Integrate the load fitted to what a power sensor saw, where the load explains it.

    The sensor's delay and the stamps' lag cannot be told apart; the curve is on the clock of the stamps.
    """
    if len(readings.t_s) < FEWEST_OBSERVATIONS:
        return straight
    if inside == "linear":
        assumed_s = averaging_s if averaging_s > 0 else SHORTEST_WINDOW_S
        return replace(straight, seen=observed(readings, assumed_s).thinned())
    told = readings.between(*told_s)
    if len(told.t_s) < FEWEST_OBSERVATIONS:
        return straight
    fit = fit_seen(activity, told, averaging_s)
    straight = replace(straight, seen=observed(told, fit.window_s).thinned(), seen_lag_s=fit.model.lag_s)
    if inside == "auto" and not (fit.explained >= CLEARLY_EXPLAINED and fit.beats_lines):
        return replace(straight, explained=fit.explained)
    return replace(
        straight,
        curve=seen_curve(straight.curve, activity, readings, fit, told_s),
        inside="shape",
        flags=tuple(flag for flag in straight.flags if flag != UNSEEN_TIME),
        lag_standard_error_s=fit.lag_error_s,
        explained=fit.explained,
        levels=(*fit.model.named(), ("sensor_window_s", fit.window_s), ("sensor_lag_s", fit.model.lag_s)),
    )
