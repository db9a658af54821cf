"""The machine a figure was made on, and the tables figures are printed in."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

ADDITIONS = 2_000_000


def machine() -> str:
    """Return processor, cores, memory, system, Python and the speed of the moment in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            t.partition(":")[2].strip()
            for t in cpuinfo.read_text().splitlines()
            if t.startswith("model name")
        ]
        model = names[0] if names else model
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (
        f"{model}, {os.cpu_count()} cores, {pages / 2**30:.0f} GiB,"
        f" {platform.system()} {platform.release().partition('-')[0]}, Python {platform.python_version()},"
        f" {speed()}"
    )


def speed() -> str:
    """Say how long a plain loop takes now: a shared machine is two or three times as fast at one time as at another."""
    took_s: list[float] = []
    for _ in range(5):
        began_s, total = time.process_time(), 0
        for number in range(ADDITIONS):
            total += number
        took_s.append(time.process_time() - began_s)
    return f"{statistics.median(took_s) / ADDITIONS * 1e9:.0f} ns for an addition in a Python loop"


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
