"""Nearest neighbours among 900,000 vectors of 384 dimensions, one query at a time on one core.

`python -m benchmarks.neighbours [--small] [--sets clustered,paraphrased,scattered] [--stored N]`

Three sets, because the speed and recall of an index depend on how vectors lie:

clustered: 3,000 invented directions with noise, so that a true neighbour has a cosine of about 0.65, as questions on
one subject have, and a subject holds 300 of 900,000.

paraphrased: MiniLM-L6 embeddings of public questions (MMLU-Pro, where it lies beside the checkout), each filled up with
as many paraphrases as are missing: the embedding plus a part of the difference between two other questions' embeddings,
so that noise lies where real embeddings differ. The part is chosen so that the mean cosine to the original is that of
questions and the same questions without every third word, embedded in fact.

scattered: directions without any structure, where no index can know where neighbours are.

Recall is counted against the exact search on queries that are not stored.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from harness_analysis.routing import Queries
from harness_analysis.routing.nearest import KNearest
from harness_analysis.routing.vector_index import recall_of
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.invented_outcomes import invented_matrix, timed
from benchmarks.machine import machine, markdown_table

QUESTIONS = Path(__file__).resolve().parents[2] / "shared" / "data" / "outcomes" / "mmlu_pro"
STORED, DIMENSIONS, ASKED, K = 900_000, 384, 200, 100
QUESTIONS_EMBEDDED = 3_000
SETS = ("clustered", "paraphrased", "scattered")
SEED = 0

Vectors = NDArray[np.float32]


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="a hundredth, to see that it works")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--stored", type=int, default=STORED)
    asked = parser.parse_args()
    rows = measure_sets(asked.sets.split(","), asked.stored // (100 if asked.small else 1))
    print(f"{machine()}\n")
    print(markdown_table(["what", "to reach", "took"], rows))


def measure_sets(names: list[str], stored: int) -> list[list[str]]:
    """Return one row per set of vectors, and one of the exact search on a part of the first."""
    rows = []
    for at, name in enumerate(names):
        made = {"clustered": clustered, "paraphrased": paraphrased, "scattered": scattered}[name](stored)
        if made is None:
            rows.append([f"k-NN ({name})", "5 ms", "not run: no public questions beside this checkout"])
            continue
        vectors, queries = made
        if at == 0:
            rows.append(search("exact", vectors[: stored // 9], queries, stored))
        rows.append(search(name, vectors, queries, 1))
        print(" | ".join(rows[-1]), flush=True)
    return rows


def search(name: str, vectors: Vectors, asked: Vectors, approximate_from: int) -> list[str]:
    """Return how long one query takes on one core, and the share of true neighbours that it finds."""
    import faiss

    router = KNearest(K, approximate_from=approximate_from)
    built_s = timed(lambda: router.fit(invented_matrix(len(vectors)), vectors))  # type: ignore[arg-type]
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        started, started_cpu = time.perf_counter(), time.thread_time()
        for at in range(len(asked)):
            router.scores(Queries(asked[at : at + 1]))  # type: ignore[arg-type]
        cpu_ms = 1e3 * (time.thread_time() - started_cpu) / len(asked)
        took_ms = 1e3 * (time.perf_counter() - started) / len(asked)
    faiss.omp_set_num_threads(0)
    likeness, true = faiss.knn(asked, vectors, K, metric=faiss.METRIC_INNER_PRODUCT)
    recall = recall_of(router._index.nearest(asked, K), true)
    alike = f"a neighbour's mean cosine {likeness.mean():.2f}"
    return [
        f"k-NN ({name}), {K} among {len(vectors):,} x {vectors.shape[1]}, {alike}",
        "-" if name == "exact" else "5 ms",
        f"{cpu_ms:.2f} ms of a core a query ({took_ms:.2f} ms by the clock), recall {recall:.3f} (half way between"
        f" stored ones {router.recall:.3f}), built in {built_s:.0f} s",
    ]


def unit(vectors: Vectors) -> Vectors:
    """Return vectors of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clustered(stored: int) -> tuple[Vectors, Vectors]:
    """Return invented vectors on 3,000 subjects, and some to ask for."""
    random = np.random.default_rng(SEED)
    subjects = random.standard_normal((max(1, 3_000 * stored // STORED), DIMENSIONS), dtype=np.float32)

    def some(n: int) -> Vectors:
        noise = random.standard_normal((n, DIMENSIONS), dtype=np.float32)
        return unit(subjects[random.integers(0, len(subjects), n)] + 0.73 * noise)

    return some(stored), some(ASKED)


def scattered(stored: int) -> tuple[Vectors, Vectors]:
    """Return directions that know nothing of each other."""
    random = np.random.default_rng(SEED)

    def some(n: int) -> Vectors:
        return unit(random.standard_normal((n, DIMENSIONS), dtype=np.float32))

    return some(stored), some(ASKED)


def paraphrased(stored: int) -> tuple[Vectors, Vectors] | None:
    """Return real embeddings filled up with paraphrases, and real questions that are not among them."""
    if not (QUESTIONS / "questions.parquet").is_file():
        return None
    import polars as pl
    from harness_analysis.embedding import embedder

    random = np.random.default_rng(SEED)
    texts = pl.read_parquet(QUESTIONS / "questions.parquet")["question"].to_list()
    wanted = min(len(texts), QUESTIONS_EMBEDDED, max(500, stored // 10)) + ASKED
    texts = [texts[i] for i in random.permutation(len(texts))[:wanted]]
    minilm = embedder("minilm")
    real = minilm.embed(texts).astype(np.float32)
    shortened = minilm.embed(
        [" ".join(w for i, w in enumerate(t.split()) if i % 3 != 2) for t in texts[:ASKED]]
    )
    likeness = float((real[:ASKED] * shortened).sum(axis=1).mean())
    asked, kept = real[:ASKED], real[ASKED:]
    n = len(kept)

    def perturbed(count: int, part: float) -> Vectors:
        one, other, of = random.integers(0, n, count), random.integers(0, n, count), np.arange(count) % n
        return unit(kept[of] + part * (kept[one] - kept[other]))

    low, high = 0.0, 5.0
    for _ in range(20):
        part = (low + high) / 2
        mean = float((perturbed(4_000, part) * kept[np.arange(4_000) % n]).sum(axis=1).mean())
        low, high = (part, high) if mean > likeness else (low, part)
    print(f"{n:,} questions embedded; paraphrases have a mean cosine of {likeness:.3f} to them", flush=True)
    return np.concatenate([kept, perturbed(stored - n, part)]), asked


if __name__ == "__main__":
    main()
