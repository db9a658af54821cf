"""Samples before results: a result is told only after the samples of its time are on their way to disk.

An agent that is killed loses what it had buffered. Were a result kept and its samples lost, its query would be done
and its joules unknown for ever; the other way round the task is simply run again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

HAND_ON_EVERY_S = 0.25
"""Results that end within this time share one hand-over of samples, so that blocks stay few."""


class SampleGate:
    """Lets results pass once the samples taken so far were handed on. Lives in one event loop."""

    def __init__(self, flush_samples: Callable[[], None]) -> None:
        """Prepare.

        Args:
            flush_samples: hands on what the sampler has buffered; may block for a moment.
        """
        self._flush_samples = flush_samples
        self._flushed_s = -HAND_ON_EVERY_S
        self._next: asyncio.Task[None] | None = None

    async def passed(self) -> None:
        """Return when all samples taken before this call were handed on."""
        if self._next is None:
            self._next = asyncio.create_task(self._hand_on())
        await asyncio.shield(self._next)

    async def _hand_on(self) -> None:
        await asyncio.sleep(max(0.0, self._flushed_s + HAND_ON_EVERY_S - time.monotonic()))
        # Whoever comes from here on may have ended after the samples that are handed on now.
        self._next = None
        self._flushed_s = time.monotonic()
        await asyncio.to_thread(self._flush_samples)
