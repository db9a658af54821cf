"""What comes in is checked here once, so that the arithmetic behind can trust its columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness_coordinator.energy.records import BadSamplesError, Float64, Int64, QueryColumns, SampleColumns

Bool = NDArray[np.bool_]

NS = 1e-9


@dataclass(frozen=True, slots=True)
class CleanSamples:
    """Polls in strictly ascending time, in seconds after `origin_ns`; unusable values are NaN."""

    origin_ns: int
    t_s: Float64
    half_width_s: Float64
    """Half the width of each poll, s; empty where not known."""
    energy_j: Float64
    """Counter as read, J; empty where the source has none."""
    power_w: Float64
    interval_s: Float64
    """Length of the frame that ends at each poll, s; empty unless the source sends frames."""
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CleanQueries:
    """Query times in seconds after the samples' origin; `usable` is False where a time makes no sense."""

    start_s: Float64
    first_s: Float64
    """First token, NaN where unknown or not between start and end."""
    end_s: Float64
    prompt_tokens: Float64
    output_tokens: Float64
    chunk_s: list[Float64] | None
    counted: Bool
    usable: Bool

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.start_s)

    def earlier_by(self, lag_s: float) -> CleanQueries:
        """The same queries on the device's clock, when the stamps trail it by `lag_s`; NaN or 0: unchanged."""
        if not lag_s or math.isnan(lag_s):
            return self
        return replace(
            self,
            start_s=self.start_s - lag_s,
            first_s=self.first_s - lag_s,
            end_s=self.end_s - lag_s,
            chunk_s=None if self.chunk_s is None else [times - lag_s for times in self.chunk_s],
        )


def clean_samples(samples: SampleColumns, origin_ns: int | None = None) -> CleanSamples:
    """Order the polls in time, drop repeats of a time stamp and mark impossible values as absent.

    Args:
        samples: polls as they arrived, n elements a column.
        origin_ns: zero of the returned times; the first poll by default.

    Returns:
        The polls, with the flags `samples_reordered`, `duplicate_samples` and `bad_samples` where something
        had to be done. Of several polls with one stamp the last is kept.

    Raises:
        BadSamplesError: columns differ in length.
    """
    count = len(samples.t_ns)
    columns: dict[str, NDArray] = {
        "energy_j": samples.energy_j,
        "power_w": samples.power_w,
        "half_width_ns": samples.half_width_ns,
        "interval_ns": samples.interval_ns,
    }
    for name, column in columns.items():
        if len(column) not in (0, count):
            raise BadSamplesError(
                f"column {name} has {len(column)} values for {count} time stamps; give one per poll or none"
            )
    flags: list[str] = []
    t_ns = np.asarray(samples.t_ns, np.int64)
    if count > 1:
        step = np.diff(t_ns)
        if (step < 0).any():
            flags.append("samples_reordered")
            order = np.argsort(t_ns, kind="stable")
            t_ns = t_ns[order]
            columns = {name: column[order] if len(column) else column for name, column in columns.items()}
            step = np.diff(t_ns)
        if (step == 0).any():
            flags.append("duplicate_samples")
            last = np.append(step != 0, True)
            t_ns = t_ns[last]
            columns = {name: column[last] if len(column) else column for name, column in columns.items()}
    origin = int(t_ns[0]) if origin_ns is None and count else int(origin_ns or 0)
    cleaned = {name: _absent_where_impossible(columns[name], flags) for name in ("energy_j", "power_w")}
    return CleanSamples(
        origin_ns=origin,
        t_s=seconds(t_ns, origin),
        half_width_s=seconds(columns["half_width_ns"], 0),
        energy_j=cleaned["energy_j"],
        power_w=cleaned["power_w"],
        interval_s=seconds(columns["interval_ns"], 0),
        flags=tuple(dict.fromkeys(flags)),
    )


