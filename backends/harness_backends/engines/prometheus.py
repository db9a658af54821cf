"""Read gauges out of Prometheus text (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

import math
from collections.abc import Container


def parse_gauges(text: str, names: Container[str]) -> dict[str, float]:
    """Return the values of the named metrics; over several label sets (one per engine core) they are added up.

    Args:
        text: the body of /metrics.
        names: the metrics that are wanted; others, and values that are no finite number, are skipped.
    """
    found: dict[str, float] = {}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name not in names or line.startswith("#"):
            continue
        try:
            value = float(line.rpartition("}")[2].split()[0] if "{" in line else line.split()[1])
        except (ValueError, IndexError):
            continue
        if math.isfinite(value):
            found[name] = found.get(name, 0.0) + value
    return found
