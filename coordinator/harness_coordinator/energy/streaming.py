"""Joules per query while a run goes on, at a constant cost per sample and per generation.

The same curve and the same sharing as over a whole recording, applied to one stretch of time after another. A
stretch ends at an edge of the instrument, where energy is certain, and is settled once for all: so nothing is
counted twice and the parts add up to the device at every moment. What a whole recording adds is what needs
hindsight: fitted alpha and load model, the baseline after the run, bounds. They are given here, not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness_coordinator.energy.activity import activity_of
from harness_coordinator.energy.baseline import BaselineLine
from harness_coordinator.energy.conserve import check_conservation
from harness_coordinator.energy.curve import EnergyCurve, linear_curve
from harness_coordinator.energy.edges import Edges
from harness_coordinator.energy.intake import CleanQueries, clean_queries, join_queries, seconds, take_queries
from harness_coordinator.energy.live_edges import LiveEdges
from harness_coordinator.energy.load_model import LoadModel
from harness_coordinator.energy.records import NAN, Float64, Int64, QueryColumns, SampleColumns, SourceTraits
from harness_coordinator.energy.segments import make_segments
from harness_coordinator.energy.shape import LoadErrors, shape_curve
from harness_coordinator.energy.sweep import share_energy


@dataclass(frozen=True, slots=True)
class FinishedQueries:
    """Queries whose whole time has been settled since the last call; n elements a column, J."""

    key: Int64
    joules: Float64
    net_joules: Float64
    idle_joules: Float64
    prefill_joules: Float64
    decode_joules: Float64


@dataclass(frozen=True, slots=True)
class LiveModel:
    """What an earlier recording of the same load taught: it shapes energy inside the instrument's intervals."""

    model: LoadModel
    errors: LoadErrors


class StreamingAttributor:
    """Divides one source's energy as samples and generations arrive.

    Args:
        traits: what is known of the source.
        alpha: output tokens that a prompt token counts for.
        baseline_w: idle power with the model loaded, W; NaN where unmeasured (net is then absent).
        attribution: `tokens`, `time` or `exclusive`.
        origin_ns: zero of the internal clock, the start of the run: energy before it is nobody's.
        live_model: load model of an earlier recording; None lets energy run straight between edges.
    """

    def __init__(
        self,
        traits: SourceTraits,
        *,
        alpha: float,
        baseline_w: float,
        origin_ns: int,
        attribution: str = "tokens",
        live_model: LiveModel | None = None,
    ) -> None:
        self._origin_ns = origin_ns
        self._alpha = alpha
        self._attribution = attribution
        self._baseline = BaselineLine(np.zeros(1), np.array([baseline_w])) if baseline_w >= 0 else None
        self._live_model = live_model
        self._lag_s = live_model.model.lag_s if live_model else 0.0
        self._edges = LiveEdges(traits, origin_ns)
        self._keys = np.zeros(0, np.int64)
        self._open: CleanQueries = clean_queries(_no_queries(), origin_ns)
        self._parts = np.zeros((4, 0))
        self.device_j = 0.0
        """Energy settled so far, J."""
        self.attributed_j = 0.0
        """Energy of finished, counted queries, J."""
        self.unattributed_j = 0.0
        """Energy of times with no query in flight and of warm-ups, J."""

    @property
    def settled_ns(self) -> int:
        """Time up to which energy has been divided, ns."""
        return self._origin_ns + round(self._edges.settled_s * 1e9)

    @property
    def in_flight(self) -> int:
        """Queries known and not yet finished."""
        return len(self._keys)

    @property
    def kept(self) -> int:
        """Changes and edges held at the moment; bounded however long the run."""
        return self._edges.kept

    def add_samples(self, samples: SampleColumns) -> None:
        """Take polls, in ascending time, none before the last ones given."""
        self._edges.add(samples)

    def add_queries(self, keys: Sequence[int] | Int64, queries: QueryColumns) -> list[int]:
        """Take ended queries.

        Args:
            keys: one number per query, returned with its joules.
            queries: their columns.

        Returns:
            Keys refused because time after their start was settled already (a watermark was wrong): they
            need a recomputation from the stored samples.
        """
        new = clean_queries(queries, self._origin_ns)
        number = np.asarray(keys, np.int64)
        timely = (new.start_s - self._lag_s >= self._edges.settled_s) & new.usable
        late = number[~timely].tolist()
        if late:
            new, number = take_queries(new, timely), number[timely]
        self._open = join_queries(self._open, new)
        self._keys = np.concatenate([self._keys, number])
        self._parts = np.concatenate([self._parts, np.zeros((4, len(number)))], axis=1)
        return late

    def advance(self, watermark_ns: int) -> FinishedQueries:
        """Settle time as far as samples reach and return the queries that ended in it.

        Args:
            watermark_ns: no query that started before this is still unreported.

        Raises:
            ConservationError: the parts do not add up to the device.
        """
        until_s = float(seconds(np.array(watermark_ns), self._origin_ns)) - self._lag_s
        stretch = self._edges.settle(until_s)
        if stretch is not None:
            self._divide(stretch)
        return self._finish()

    def _divide(self, edges: Edges) -> None:
        begin, finish = max(float(edges.t_s[0]), 0.0), float(edges.t_s[-1])
        placed = self._open.earlier_by(self._lag_s)
        now = (placed.start_s < finish) & (placed.end_s > begin)
        rows = np.flatnonzero(now)
        here = take_queries(placed, now)
        curve = self._curve(edges, take_queries(self._open, now))
        shares = share_energy(
            curve,
            make_segments(here, self._attribution, self._alpha),
            len(rows),
            (begin, finish),
            self._baseline,
            with_errors=False,
        )
        self._parts[:, rows] += (shares.active_j, shares.idle_j, shares.prefill_j, shares.decode_j)
        self.device_j += shares.device_j
        self.unattributed_j += shares.unattributed_j

    def _curve(self, edges: Edges, queries: CleanQueries) -> EnergyCurve:
        straight = linear_curve(self._origin_ns, edges)
        if self._live_model is None:
            return straight
        activity = activity_of(queries)
        if activity is None:
            return straight
        return shape_curve(straight, activity, self._live_model.model, errors=self._live_model.errors)

    def _finish(self) -> FinishedQueries:
        done = self._open.end_s - self._lag_s <= self._edges.settled_s
        active, idle, prefill, decode = self._parts[:, done]
        keys, counted = self._keys[done], self._open.counted[done]
        phased = np.isfinite(self._open.first_s[done])
        joules = active + idle
        self.attributed_j += float(joules[counted].sum())
        self.unattributed_j += float(joules[~counted].sum())
        if done.any():
            self._open = take_queries(self._open, ~done)
            self._keys, self._parts = self._keys[~done], self._parts[:, ~done]
        pending_j = float(self._parts[:2].sum())
        check_conservation(
            self.device_j, self.attributed_j + pending_j, self.unattributed_j, "live attribution"
        )
        measured = np.full(len(keys), self._baseline is not None)
        return FinishedQueries(
            key=keys,
            joules=joules,
            net_joules=np.where(measured, active, NAN),
            idle_joules=np.where(measured, idle, NAN),
            prefill_joules=np.where(phased, prefill, NAN),
            decode_joules=np.where(phased, decode, NAN),
        )


def _no_queries() -> QueryColumns:
    none = np.zeros(0, np.int64)
    return QueryColumns(none, none, none, np.zeros(0), np.zeros(0))
