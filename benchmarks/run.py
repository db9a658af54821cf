"""Every speed figure that the README quotes, one after another: `make bench`."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = ("sampler", "query_latency", "engine_throughput", "coordinator", "store", "evaluation")


def main() -> None:
    """Run each benchmark in a process of its own; the worst exit code is this one's."""
    worst = 0
    for name in BENCHMARKS:
        print(f"\n## {name}\n", flush=True)
        worst = max(
            worst, subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        )
    sys.exit(worst)


if __name__ == "__main__":
    main()
