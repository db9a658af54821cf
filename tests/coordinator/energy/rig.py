"""The truth rig: devices whose power is known at every moment, engines that load them, sensors that watch them.

Everything the energy code is told comes through the sensors and stamps; everything it must find is known exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from harness_coordinator.energy.baseline import BaselineLine
from harness_coordinator.energy.curve import EnergyCurve, linear_curve
from harness_coordinator.energy.edges import Edges
from harness_coordinator.energy.intake import clean_queries, clean_samples
from harness_coordinator.energy.measure import measure_source
from harness_coordinator.energy.records import (
    Float64,
    Int64,
    QueryColumns,
    SampleColumns,
    SourceEnergy,
    SourceTraits,
)
from harness_coordinator.energy.segments import make_segments
from harness_coordinator.energy.source_curve import build_curve, choose_kind
from harness_coordinator.energy.sweep import share_energy
from numpy.typing import ArrayLike

ORIGIN_NS = 7_200_000_000_000
"""A monotonic clock does not begin at zero."""


def ns(t_s: ArrayLike) -> Int64:
    """Seconds of the rig as ns of the agent's clock."""
    return np.rint(np.asarray(t_s) * 1e9).astype(np.int64) + ORIGIN_NS


@dataclass(frozen=True)
class Truth:
    """Power that is constant between instants: `power_w[i]` from `t_s[i]` to `t_s[i + 1]`."""

    t_s: Float64
    power_w: Float64
    _energy_j: Float64 = field(init=False)

    def __post_init__(self) -> None:
        energy = np.append(0.0, np.cumsum(self.power_w * np.diff(self.t_s)))
        object.__setattr__(self, "_energy_j", energy)

    def energy(self, t_s: Float64) -> Float64:
        """Energy used until each time, J."""
        return np.interp(t_s, self.t_s, self._energy_j)

    def window(self, start_s: Float64, end_s: Float64) -> Float64:
        """Energy used in each window, J."""
        return self.energy(end_s) - self.energy(start_s)

    def power(self, t_s: Float64) -> Float64:
        """Power at each time, W."""
        k = np.clip(np.searchsorted(self.t_s, t_s, side="right") - 1, 0, len(self.power_w) - 1)
        return self.power_w[k]


@dataclass(frozen=True)
class Run:
    """Queries as they were and the power that they caused."""

    truth: Truth
    start_s: Float64
    first_s: Float64
    end_s: Float64
    prompt: Float64
    output: Float64
    length_s: float

    def queries(
        self, late_s: float = 0.0, jitter_s: float = 0.0, rng: np.random.Generator | None = None
    ) -> QueryColumns:
        """What the agent stamped, `late_s` after it happened on the device, give or take `jitter_s`."""
        off = np.zeros((3, len(self.start_s)))
        if rng is not None:
            off = rng.uniform(-jitter_s, jitter_s, off.shape)
        start, first, end = (
            ns(at + late_s + shift)
            for at, shift in zip((self.start_s, self.first_s, self.end_s), off, strict=True)
        )
        return QueryColumns(start, np.clip(first, start, end), end, self.prompt, self.output)


def steps(rng: np.random.Generator, length_s: float, low_w: float = 80.0, high_w: float = 400.0) -> Truth:
    """Random load: steps between low and high lasting 0.03 to 0.9 s."""
    lasting = rng.uniform(0.03, 0.9, int(length_s / 0.465 * 1.5) + 10)
    t_s = np.append(0.0, np.cumsum(lasting))
    t_s = np.append(t_s[t_s < length_s], length_s)
    return Truth(t_s, rng.uniform(low_w, high_w, len(t_s) - 1))


def ramps(length_s: float, low_w: float = 80.0, high_w: float = 400.0, period_s: float = 3.0) -> Truth:
    """A saw tooth, in steps of 1 ms."""
    t_s = np.arange(0, length_s + 5e-4, 1e-3)
    phase = (t_s[:-1] + 5e-4) / period_s % 1.0
    return Truth(t_s, low_w + (high_w - low_w) * np.abs(2 * phase - 1))