def _absent_where_impossible(column: Float64, flags: list[str]) -> Float64:
    column = np.asarray(column, np.float64)
    if not len(column) or np.isnan(column).all():
        return np.zeros(0)
    impossible = np.isinf(column) | (column < 0)
    if impossible.any():
        flags.append("bad_samples")
        column = np.where(impossible, np.nan, column)
    return column


def clean_queries(queries: QueryColumns, origin_ns: int) -> CleanQueries:
    """Turn query stamps into seconds and mark those that cannot be integrated.

    Args:
        queries: n queries in any order.
        origin_ns: zero of the returned times.

    Raises:
        BadSamplesError: columns differ in length.
    """
    count = len(queries.start_ns)
    for name in ("first_token_ns", "end_ns", "prompt_tokens", "output_tokens"):
        if len(getattr(queries, name)) != count:
            raise BadSamplesError(
                f"query column {name} has {len(getattr(queries, name))} values for {count} queries"
            )
    for name in ("chunk_ns", "counted"):
        column = getattr(queries, name)
        if column is not None and len(column) != count:
            raise BadSamplesError(f"query column {name} has {len(column)} values for {count} queries")
    start_ns, first_ns, end_ns = (
        np.asarray(column, np.int64) for column in (queries.start_ns, queries.first_token_ns, queries.end_ns)
    )
    usable = end_ns >= start_ns
    first_known = (first_ns != 0) & (first_ns >= start_ns) & (first_ns <= end_ns)
    chunk_s = None
    if queries.chunk_ns is not None:
        chunk_s = [np.sort(seconds(chunks, origin_ns)) for chunks in queries.chunk_ns]
    return CleanQueries(
        start_s=seconds(start_ns, origin_ns),
        first_s=np.where(first_known, seconds(first_ns, origin_ns), np.nan),
        end_s=seconds(end_ns, origin_ns),
        prompt_tokens=_token_counts(queries.prompt_tokens),
        output_tokens=_token_counts(queries.output_tokens),
        chunk_s=chunk_s,
        counted=np.ones(count, bool) if queries.counted is None else np.asarray(queries.counted, bool),
        usable=usable,
    )


def take_queries(queries: CleanQueries, rows: Bool) -> CleanQueries:
    """Those queries for which `rows` is True."""
    return CleanQueries(
        start_s=queries.start_s[rows],
        first_s=queries.first_s[rows],
        end_s=queries.end_s[rows],
        prompt_tokens=queries.prompt_tokens[rows],
        output_tokens=queries.output_tokens[rows],
        chunk_s=None if queries.chunk_s is None else [queries.chunk_s[k] for k in np.flatnonzero(rows)],
        counted=queries.counted[rows],
        usable=queries.usable[rows],
    )


def join_queries(one: CleanQueries, other: CleanQueries) -> CleanQueries:
    """Two sets of queries as one, in this order."""
    chunk_s = None
    if one.chunk_s is not None or other.chunk_s is not None:
        none = np.zeros(0)
        chunk_s = [*(one.chunk_s or [none] * len(one)), *(other.chunk_s or [none] * len(other))]
    return CleanQueries(
        start_s=np.concatenate([one.start_s, other.start_s]),
        first_s=np.concatenate([one.first_s, other.first_s]),
        end_s=np.concatenate([one.end_s, other.end_s]),
        prompt_tokens=np.concatenate([one.prompt_tokens, other.prompt_tokens]),
        output_tokens=np.concatenate([one.output_tokens, other.output_tokens]),
        chunk_s=chunk_s,
        counted=np.concatenate([one.counted, other.counted]),
        usable=np.concatenate([one.usable, other.usable]),
    )


def _token_counts(tokens: Float64) -> Float64:
    tokens = np.asarray(tokens, np.float64)
    return np.where(np.isfinite(tokens) & (tokens >= 0), tokens, np.nan)


def seconds(t_ns: Int64, origin_ns: int) -> Float64:
    """Times in seconds after an origin, from ns."""
    return (np.asarray(t_ns, np.int64) - origin_ns).astype(np.float64) * NS
