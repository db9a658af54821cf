"""Datasets: a million queries imported, and doubled ones found among them; near duplicates among 100,000 vectors.

The queries are made up: words of a Zipf-like vocabulary, lengths of 30 to 1,500 characters (median about 350), one in
fifty a repetition of an earlier one in other case and spacing. Each part runs in a process of its own, whose greatest
resident memory is its figure. The database is a SQLite file, written durably.

    python -m benchmarks.datasets [--rows N] [--vectors N]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import machine, markdown_table

REPEATED = 50
DIMENSIONS = 384
PAIRED = 20


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--part", choices=("import", "exact", "near"))
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    if chosen.part:
        work = {"import": import_part, "exact": exact_part, "near": near_part}[chosen.part]
        figures = work(chosen.folder, chosen.vectors if chosen.part == "near" else chosen.rows)
        # On Linux in KiB.
        print(json.dumps({**figures, "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
        return
    with tempfile.TemporaryDirectory() as name:
        write_queries(Path(name) / "queries.jsonl", chosen.rows)
        done = {part: _in_own_process(part, name, chosen) for part in ("import", "exact", "near")}
    both_s = done["import"]["s"] + done["exact"]["s"]
    print(f"On {machine()}:\n")
    rows = [
        (
            f"import of {chosen.rows:,} queries, SQLite",
            f"{done['import']['s']:.0f} s",
            "",
            _gib(done["import"]),
        ),
        (
            f"exact duplicates among them ({done['exact']['found']:,} found)",
            f"{done['exact']['s']:.0f} s",
            "",
            _gib(done["exact"]),
        ),
        ("both", f"{both_s:.0f} s", "180 s, 2 GiB", ""),
        (
            f"near duplicates among {chosen.vectors:,} x {DIMENSIONS} ({done['near']['found']:,} of"
            f" {done['near']['planted']:,} planted)",
            f"{done['near']['s']:.0f} s",
            "120 s",
            _gib(done["near"]),
        ),
    ]
    print(markdown_table(("what", "took", "limit", "peak memory"), rows))


def write_queries(path: Path, rows: int) -> None:
    """Write made-up queries as JSONL."""
    chance = np.random.default_rng(7)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(chance.choice(list(letters), chance.integers(2, 10))) for _ in range(20_000)]
    kept: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, rows, 10_000):
            lengths = np.clip(chance.lognormal(4.1, 0.7, 10_000), 5, 250).astype(int)
            picked = np.minimum(chance.zipf(1.3, int(lengths.sum())), len(words)) - 1
            ends = np.cumsum(lengths)
            for at in range(start, min(start + 10_000, rows)):
                end = ends[at - start]
                text = " ".join(words[w] for w in picked[end - lengths[at - start] : end]) + f" {at}?"
                if at % REPEATED == REPEATED - 1 and kept:
                    text = "  " + kept[at % len(kept)].upper()
                elif len(kept) < 5_000:
                    kept.append(text)
                row = {"id": f"q{at}", "query": text, "reference": str(at), "domain": f"d{at % 22}"}
                file.write(json.dumps(row) + "\n")


def import_part(folder: Path, rows: int) -> dict[str, float]:
    """Import the queries as `harness dataset import --db` does."""
    from harness_analysis.datasets.importing import ImportReport, import_batches
    from harness_analysis.datasets.mapping import load_mapping
    from harness_analysis.datasets.spool import Spool
    from harness_store.database import open_store
    from harness_store.dataset_tables import rows_of
    from harness_store.datasets import NewDataset, import_rows

    start = time.perf_counter()
    store = open_store(f"sqlite:///{folder / 'store.db'}")
    with Spool() as spool:
        source = [str(folder / "queries.jsonl")]
        spool.write(import_batches(source, load_mapping("plain"), ImportReport()))
        with store.begin() as connection:
            new = NewDataset("bench", "made up", time.time_ns())
            imported = import_rows(connection, new, rows_of(spool.batches()))
    store.close()
    assert imported.dataset.row_count == rows
    return {"s": time.perf_counter() - start}


def exact_part(folder: Path, rows: int) -> dict[str, float]:
    """Read the dataset and clean it of exact duplicates as `harness dataset clean` does."""
    from harness_analysis.datasets.cleaning import Steps, clean
    from harness_analysis.datasets.spool import Spool
    from harness_store.database import open_store
    from harness_store.dataset_tables import row_batch
    from harness_store.datasets import find_dataset

    start = time.perf_counter()
    store = open_store(f"sqlite:///{folder / 'store.db'}", create=False)
    with Spool() as spool, store.read() as connection:
        row = find_dataset(connection, "bench")
        spool.write(row_batch(connection, row.dataset_id, first=at) for at in range(0, rows, 5_000))
        steps = Steps(reference=False, max_characters=None, english=False, near=None)
        cleaned = clean(spool.table(), steps)
    store.close()
    found = rows - len(cleaned.kept)
    assert found >= rows // REPEATED - 1, "planted repetitions were missed"
    return {"s": time.perf_counter() - start, "found": found}


def near_part(_folder: Path, count: int) -> dict[str, float]:
    """Find planted near duplicates among vectors whose spectrum falls as that of sentence embeddings does."""
    from harness_analysis.datasets.near_duplicates import near_duplicate_groups

    chance = np.random.default_rng(3)
    spectrum = (1 + np.arange(DIMENSIONS)) ** -0.4
    vectors = chance.standard_normal((count, DIMENSIONS)).astype(np.float32) * spectrum.astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    copies = np.arange(0, count - 1, PAIRED)
    noise = chance.standard_normal((len(copies), DIMENSIONS)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    vectors[copies + 1] = vectors[copies] + 0.03 * noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    start = time.perf_counter()
    groups = near_duplicate_groups(vectors)
    took = time.perf_counter() - start
    return {"s": took, "found": int((groups[copies + 1] == copies).sum()), "planted": len(copies)}


def _in_own_process(part: str, folder: str, chosen: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.datasets", "--part", part, "--folder", folder]
    command += ["--rows", str(chosen.rows), "--vectors", str(chosen.vectors)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(ran.stdout.splitlines()[-1])
    print(f"{part}: {figures}", file=sys.stderr, flush=True)
    return figures


def _gib(figures: dict[str, float]) -> str:
    return f"{figures['gib']:.2f} GiB"


if __name__ == "__main__":
    main()
