"""Edges of a live source: polls in, stretches of certain energy out, each handed out once."""

from __future__ import annotations

import numpy as np

from harness_coordinator.energy.edges import Edges
from harness_coordinator.energy.intake import seconds
from harness_coordinator.energy.records import Float64, SampleColumns, SourceTraits
from harness_coordinator.energy.tick_tracker import FIRST_LOCK, TickTracker

EVERY_POLL_SHARE = 0.9
"""A counter that changed at more of its first polls than this ticks faster than it is polled."""


class LiveEdges:
    """Turns polls of one source into edges as they come.

    Edges wait until enough changes have been seen to lock the sensor's tick, and until `settle` reaches them;
    after that they are final. Kept at any time: the polls since the last edge and the edges not yet settled.
    """

    def __init__(self, traits: SourceTraits, origin_ns: int) -> None:
        self._traits = traits
        self._origin_ns = origin_ns
        self._uses_power = traits.energy_source == "power"
        self._tracker = TickTracker()
        self._fast = False
        self._warm = False
        self._polls = 0
        self._last_poll_s = np.nan
        self._last_value = np.nan
        self._total_j = 0.0
        self._waiting = np.zeros((3, 0))
        """before, seen and cumulative energy of changes that are not yet placed."""
        self._placed = np.zeros((2, 0))
        """time and cumulative energy of edges, the first of which is settled."""
        self.settled_s = 0.0

    @property
    def kept(self) -> int:
        """Changes not yet placed, edges not yet settled, and changes that the lock is made of."""
        return self._waiting.shape[1] + self._placed.shape[1] + self._tracker.kept

    def add(self, samples: SampleColumns) -> None:
        """Take polls that follow the ones before."""
        value = samples.power_w if self._uses_power else samples.energy_j
        present = np.isfinite(value)
        t_s, value = seconds(samples.t_ns[present], self._origin_ns), value[present]
        if not len(t_s):
            return
        if self._uses_power:
            self._add_power(t_s, value)
        else:
            self._add_counter(t_s, value)
        self._last_poll_s, self._last_value = float(t_s[-1]), float(value[-1])

    def settle(self, until_s: float) -> Edges | None:
        """Hand out the edges up to a time as one stretch that begins where the last one ended; None if there is none.

        The first edge at or after the origin of the clock begins the first stretch.
        """
        count = int(np.searchsorted(self._placed[0], until_s, side="right"))
        if count < 2:
            return None
        t_s, energy_j = self._placed[:, :count]
        self._placed = self._placed[:, count - 1 :]
        self.settled_s = float(t_s[-1])
        intervals = count - 1
        return Edges(
            t_s=t_s,
            energy_j=energy_j,
            slack_s=np.zeros(count),
            covered=np.ones(intervals, bool),
            known=np.ones(intervals, bool),
            spread_j=np.zeros(intervals),
        )

    def _add_power(self, t_s: Float64, power_w: Float64) -> None:
        shift = self._traits.averaging_s / 2 if self._traits.averaging_s > 0 else 0.0
        if np.isfinite(self._last_poll_s):
            t_s = np.append(self._last_poll_s, t_s)
            power_w = np.append(self._last_value, power_w)
        energy = self._total_j + np.append(0.0, np.cumsum(np.diff(t_s) * (power_w[1:] + power_w[:-1]) / 2))
        new = slice(1, None) if np.isfinite(self._last_poll_s) else slice(None)
        self._total_j = float(energy[-1])
        self._place(t_s[new] - shift, energy[new])

    def _add_counter(self, t_s: Float64, reading: Float64) -> None:
        first = not np.isfinite(self._last_poll_s)
        previous_t = np.append(t_s[0] if first else self._last_poll_s, t_s[:-1])
        step = np.diff(np.append(reading[0] if first else self._last_value, reading))
        wrap_j = self._traits.counter_wrap_j
        if wrap_j > 0:
            step = np.where(step < 0, step + wrap_j, step)
        # A reset hides what was used since the last change: nothing of it is known live.
        step = np.maximum(step, 0.0)
        changed = step > 0
        self._polls += len(t_s)
        if not changed.any():
            return
        energy = self._total_j + np.cumsum(step[changed])
        self._total_j = float(energy[-1])
        self._waiting = np.concatenate(
            [self._waiting, np.stack([previous_t[changed], t_s[changed], energy])], axis=1
        )
        if not self._warm and self._waiting.shape[1] < FIRST_LOCK:
            return
        if not self._warm:
            self._warm = True
            self._fast = self._waiting.shape[1] > EVERY_POLL_SHARE * self._polls
        before, seen, energy = self._waiting
        self._waiting = np.zeros((3, 0))
        if self._fast:
            age = self._traits.counter_period_s / 2 if self._traits.counter_period_s > 0 else 0.0
            self._place(seen - age, energy)
        else:
            self._place(self._tracker.place(before, seen)[0], energy)

    def _place(self, t_s: Float64, energy_j: Float64) -> None:
        """Add edges, in ascending time; those before the run are dropped but for the last."""
        if self._placed.shape[1]:
            later = t_s > self._placed[0, -1]
            if not later.all():
                # A renewed lock may put an edge before its predecessor by its slack: its energy joins the next.
                t_s, energy_j = t_s[later], energy_j[later]
        self._placed = np.concatenate([self._placed, np.stack([t_s, energy_j])], axis=1)
        begun = int(np.searchsorted(self._placed[0], 0.0, side="right"))
        if begun > 1:
            self._placed = self._placed[:, begun - 1 :]
