"""Sharing a device's energy among the queries in flight, exactly.

Time is cut at every event. In piece k, of device energy e_k, with n_k queries in flight of total weight rate
W_k and idle energy i_k = min(baseline x length, e_k),

    active share of query q = w_q (e_k - i_k) / W_k          idle share = i_k / n_k

and with the running sums C = sum (e_k - i_k) / W_k and D = sum i_k / n_k a stretch of constant weight from
piece a to piece b gets w (C_b - C_a) + D_b - D_a: O((n + m) log n) for any concurrency. Where nobody in flight
produces tokens (W_k = 0: all wait), the active part is shared equally, as the idle part is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.baseline import BaselineLine
from harness_coordinator.energy.curve import EnergyCurve
from harness_coordinator.energy.records import Float64, Int64
from harness_coordinator.energy.segments import Segments

LARGEST_TO_TYPICAL_RATE = 1e3
"""A rate beyond this multiple of the median comes of a vanishing phase and is cut, to keep weights exact."""
SMALLEST_TO_LARGEST_RATE = 1e-5
"""A rate below this share of the largest counts as zero: the running sums keep 1e-9 only over such a range."""


@dataclass(frozen=True, slots=True)
class Shares:
    """What each of n queries got, J, and what nobody did."""

    active_j: Float64
    idle_j: Float64
    prefill_j: Float64
    decode_j: Float64
    clipped_j: Float64
    """Idle energy that was not there: baseline x time beyond what the device used, per query."""
    noise_j: Float64
    """99 % error of the share from the events of others inside the query, J."""
    start_error_j: tuple[Float64, Float64]
    """How much too low and too high the share may be because of E at the query's start, J."""
    end_error_j: tuple[Float64, Float64]
    """The same for E at its end."""
    largest_share: Float64
    """The larger of its shares of the device's power just after its start and just before its end."""
    unattributed_j: float
    device_j: float
    overlap_s: float
    """Time during which more than one query was in flight, s."""


@dataclass(frozen=True, slots=True)
class TimeCut:
    """A window cut at every event: m + 1 times, m pieces, s stretches that begin and end at times of the cut."""

    times_s: Float64
    first: Int64
    """s: at which time each stretch begins."""
    last: Int64
    in_flight: Float64
    """m: how many stretches are open."""
    energy_j: Float64
    idle_j: Float64
    """m: idle energy, never more than the piece holds."""
    idle_due_j: Float64
    """m: baseline times length."""


def share_energy(
    curve: EnergyCurve,
    segments: Segments,
    count: int,
    window_s: tuple[float, float],
    baseline: BaselineLine | None,
    *,
    own_stamps: bool = True,
    with_errors: bool = True,
    cut: TimeCut | None = None,
) -> Shares:
    """Divide the energy of a window among queries by the weights of their segments.

    Idle energy is taken out of a piece before its weights apply, but never more than the piece holds: so no
    query gets negative joules, and gross still adds up to the device. Energy of pieces with no query in
    flight is unattributed.

    Args:
        curve: energy of the source.
        segments: weighted stretches of the queries; only what lies in the window counts.
        count: number of queries n.
        window_s: start and end, s after the curve's origin.
        baseline: idle power; None leaves everything active (idle shares are then zero).
        with_errors: False leaves the errors zero, for whoever needs none and is in a hurry.
        own_stamps: whether the segments carry the engine's stamps, whose scatter then adds to the errors.
        cut: what `cut_time` made of the same window and stretches, where that was done before.
    """
    begin, finish = window_s
    if not finish > begin:
        return _nothing(count)
    cut = cut or cut_time(curve, segments, window_s, baseline)
    times, first, last, size = cut.times_s, cut.first, cut.last, len(cut.times_s)
    in_flight, energy, idle = cut.in_flight, cut.energy_j, cut.idle_j
    busy = in_flight > 0
    weight, total, active = _divide(cut, segments.rate)
    weighted = total > 0
    per_query = np.divide(1.0, in_flight, out=np.zeros(size - 1), where=busy)
    idle_sum = np.append(0.0, np.cumsum(idle * per_query))
    idle_share = idle_sum[last] - idle_sum[first]
    clipped_sum = np.append(0.0, np.cumsum((cut.idle_due_j - idle) * per_query))
    whole = active + idle_share
    prefill = segments.prefill
    per = _Totals(segments.query, count)
    below, above = curve.slack_j(times) if with_errors else (np.zeros(size), np.zeros(size))
    if with_errors and own_stamps and curve.spread is not None and curve.spread.stamp_s > 0:
        stamp_j = curve.stamp_error_j(times)
        below, above = np.hypot(below, stamp_j), np.hypot(above, stamp_j)
    weight_share = np.divide(1.0, total, out=np.zeros(size - 1), where=weighted)
    equal_share = np.where(weighted, 0.0, per_query)
    opening, closing = np.minimum(first, size - 2), np.maximum(last - 1, 0)
    at_start = np.minimum(weight * weight_share[opening] + equal_share[opening], 1.0)
    at_end = np.minimum(weight * weight_share[closing] + equal_share[closing], 1.0)
    noise = _noise_inside(weight, weight_share, np.maximum(below, above), first, last)
    return Shares(
        active_j=per.sum(active),
        idle_j=per.sum(idle_share),
        prefill_j=per.sum(np.where(prefill, whole, 0.0)),
        decode_j=per.sum(np.where(prefill, 0.0, whole)),
        clipped_j=per.sum(clipped_sum[last] - clipped_sum[first]),
        noise_j=np.sqrt(per.sum(noise)),
        start_error_j=(per.first(at_start * above[first]), per.first(at_start * below[first])),
        end_error_j=(per.last(at_end * below[last]), per.last(at_end * above[last])),
        largest_share=np.maximum(per.first(at_start), per.last(at_end)),
        unattributed_j=float(energy[~busy].sum()),
        device_j=float(curve.at(np.array(finish)) - curve.at(np.array(begin))),
        overlap_s=float(np.diff(times)[in_flight > 1].sum()),
    )


