"""A loop that repeats an action, sooner when woken, and survives the action's failures."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)


async def repeat(
    name: str, action: Callable[[], Awaitable[None]], every_s: float, wake: asyncio.Event | None = None
) -> None:
    """Repeat `action` until cancelled, every `every_s` seconds and whenever `wake` is set.

    A failure is logged and the action tried again at its next turn: a database that is away for a while must
    not end the coordinator.
    """
    wake = wake or asyncio.Event()
    while True:
        wake.clear()
        try:
            await action()
        except Exception:  # noqa: BLE001 - whatever it was, the next turn may succeed
            _log.exception("%s failed; it is tried again", name)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), every_s)
