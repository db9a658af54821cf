"""The check that nothing is stored without passing: joules given out equal the joules of the device."""

from __future__ import annotations

import math

from harness_coordinator.energy.records import ConservationError

RELATIVE = 1e-9
SMALLEST_J = 1e-6
"""The check is relative to at least this much energy: a device total of zero has no relative error."""


def check_conservation(device_j: float, attributed_j: float, unattributed_j: float, what: str) -> None:
    """Refuse joules that do not add up.

    Raises:
        ConservationError: attributed plus unattributed differ from the device's joules by more than 1e-9 of
            them, or one of the three is not a number.
    """
    total = attributed_j + unattributed_j
    error = abs(total - device_j)
    if not math.isfinite(error) or error > RELATIVE * max(abs(device_j), SMALLEST_J):
        raise ConservationError(
            f"{what}: {attributed_j!r} J attributed + {unattributed_j!r} J unattributed = {total!r} J, "
            f"but the device used {device_j!r} J; nothing of it is stored"
        )
