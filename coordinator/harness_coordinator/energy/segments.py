"""Queries as weighted stretches of time: how many tokens a second each one was being given, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.intake import Bool, CleanQueries
from harness_coordinator.energy.records import Float64, Int64

METHODS = ("tokens", "time", "exclusive")
SHORTEST_PHASE_S = 1e-6
"""A phase shorter than this has no rate of its own; its tokens join the other phase."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Stretches of constant weight rate; s elements a column, the segments of one query in the order of time."""

    query: Int64
    start_s: Float64
    end_s: Float64
    rate: Float64
    """Weight per second: output tokens plus alpha times prompt tokens; 1 for equal shares."""
    prefill: Bool


def make_segments(queries: CleanQueries, attribution: str, alpha: float) -> Segments:
    """Cut queries into prefill and decode, each with its weight rate.

    Method `tokens`: alpha prompt / (first - start) before the first token, output / (end - first) after it;
    where chunk times are known, output / chunks between one chunk and the next. Without a first token both
    kinds are spread over the query. Unknown counts are taken as the median of the known ones. Methods `time`
    and `exclusive`: rate 1 throughout.

    Args:
        queries: n queries; unusable and zero-length ones get no segment.
        attribution: `tokens`, `time` or `exclusive`.
        alpha: output tokens that one prompt token counts for.
    """
    index = np.flatnonzero(queries.usable & (queries.end_s > queries.start_s))
    start, first, end = queries.start_s[index], queries.first_s[index], queries.end_s[index]
    prompt = _known_or_typical(queries.prompt_tokens, 0.0)[index] * (0.0 if np.isnan(alpha) else alpha)
    output = _known_or_typical(queries.output_tokens, 1.0)[index]
    split = np.isfinite(first)
    first = np.where(split, first, start)
    prefill_s, decode_s = first - start, end - first
    no_prefill, no_decode = prefill_s < SHORTEST_PHASE_S, decode_s < SHORTEST_PHASE_S
    in_prefill = np.where(no_prefill, 0.0, np.where(no_decode, prompt + output, prompt))
    in_decode = np.where(no_decode, 0.0, np.where(no_prefill, prompt + output, output))
    with np.errstate(divide="ignore", invalid="ignore"):
        prefill_rate = np.where(no_prefill, 0.0, in_prefill / prefill_s)
        decode_rate = np.where(no_decode, 0.0, in_decode / decode_s)
    chunked = _chunks(queries, index, first, end, in_decode) if attribution == "tokens" else None
    whole = np.ones(len(index), bool) if chunked is None else ~chunked[0]
    has_prefill, has_decode = ~(prefill_s <= 0), (decode_s > 0) & whole
    segments = Segments(
        query=np.concatenate([index[has_prefill], index[has_decode]]),
        start_s=np.concatenate([start[has_prefill], first[has_decode]]),
        end_s=np.concatenate([first[has_prefill], end[has_decode]]),
        rate=np.concatenate([prefill_rate[has_prefill], decode_rate[has_decode]]),
        prefill=np.repeat([True, False], [int(has_prefill.sum()), int(has_decode.sum())]),
    )
    if attribution != "tokens":
        return Segments(
            segments.query, segments.start_s, segments.end_s, np.ones(len(segments.query)), segments.prefill
        )
    return segments if chunked is None else _join(segments, chunked[1])


def _known_or_typical(tokens: Float64, typical: float) -> Float64:
    known = np.isfinite(tokens)
    if known.all():
        return tokens
    return np.where(known, tokens, np.median(tokens[known]) if known.any() else typical)


def _chunks(
    queries: CleanQueries, index: Int64, first: Float64, end: Float64, output: Float64
) -> tuple[Bool, Segments] | None:
    """Which of the queries have usable chunk times, and their decode segments."""
    if queries.chunk_s is None:
        return None
    chunked = np.zeros(len(index), bool)
    parts: list[tuple[Float64, Float64, Float64, Int64]] = []
    for k, query in enumerate(index):
        times = queries.chunk_s[query]
        times = times[(times > first[k]) & (times <= end[k])]
        if len(times) < 2:
            continue
        chunked[k] = True
        edges = np.unique(np.concatenate([[first[k]], times, [end[k]]]))
        length = np.diff(edges)
        # Tokens of a chunk were made between the chunk before and itself; none after the last one.
        tokens = np.where(edges[1:] <= times[-1], output[k] / np.count_nonzero(edges[1:] <= times[-1]), 0.0)
        parts.append((edges[:-1], edges[1:], tokens / length, np.full(len(length), query)))
    if not parts:
        return None
    start_s, end_s, rate, query = (np.concatenate(column) for column in zip(*parts, strict=True))
    return chunked, Segments(query, start_s, end_s, rate, np.zeros(len(rate), bool))


def _join(one: Segments, other: Segments) -> Segments:
    return Segments(
        np.concatenate([one.query, other.query]),
        np.concatenate([one.start_s, other.start_s]),
        np.concatenate([one.end_s, other.end_s]),
        np.concatenate([one.rate, other.rate]),
        np.concatenate([one.prefill, other.prefill]),
    )
