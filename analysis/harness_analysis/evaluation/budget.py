"""A cap on what judging may cost, that is never exceeded however many asks are in flight."""

from __future__ import annotations

import threading


class BudgetSpentError(Exception):
    """The next ask could exceed the cap."""


class Budget:
    """Dollars spent, and dollars that asks in flight may cost at most. Thread-safe."""

    def __init__(self, cap_usd: float | None = None) -> None:
        self._cap_usd = cap_usd
        self._changed = threading.Condition()
        self._held_usd = 0.0
        self.spent_usd = 0.0
        self.uncertain_usd = 0.0
        """At most this much more, for asks whose answer never came: their sender may bill them all the same."""

    def hold(self, bound_usd: float) -> None:
        """Set aside what an ask costs at most; wait for others in flight while that may make room.

        Raises:
            BudgetSpentError: it does not fit under the cap.
        """
        with self._changed:
            while not self._fits(bound_usd):
                if self._held_usd <= 0:
                    raise BudgetSpentError
                self._changed.wait()
            self._held_usd += bound_usd

    def settle(self, bound_usd: float, cost_usd: float | None, *, sent: bool = True) -> None:
        """Replace what was set aside by what it cost; None where nobody said."""
        with self._changed:
            self._held_usd = max(0.0, self._held_usd - bound_usd)
            if cost_usd is not None:
                self.spent_usd += cost_usd
            elif sent:
                self.uncertain_usd += bound_usd
            if self._held_usd < 1e-12:
                self._held_usd = 0.0
            self._changed.notify_all()

    def _fits(self, bound_usd: float) -> bool:
        if self._cap_usd is None:
            return True
        return self.spent_usd + self.uncertain_usd + self._held_usd + bound_usd <= self._cap_usd
