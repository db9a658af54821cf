"""Notices a vendor's call that does not come back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from harness_agent.polled_sources import Polled, Poller

LOOK_EVERY_S = 0.1
LOOKS = 4
"""A read that is on in so many looks one after another hangs: it has lasted for 0.3 s at least.

Looks and not a clock, because a machine that stood still for a second held up the looks too.
"""
_log = logging.getLogger(__name__)


class HangWatch:
    """A thread that looks at the pollers ten times a second; polling itself pays nothing for it."""

    def __init__(
        self,
        pollers: Callable[[], Sequence[Poller]],
        on_hang: Callable[[Poller, Polled, int], None],
        stop: threading.Event,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            pollers: returns those that poll now.
            on_hang: called once for each read that hangs, with its poller, source and number.
            stop: ends the thread.
        """
        self._pollers = pollers
        self._on_hang = on_hang
        self._stop = stop
        self._seen: dict[int, tuple[int, int]] = {}
        """By poller: the read that was on at the last look, and in how many looks it was."""

    def start(self) -> None:
        """Begin looking in a daemon thread."""
        threading.Thread(target=self._run, name="sampler-watch", daemon=True).start()

    def look(self) -> None:
        """Look once at every poller."""
        seen: dict[int, tuple[int, int]] = {}
        for poller in self._pollers():
            number, polled = poller.reads, poller.reading
            if polled is None:
                continue
            before, looks = self._seen.get(id(poller), (number, 0))
            looks = looks + 1 if before == number else 1
            seen[id(poller)] = (number, looks)
            if looks == LOOKS:
                self._on_hang(poller, polled, number)
        self._seen = seen

    def _run(self) -> None:
        while not self._stop.is_set():
            time.sleep(LOOK_EVERY_S)  # a third of the cost of a wait, and nobody waits for this thread's end
            try:
                self.look()
            except Exception:  # noqa: BLE001 - without the watch a hang would stop all sources
                _log.exception("looking for reads that hang failed")
