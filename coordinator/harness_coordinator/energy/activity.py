"""When and how hard the engine worked, as running sums that can be evaluated at any time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.intake import CleanQueries
from harness_coordinator.energy.records import Float64
from harness_coordinator.energy.segments import make_segments


@dataclass(frozen=True, slots=True)
class Activity:
    """Cumulative load since the first event; f terms of the load model over m + 1 event times.

    Terms: `busy` (time with a query in flight, s), `prefill` (time with one before its first token, s), `prompt`
    and `output` (tokens worked through); without token counts `queries` (query-seconds) replaces the tokens.
    """

    t_s: Float64
    total: Float64
    """(m + 1, f) running sums at `t_s`; linear between events."""
    terms: tuple[str, ...]

    def at(self, t_s: Float64) -> Float64:
        """Running sums at n times, shape (n, f)."""
        k = np.clip(np.searchsorted(self.t_s, t_s, side="right") - 1, 0, len(self.t_s) - 2)
        width = self.t_s[k + 1] - self.t_s[k]
        part = np.clip((t_s - self.t_s[k]) / width, 0.0, 1.0)
        return self.total[k] + part[:, None] * (self.total[k + 1] - self.total[k])

    def between(self, start_s: Float64, end_s: Float64) -> Float64:
        """Load in each of n windows, shape (n, f)."""
        return self.at(end_s) - self.at(start_s)


def activity_of(queries: CleanQueries) -> Activity | None:
    """Lay the queries' prefill and decode stretches over one another; None where there is no query to lay."""
    segments = make_segments(queries, "tokens", 1.0)
    if not len(segments.query):
        return None
    times, place = np.unique(np.concatenate([segments.start_s, segments.end_s]), return_inverse=True)
    size = len(times)
    first, last = place[: len(segments.query)], place[len(segments.query) :]
    length = np.diff(times)

    def running(rows: np.ndarray, weight: Float64 | None = None) -> Float64:
        """Sum of weights of the stretches open in each piece; whole numbers where no weight is given."""
        one = None if weight is None else weight[rows]
        return np.cumsum(np.bincount(first[rows], one, size) - np.bincount(last[rows], one, size))[
            :-1
        ].astype(float)

    everything = np.arange(len(segments.query))
    before, after = np.flatnonzero(segments.prefill), np.flatnonzero(~segments.prefill)
    in_flight = running(everything)
    busy, prefill = in_flight > 0, running(before) > 0
    pieces = {"busy": busy.astype(float), "prefill": prefill.astype(float)}
    if np.isfinite(queries.output_tokens).any():
        pieces["prompt"] = np.where(prefill, running(before, segments.rate), 0.0)
        pieces["output"] = np.where(busy, running(after, segments.rate), 0.0)
    else:
        pieces["queries"] = in_flight.astype(float)
    # A term that never varies from another tells nothing and only makes the fit unsteady.
    kept = {name: rate for name, rate in pieces.items() if name == "busy" or _distinct(rate, pieces["busy"])}
    total = np.zeros((size, len(kept)))
    for column, rate in enumerate(kept.values()):
        np.cumsum(np.maximum(rate, 0.0) * length, out=total[1:, column])
    return Activity(times, total, tuple(kept))


def _distinct(rate: Float64, busy: Float64) -> bool:
    """Whether a term is more than a multiple of being busy."""
    active = rate[busy > 0]
    return bool(len(active)) and float(active.max() - active.min()) > 1e-6 * max(
        float(np.abs(active).max()), 1e-300
    )
