"""Outcomes made up for timing, and a stopwatch."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from harness_analysis.outcomes.matrix import OutcomeMatrix

SEED = 0


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
