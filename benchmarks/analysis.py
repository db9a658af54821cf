"""Speed of the analysis: bootstrap, tables over many rows, a day of traffic, one MESS+ decision, nearest neighbours.

`python -m benchmarks.analysis [--small]`; `--small` runs a hundredth of each, to see that it works.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
from harness_analysis import traffic
from harness_analysis.metrics.bootstrap import resampled_means
from harness_analysis.outcomes.matrix import OutcomeMatrix
from harness_analysis.routing import Queries
from harness_analysis.routing.mess_plus import OnlineLogistic, decide
from harness_analysis.routing.nearest import KNearest
from harness_analysis.routing.vector_index import recall_of
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.analysis_tables import measure_all
from benchmarks.machine import machine, markdown_table

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
        neighbours(scale),
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


def neighbours(scale: float) -> list[list[str]]:
    """Time nearest neighbours one query at a time on one thread: exact among 100,000, by the index among 900,000.

    The vectors are invented: 3,000 directions with noise, so that a true neighbour has a cosine of about 0.65, as
    questions on one subject have, and a subject holds 300 of 900,000. Recall is counted against the exact search on
    queries that are not stored.
    """
    import faiss

    lines = []
    random = np.random.default_rng(SEED)
    subjects = random.standard_normal((max(1, int(3_000 * scale)), 384), dtype=np.float32)
    stored = int(900_000 * scale)

    def invented(n: int) -> NDArray[np.float32]:
        noise = random.standard_normal((n, 384), dtype=np.float32)
        vectors = subjects[random.integers(0, len(subjects), n)] + 0.73 * noise
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    vectors, asked = invented(stored), invented(200)
    for name, part, first in (("exact", stored // 9, stored), ("index", stored, 1)):
        router = KNearest(100, approximate_from=first)
        built_s = timed(lambda router=router, part=part: router.fit(invented_matrix(part), vectors[:part]))  # type: ignore[arg-type]
        faiss.omp_set_num_threads(1)
        with threadpool_limits(1):
            took_s = timed(
                lambda router=router: [router.scores(Queries(asked[i : i + 1])) for i in range(200)]  # type: ignore[arg-type]
            )
        _, true = faiss.knn(asked, vectors[:part], 100, metric=faiss.METRIC_INNER_PRODUCT)
        recall = recall_of(router._index.nearest(asked, 100), true)
        faiss.omp_set_num_threads(0)
        what = f"k-NN ({name}), 100 among {part:,} x 384, one by one on one core"
        took = f"{1e3 * took_s / 200:.2f} ms a query, recall {recall:.3f}, built in {built_s:.0f} s"
        lines.append(row(what, "5 ms" if name == "index" else "-", took))
    return lines


def invented_matrix(n: int) -> OutcomeMatrix:
    """Return outcomes of n queries with 10 models."""
    random = np.random.default_rng(SEED)
    params_b = 2.0 ** np.arange(10)
    joules = params_b * random.uniform(50, 150, (n, 1))
    return OutcomeMatrix(
        query_ids=tuple(map(str, range(n))),
        texts=("",) * n,
        domains=("",) * n,
        models=tuple(f"model-{m}" for m in range(10)),
        params_b=params_b,
        correct=(random.random((n, 10)) < 0.6).astype(float),
        unit="joules",
        costs={"joules": joules, "dollars": joules * 1e-6},
    )


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def row(what: str, target: str, took: str) -> list[str]:
    """Return a line of the table and print it as it comes."""
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {took}", flush=True)
    return [what, target, took, f"{peak_gib:.1f} GiB"]


if __name__ == "__main__":
    main()
