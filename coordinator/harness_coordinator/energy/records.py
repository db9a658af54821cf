"""The columns that go into the energy code and the rows that come out of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
NAN = math.nan


@dataclass(frozen=True, slots=True)
class SourceTraits:
    """What the energy code must know of a source; unknown numbers are NaN."""

    source_id: str
    scope: str = ""
    device_id: str = ""
    energy_source: str = "counter"
    """`counter`, `power`, `frame` or `estimated`."""
    counter_wrap_j: float = NAN
    counter_resolution_j: float = NAN
    max_power_w: float = NAN
    power_period_s: float = NAN
    counter_period_s: float = NAN
    averaging_s: float = NAN
    unseen_share: float = NAN
    """Share of the time that no power reading covers; NaN: told by `averaging_s`, all of it where that is unknown."""
    contained_in: str = ""
    gain_error: float = NAN
    """Stated relative gain error of the power reading; NaN: the 5 % that on-board sensors are known for."""


@dataclass(frozen=True, slots=True)
class SampleColumns:
    """Polls of one source, one element per poll, ordered by `t_ns` (CLOCK_MONOTONIC of the agent, ns).

    `energy_j` is the cumulative counter and `power_w` the power reading; NaN where a poll had none. Empty
    arrays stand for a column that the source does not have.
    """

    t_ns: Int64
    energy_j: Float64
    power_w: Float64
    half_width_ns: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    interval_ns: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    throttle_bits: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class QueryColumns:
    """Queries that ran on a device, one element per query, in any order; times as in `SampleColumns`.

    `first_token_ns` is 0 where unknown; token counts are NaN where unknown. `chunk_ns[i]` (optional) are the
    arrival times of query i's output chunks. `counted` is False for warm-up queries: they take their share
    of the energy, which is reported as unattributed.
    """

    start_ns: Int64
    first_token_ns: Int64
    end_ns: Int64
    prompt_tokens: Float64
    output_tokens: Float64
    chunk_ns: list[Int64] | None = None
    counted: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """Idle power of one source over a window with the model loaded and nothing in flight."""

    start_ns: int
    end_ns: int
    power_w: float
    standard_error_w: float = NAN


@dataclass(frozen=True, slots=True)
class QueryEnergy:
    """Energy of each query on one source; arrays are aligned with the `QueryColumns` they came from. J."""

    joules: Float64
    joules_low: Float64
    joules_high: Float64
    net_joules: Float64
    idle_joules: Float64
    prefill_joules: Float64
    decode_joules: Float64
    coverage: Float64
    flags: list[tuple[str, ...]]
    cross_check_joules: Float64 = field(default_factory=lambda: np.zeros(0, np.float64))
    """The same shares from the source's other measure (power beside a counter); empty where there is none."""


@dataclass(frozen=True, slots=True)
class SourceEnergy:
    """What one source used over a run, and how it was divided.

    `sum(queries.joules over counted) + unattributed_joules == device_joules` to 1e-9 relative, checked
    before this record is made.
    """

    source_id: str
    scope: str
    energy_source: str
    method: str
    """`counter-shape`, `counter-linear`, `power-shape`, `power-linear`, `frame-...`."""
    attribution: str
    """`tokens`, `time` or `exclusive`."""
    start_ns: int
    end_ns: int
    device_joules: float
    device_joules_low: float
    device_joules_high: float
    attributed_joules: float
    unattributed_joules: float
    coverage: float
    baselines: tuple[Baseline, ...]
    alpha: float
    alpha_standard_error: float
    flags: tuple[str, ...]
    queries: QueryEnergy
    cross_check_joules: float = NAN
    """Device joules from the other measure (integrated power beside a counter), NaN where there is none."""
    cross_check_method: str = ""
    period_s: float = NAN
    """Update period of the sensor that its polls were locked to, NaN where none was found."""
    lag_s: float = NAN
    """How far the engine's stamps trail the device (negative: lead); times were corrected by it. NaN: not fitted."""
    lag_standard_error_s: float = NAN
    load_levels: tuple[tuple[str, float], ...] = ()
    """Fitted load model, (term, coefficient) with idle and levels in W and tokens in J; empty for `linear`."""
    explained: float = NAN
    """Share of the held-out variance of tick energies that the activity explains, NaN where not tried."""


class EnergyError(Exception):
    """Base of everything the energy code refuses."""


class BadSamplesError(EnergyError):
    """Samples or windows that cannot be integrated; the message names the row."""


class ConservationError(EnergyError):
    """Attributed plus unattributed joules do not equal the device's: nothing is stored."""
