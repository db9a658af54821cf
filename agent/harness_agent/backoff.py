"""Pauses between attempts to reach the coordinator."""

from __future__ import annotations

import random

FIRST_S = 0.2
LONGEST_S = 15.0


class Backoff:
    """Doubling pauses with full jitter, so that a fleet does not come back all at once."""

    def __init__(self, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._ceiling_s = first_s

    def reset(self) -> None:
        """Begin again with short pauses."""
        self._ceiling_s = self._first_s

    def next_s(self) -> float:
        """Return the next pause."""
        pause_s = random.uniform(self._ceiling_s / 2, self._ceiling_s)  # noqa: S311
        self._ceiling_s = min(2 * self._ceiling_s, self._longest_s)
        return pause_s