def cut_time(
    curve: EnergyCurve, segments: Segments, window_s: tuple[float, float], baseline: BaselineLine | None
) -> TimeCut:
    """Cut a window at every event of the segments; nothing of it depends on their weights.

    Args:
        curve: energy of the source.
        segments: stretches of the queries.
        window_s: start and end, s after the curve's origin.
        baseline: idle power; None leaves everything active.
    """
    begin, finish = window_s
    start, end = np.clip(segments.start_s, begin, finish), np.clip(segments.end_s, begin, finish)
    times, place = np.unique(np.concatenate([start, end, [begin, finish]]), return_inverse=True)
    size = len(times)
    first, last = place[: len(start)], place[len(start) : 2 * len(start)]
    energy = np.diff(curve.at(times))
    idle_due = np.diff(baseline.energy_at(times)) if baseline else np.zeros(size - 1)
    in_flight = _running(first, last, None, size)
    return TimeCut(times, first, last, in_flight, energy, np.minimum(idle_due, energy), idle_due)


def active_shares(cut: TimeCut, segments: Segments, count: int) -> Float64:
    """Active energy of each of `count` queries when the same stretches have other weights, J."""
    return _Totals(segments.query, count).sum(_divide(cut, segments.rate)[2])


def _divide(cut: TimeCut, rate: Float64) -> tuple[Float64, Float64, Float64]:
    """Weight of each stretch, the sum of weights in each piece, and the active energy of each stretch, J."""
    size, first, last = len(cut.times_s), cut.first, cut.last
    # Stretches that lie outside the window have no length in it. All at one time, their weights would add up to more
    # than a float holds exactly, and leave a rest where nobody has weight: energy that nobody got.
    weight = np.where(first < last, _whole_weights(rate, int(cut.in_flight.max(initial=0))), 0.0)
    total = _running(first, last, weight, size)
    weighted = total > 0
    active_j = cut.energy_j - cut.idle_j
    per_weight = np.divide(active_j, total, out=np.zeros(size - 1), where=weighted)
    waiting = (cut.in_flight > 0) & ~weighted
    shared = np.divide(active_j, cut.in_flight, out=np.zeros(size - 1), where=waiting)
    weighted_sum, shared_sum = (np.append(0.0, np.cumsum(part)) for part in (per_weight, shared))
    active = weight * (weighted_sum[last] - weighted_sum[first]) + shared_sum[last] - shared_sum[first]
    return weight, total, active


def _nothing(count: int) -> Shares:
    zero = np.zeros(count)
    return Shares(zero, zero, zero, zero, zero, zero, (zero, zero), (zero, zero), zero, 0.0, 0.0, 0.0)


def _running(first: Int64, last: Int64, weight: Float64 | None, size: int) -> Float64:
    """Sum of the weights (or the number) of the stretches open in each of the size - 1 pieces."""
    opened = np.bincount(first, weight, size)
    closed = np.bincount(last, weight, size)
    return np.cumsum(opened - closed)[:-1].astype(np.float64)


def _whole_weights(rate: Float64, most_in_flight: int) -> Float64:
    """Weights as whole numbers whose sums stay below 2^53, so that running sums of them are exact."""
    if not len(rate):
        return rate
    positive = rate[rate > 0]
    if not len(positive):
        return np.zeros(len(rate))
    largest = min(float(rate.max()), LARGEST_TO_TYPICAL_RATE * float(np.median(positive)))
    scale = 2.0 ** (52 - int(np.ceil(np.log2(most_in_flight + 1))))
    relative = np.minimum(rate / largest, 1.0)
    return np.where(relative < SMALLEST_TO_LARGEST_RATE, 0.0, np.rint(relative * scale))


def _noise_inside(
    weight: Float64, weight_share: Float64, slack_j: Float64, first: Int64, last: Int64
) -> Float64:
    """Variance of each stretch's energy from the events inside it, J^2.

    A query's joules are a sum over events of E(t_j) times the change of its share there; errors of E at
    different events are taken as independent.
    """
    change = np.append(np.diff(weight_share), 0.0)
    slack = np.where(np.isfinite(slack_j[1:]), slack_j[1:], 0.0)
    variance = np.append(0.0, np.cumsum((change * slack) ** 2))
    inside_end = np.maximum(last - 1, first)
    return weight**2 * np.maximum(variance[inside_end] - variance[first], 0.0)


@dataclass(frozen=True, slots=True)
class _Totals:
    """Sums segments up to their queries."""

    query: Int64
    count: int

    def sum(self, value: Float64) -> Float64:
        return np.bincount(self.query, value, self.count).astype(np.float64)

    def first(self, value: Float64) -> Float64:
        """Value of each query's earliest segment; its segments stand in the order of time."""
        out = np.zeros(self.count)
        out[self.query[::-1]] = value[::-1]
        return out

    def last(self, value: Float64) -> Float64:
        """Value of each query's latest segment."""
        out = np.zeros(self.count)
        out[self.query] = value
        return out
