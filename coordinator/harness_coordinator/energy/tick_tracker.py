"""The tick lock of a live counter: found anew now and then, checked against every change in between."""

from __future__ import annotations

import numpy as np

from harness_coordinator.energy.records import NAN, Float64
from harness_coordinator.energy.tick_lock import lock_ticks

KEPT_CHANGES = 256
"""Changes that a lock is made of: the phase is then known to a hundredth of the polling interval."""
RELOCK_AFTER = 128
"""Changes after which the lock is renewed, so that a drifting sensor is followed at a cost per change that is
constant and small."""
FIRST_LOCK = 96
"""Changes waited for before anything is placed: the 10 s of idle time before a lease's first query hold as many at
100 ms, and leave the phase known to about a millisecond."""
TOLERATED_SHARE = 0.02
"""Share of the period by which a change may miss its foretold tick before the lock is renewed early."""


class TickTracker:
    """Places changes of one counter in time as they arrive; times are seconds after a fixed origin."""

    def __init__(self) -> None:
        self._before = np.zeros(0)
        self._seen = np.zeros(0)
        self._anchor_s = NAN
        self._period_s = NAN
        self._slack_s = NAN
        self._since_lock = 0
        self._good_for = RELOCK_AFTER

    @property
    def period_s(self) -> float:
        """Period of the lock, s; NaN while there is none."""
        return self._period_s

    @property
    def kept(self) -> int:
        """Changes held for the next lock."""
        return len(self._seen)

    def place(self, before_s: Float64, seen_s: Float64) -> tuple[Float64, Float64]:
        """Times and slacks (s) of new changes, each of which fell in (before, seen]."""
        count = len(seen_s)
        self._before = np.concatenate([self._before, before_s])[-KEPT_CHANGES:]
        self._seen = np.concatenate([self._seen, seen_s])[-KEPT_CHANGES:]
        self._since_lock += count
        if self._period_s > 0 and self._since_lock <= self._good_for:
            foretold = self._foretell(before_s, seen_s)
            miss = np.maximum(before_s - foretold, foretold - seen_s)
            if miss.max(initial=0.0) <= TOLERATED_SHARE * self._period_s:
                return foretold, np.full(count, self._slack_s)
        if self._period_s > 0 or self._since_lock > RELOCK_AFTER or count >= FIRST_LOCK // 2:
            self._relock()
        if self._period_s > 0:
            return self._foretell(before_s, seen_s), np.full(count, self._slack_s)
        return (before_s + seen_s) / 2, (seen_s - before_s) / 2

    def _foretell(self, before_s: Float64, seen_s: Float64) -> Float64:
        number = np.rint(((before_s + seen_s) / 2 - self._anchor_s) / self._period_s)
        return self._anchor_s + number * self._period_s

    def _relock(self) -> None:
        self._since_lock = 0
        # A lock made of few changes is good for few: its period is not known well enough to run on.
        self._good_for = min(RELOCK_AFTER, len(self._seen) // 2)
        lock = lock_ticks(self._before, self._seen)
        if not len(lock.locked) or not lock.locked[-1]:
            self._period_s = self._anchor_s = self._slack_s = NAN
            return
        self._period_s = float(lock.block_period_s[-1])
        self._anchor_s, self._slack_s = float(lock.t_s[-1]), float(lock.slack_s[-1])