def single_queries(
    rng: np.random.Generator,
    count: int,
    idle_w: float = 80.0,
    shortest_s: float = 0.08,
    longest_s: float = 0.7,
    ripple: float = 0.03,
    wander: float = 0.0,
    lead_s: float = 12.0,
) -> Run:
    """Queries one after the other with idle gaps: prefill near the power limit, then decode, each its own level."""
    duration = rng.uniform(shortest_s, longest_s, count)
    pause = rng.uniform(0.05, 0.6, count)
    start = lead_s + np.cumsum(pause + duration) - duration
    prefill_s = duration * rng.uniform(0.05, 0.3, count)
    prompt = np.rint(prefill_s * 8000)
    output = np.rint((duration - prefill_s) * 120) + 1
    level = 1 + ripple * rng.standard_normal(count)
    t_s = [0.0]
    power = []
    for k in range(count):
        t_s += [start[k], start[k] + prefill_s[k], start[k] + duration[k]]
        power += [idle_w, 390 * level[k], 260 * level[k]]
    t_s.append(float(start[-1] + duration[-1] + lead_s))
    power.append(idle_w)
    truth = Truth(np.array(t_s), np.array(power))
    if wander:
        fine_s = np.unique(np.concatenate([truth.t_s, np.arange(0, t_s[-1], 0.01)]))
        fine_w = truth.power((fine_s[1:] + fine_s[:-1]) / 2)
        fine_w = np.where(fine_w > idle_w, fine_w * (1 + wander * rng.standard_normal(len(fine_w))), fine_w)
        truth = Truth(fine_s, np.maximum(fine_w, idle_w / 2))
    return Run(truth, start, start + prefill_s, start + duration, prompt, output, t_s[-1])


def batched_queries(
    rng: np.random.Generator,
    count: int,
    concurrency: int,
    *,
    idle_w: float = 90.0,
    busy_w: float = 110.0,
    prompt_j: float = 0.012,
    output_j: float = 0.05,
    open_loop: bool = False,
    lead_s: float = 12.0,
) -> Run:
    """A continuous-batching engine of known cost: busy power, and so many joules a prompt and an output token.

    Closed loop: `concurrency` clients, each sends its next query when the last ended. Open loop: random arrivals.
    """
    prompt = rng.integers(50, 1500, count).astype(float)
    output = rng.integers(8, 300, count).astype(float)
    prefill_s = prompt / rng.uniform(6000, 9000, count)
    decode_s = output / rng.uniform(60, 110, count)
    if open_loop:
        mean_s = float((prefill_s + decode_s).mean())
        start = lead_s + np.cumsum(rng.exponential(mean_s / concurrency, count))
    else:
        free = np.full(concurrency, lead_s) + rng.uniform(0, 0.3, concurrency)
        start = np.zeros(count)
        for k in range(count):
            client = int(np.argmin(free))
            start[k] = free[client]
            free[client] += prefill_s[k] + decode_s[k] + 0.002
    first = start + prefill_s
    end = first + decode_s
    length_s = float(end.max() + lead_s)
    t_s = np.unique(np.concatenate([[0.0, length_s], start, first, end]))
    middle = (t_s[1:] + t_s[:-1]) / 2

    def rate(begin: Float64, finish: Float64, value: Float64) -> Float64:
        edge = np.searchsorted(t_s, begin), np.searchsorted(t_s, finish)
        delta = np.bincount(edge[0], value, len(t_s)) - np.bincount(edge[1], value, len(t_s))
        return np.cumsum(delta)[:-1].astype(np.float64)

    in_flight = np.rint(rate(start, end, np.ones(count)))
    tokens_w = rate(start, first, prompt_j * prompt / prefill_s) + rate(
        first, end, output_j * output / decode_s
    )
    power = idle_w + np.where(in_flight > 0, busy_w + tokens_w, 0.0)
    assert len(middle) == len(power)
    return Run(Truth(t_s, power), start, first, end, prompt, output, length_s)


def dithered_polls(rng: np.random.Generator, length_s: float, mean_s: float, dither: float = 0.5) -> Float64:
    """Poll times whose distances vary by +- `dither` of their mean."""
    step = mean_s * rng.uniform(1 - dither, 1 + dither, int(length_s / mean_s * 1.2) + 20)
    t_s = np.cumsum(step)
    return t_s[t_s < length_s]


def ticks(rng: np.random.Generator, length_s: float, period_s: float, jitter: float = 0.0) -> Float64:
    """Times at which a sensor updates: steady with a random phase, or each period off by +- `jitter` of it."""
    count = int(length_s / period_s * 1.3) + 10
    step = period_s * (1 + rng.uniform(-jitter, jitter, count)) if jitter else np.full(count, period_s)
    return np.cumsum(step) - period_s * (1 + rng.uniform(0, 1))


