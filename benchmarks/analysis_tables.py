"""Speed and memory of every descriptive table over 40 million rows, each in a process of its own.

A million queries x 10 models x 4 machines (4 precisions for the comparison of precisions) lie in a DuckDB file that is
made once; the seconds include the expressions, the reading of the file and the intervals.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ibis
import numpy as np
from harness_analysis import descriptive
from harness_analysis.outcomes.matrix import OutcomeMatrix
from harness_analysis.outcomes.table import Outcomes, normalised

_ROWS = """
  SELECT 'query-' || q AS query_id, 'domain-' || (q % 22) AS domain, 'family' || (m % 2) || '-' || m AS model_id,
    pow(2, m) AS params_b, 'hardware-' || h AS hardware, 'measured' AS energy_kind,
    (hash(q * 131 + m) % 1000 < 400 + 50 * m)::INT::DOUBLE AS correct,
    pow(2, m) * (50 + hash(q, m, h) % 100) AS joules, pow(2, m) * 1e-6 AS cost, 1.0 + hash(q, m, h) % 10 AS total_s
  FROM range({queries}) a(q), range(10) b(m), range(4) c(h)
"""
_PRECISIONS = """
  SELECT * REPLACE (NULL::VARCHAR AS hardware), ['fp16', 'fp8', 'fp4', 'int8'][1 + hardware[-1:]::INT] AS precision
  FROM answers
"""
TARGET_S = 60.0


def measure_all(queries: int, names: list[str] | None = None) -> list[list[str]]:
    """Return one line per table (all, or some by name): rows, seconds to reach, seconds taken, peak memory."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answers.duckdb"
        connection = ibis.duckdb.connect(file)
        connection.raw_sql(f"CREATE TABLE answers AS {_ROWS.format(queries=queries)}")
        connection.raw_sql(f"CREATE VIEW precisions AS {_PRECISIONS}")
        connection.disconnect()
        for name in names or TABLES:
            ran = subprocess.run(
                [sys.executable, "-m", "benchmarks.analysis_tables", name, str(file)],
                check=True,
                capture_output=True,
                text=True,
            )
            found = json.loads(ran.stdout)
            line = [
                f"{name}, {found['rows'] / 1e6:.1f} million rows",
                f"{TARGET_S:.0f} s",
                f"{found['seconds']:.1f} s",
                f"{found['peak_gib']:.1f} GiB",
            ]
            print(": ".join(line), flush=True)
            lines.append(line)
    return lines


def _whole(connection: ibis.BaseBackend) -> Outcomes:
    return Outcomes(normalised(connection.table("answers"), "benchmark"), "benchmark")


def _one_machine(connection: ibis.BaseBackend) -> Outcomes:
    return _whole(connection).select(hardware=["hardware-0"])


def _precisions(connection: ibis.BaseBackend) -> Outcomes:
    return Outcomes(normalised(connection.table("precisions"), "benchmark"), "benchmark")


def _failures(outcomes: Outcomes) -> object:
    matrix: OutcomeMatrix = outcomes.matrix()
    choice = np.random.default_rng(0).integers(0, len(matrix.models), len(matrix))
    return descriptive.failure_modes(matrix, choice)


TABLES: dict[str, tuple[Callable[[ibis.BaseBackend], Outcomes], Callable[[Outcomes], object]]] = {
    "solvability": (_whole, descriptive.solvability),
    "solvability by domain": (_whole, lambda o: descriptive.solvability(o, "domain")),
    "joint coverage": (_whole, descriptive.joint_coverage),
    "joint coverage by domain": (_whole, lambda o: descriptive.joint_coverage(o, "domain")),
    "efficiency": (_whole, descriptive.efficiency),
    "savings by size, one machine of four": (_one_machine, descriptive.savings_by_size),
    "precisions": (_precisions, descriptive.precision_comparison),
    "pool of models": (_whole, descriptive.pool_table),
    "failure modes, one machine of four": (_one_machine, _failures),
}
"""Name -> which rows, which table."""


def _child(name: str, file: str) -> None:
    opened, make = TABLES[name]
    outcomes = opened(ibis.duckdb.connect(file, read_only=True))
    rows = int(outcomes.table.count().execute())
    started = time.perf_counter()
    make(outcomes)
    seconds = time.perf_counter() - started
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"rows": rows, "seconds": seconds, "peak_gib": peak_gib}))


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2])
