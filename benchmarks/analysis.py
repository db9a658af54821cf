"""Speed of the analysis: bootstrap, tables over many rows, a day of traffic, one MESS+ decision, nearest neighbours.

`python -m benchmarks.analysis [--small]`; `--small` runs a hundredth of each, to see that it works. Other sets of
neighbours are in `benchmarks.neighbours`.
"""

from __future__ import annotations

import argparse
import resource

import numpy as np
from harness_analysis import traffic
from harness_analysis.metrics.bootstrap import resampled_means
from harness_analysis.routing.mess_plus import OnlineLogistic, decide

from benchmarks.analysis_tables import measure_all
from benchmarks.invented_outcomes import invented_matrix, timed
from benchmarks.machine import machine, markdown_table
from benchmarks.neighbours import STORED, measure_sets

SEED = 0


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    scale = 0.01 if parser.parse_args().small else 1.0
    rows = [
        bootstrap(scale),
        day_of_traffic(scale),
        decision(),
        *(row(*found) for found in measure_sets(["clustered"], int(STORED * scale))),
        *measure_all(int(1_000_000 * scale)),
    ]
    print(f"{machine()}\n")
    print(markdown_table(["what", "to reach", "took", "peak memory of the process so far"], rows))


def bootstrap(scale: float) -> list[str]:
    """Time 10,000 resamples of 12,000 queries for 28 routers."""
    resamples, queries = max(100, int(10_000 * scale)), 12_000
    values = np.random.default_rng(SEED).random((queries, 28))
    took_s = timed(lambda: resampled_means(values, resamples, SEED))
    return row(f"paired bootstrap, {resamples:,} x {queries:,} queries x 28", "60 s", f"{took_s:.1f} s")


def day_of_traffic(scale: float) -> list[str]:
    """Time a day of 80.2 million requests for three strategies."""
    requests = 80.2e6 * scale
    world = invented_matrix(12_000)
    n = len(world)
    choices = {
        "cloud": np.full(n, 9),
        "router": np.random.default_rng(SEED).integers(0, 10, n),
        "oracle": np.zeros(n, int),
    }
    day = traffic.poisson_day(requests, 1 + np.sin(np.linspace(0, np.pi, 24)), SEED)
    took_s = timed(lambda: traffic.replay(day, world, choices))
    return row(
        f"{requests / 1e6:.1f} million requests, three strategies, two costs",
        "60 s, 2 GiB",
        f"{took_s:.1f} s",
    )


def decision() -> list[str]:
    """Time one decision of MESS+ with its linear predictor, 28 models and 384 dimensions."""
    random = np.random.default_rng(SEED)
    predictor = OnlineLogistic(28)
    predictor.update(random.random(384), (random.random(28) < 0.5).astype(float))
    cost, features = random.random(28), random.random(384)
    count = 5_000
    took_s = (
        timed(lambda: [decide(2.0, 0.01, cost, predictor.predict(features)) for _ in range(count)]) / count
    )
    return row("MESS+ decision, predictor included", "1 ms", f"{1e6 * took_s:.0f} us")


def row(what: str, target: str, took: str) -> list[str]:
    """Return a line of the table and print it as it comes."""
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {took}", flush=True)
    return [what, target, took, f"{peak_gib:.1f} GiB"]


if __name__ == "__main__":
    main()