def counter_samples(
    rng: np.random.Generator,
    truth: Truth,
    polls_s: Float64,
    period_s: float = 0.1,
    *,
    jitter: float = 0.0,
    resolution_j: float = 1e-3,
    start_j: float = 1234.5,
    wrap_j: float = math.inf,
    reset_s: float = math.inf,
) -> SampleColumns:
    """What polls of an energy counter return that is brought up to date at its ticks only."""
    tick_s = ticks(rng, float(truth.t_s[-1]) + 1.0, period_s, jitter)
    k = np.clip(np.searchsorted(tick_s, polls_s, side="right") - 1, 0, None)
    seen_s = tick_s[k]
    energy = start_j + truth.energy(seen_s)
    energy = np.where(seen_s >= reset_s, truth.energy(seen_s) - truth.energy(np.array(reset_s)), energy)
    energy = np.floor(energy / resolution_j) * resolution_j
    if math.isfinite(wrap_j):
        energy = np.mod(energy, wrap_j)
    return SampleColumns(ns(polls_s), energy, np.zeros(0))


def power_samples(
    rng: np.random.Generator,
    truth: Truth,
    polls_s: Float64,
    period_s: float = 0.1,
    *,
    averaging_s: float = 0.0,
    delay_s: float = 0.0,
    gain: float = 1.0,
    noise_w: float = 0.0,
    resolution_w: float = 1e-3,
) -> SampleColumns:
    """What polls of a power sensor return: the mean over `averaging_s` before its last tick, `delay_s` ago."""
    tick_s = ticks(rng, float(truth.t_s[-1]) + 1.0, period_s)
    until = tick_s - delay_s
    if averaging_s > 0:
        value = truth.window(until - averaging_s, until) / averaging_s
        early = until - averaging_s < 0
        value = np.where(early, truth.power_w[0], value)
    else:
        value = truth.power(until)
    value = gain * value + noise_w * rng.standard_normal(len(value))
    value = np.rint(np.maximum(value, 0) / resolution_w) * resolution_w
    k = np.clip(np.searchsorted(tick_s, polls_s, side="right") - 1, 0, None)
    return SampleColumns(ns(polls_s), np.zeros(0), value[k])


def drop(samples: SampleColumns, start_s: float, end_s: float) -> SampleColumns:
    """The same polls with a hole."""
    keep = (samples.t_ns < ns(np.array(start_s))) | (samples.t_ns > ns(np.array(end_s)))
    return SampleColumns(
        samples.t_ns[keep],
        samples.energy_j[keep] if len(samples.energy_j) else samples.energy_j,
        samples.power_w[keep] if len(samples.power_w) else samples.power_w,
    )


def no_queries() -> QueryColumns:
    """A run in which nobody asked anything."""
    none = np.zeros(0, np.int64)
    return QueryColumns(none, none, none, np.zeros(0), np.zeros(0))


def windows_as_queries(start_s: Float64, end_s: Float64) -> QueryColumns:
    """Windows without tokens, to be integrated."""
    unknown = np.full(len(start_s), np.nan)
    return QueryColumns(ns(start_s), np.zeros(len(start_s), np.int64), ns(end_s), unknown, unknown)


def exact_curve(truth: Truth) -> EnergyCurve:
    """The curve that a perfect instrument would give."""
    count = len(truth.t_s)
    sure = np.ones(count - 1, bool)
    edges = Edges(truth.t_s, truth.energy(truth.t_s), np.zeros(count), sure, sure, np.zeros(count - 1))
    return linear_curve(ORIGIN_NS, edges, 0.0, 1e4)


def true_shares(run: Run, alpha: float, method: str = "tokens") -> Float64:
    """What each query would get of the exact power, J."""
    queries = clean_queries(run.queries(), ORIGIN_NS)
    idle = BaselineLine(np.array([1.0]), run.truth.power_w[:1])
    segments = make_segments(queries, method, alpha)
    shares = share_energy(exact_curve(run.truth), segments, len(queries), (0.0, run.length_s), idle)
    return shares.active_j + shares.idle_j


def measure_run(
    run: Run,
    samples: SampleColumns,
    queries: QueryColumns | None = None,
    traits: SourceTraits | None = None,
    **how: Any,
) -> SourceEnergy:
    """Measure a run of the rig's engines, with the idle time before and after it as baselines."""
    return measure_source(
        traits or SourceTraits("rig"),
        samples,
        run.queries() if queries is None else queries,
        (int(ns(11.0)), int(ns(run.length_s - 11.0))),
        [(int(ns(0.5)), int(ns(11.0))), (int(ns(run.length_s - 11.0)), int(ns(run.length_s - 0.5)))],
        **how,
    )


def curve_of(samples: SampleColumns, **traits: float) -> EnergyCurve:
    """The straight curve of one sensor."""
    clean = clean_samples(samples)
    nobody = clean_queries(no_queries(), clean.origin_ns)
    known = SourceTraits("rig", **traits)  # pyright: ignore[reportArgumentType]
    return build_curve(known, clean, choose_kind(known, clean, "auto")[0], nobody, "linear").curve
