"""Every speed figure that the README quotes, one after another: `make bench` (about an hour)."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = (
    ("sampler",),
    ("query_latency",),
    ("engine_throughput", "--engine", "stub"),
    ("coordinator",),
    ("fleet",),
    ("store",),
    ("evaluation",),
    ("datasets",),
    ("analysis",),
)


def main() -> None:
    """Run each benchmark in a process of its own; the worst exit code is this one's."""
    worst = 0
    for name, *options in BENCHMARKS:
        print(f"\n## {' '.join((name, *options))}\n", flush=True)
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False)
        worst = max(worst, done.returncode)
    sys.exit(worst)


if __name__ == "__main__":
    main()
