"""Small worlds of outcomes whose best routing is known."""

from __future__ import annotations

import numpy as np
from harness_analysis.outcomes.matrix import OutcomeMatrix

TOPICS = {
    "law": "court judge statute appeal contract tort liability",
    "maths": "integral prime matrix theorem polynomial vector sum",
    "cooking": "onion oven butter recipe simmer flour pan",
}
# Chance of a correct answer by topic; from the smallest model to the largest.
SKILL = {"law": (0.05, 0.95, 0.6), "maths": (0.05, 0.1, 0.95), "cooking": (0.95, 0.95, 0.95)}


def topic_world(n: int = 600, seed: int = 0) -> OutcomeMatrix:
    """Return queries on three topics: cooking for the smallest model, law for the middle, maths for the largest."""
    random = np.random.default_rng(seed)
    topics = random.choice(list(TOPICS), size=n)
    texts = tuple(" ".join(random.choice(TOPICS[t].split(), size=5)) for t in topics)
    correct = (random.random((n, 3)) < np.array([SKILL[t] for t in topics])).astype(float)
    params_b = np.array([1.0, 8.0, 70.0])
    joules = params_b * random.uniform(8, 12, size=(n, 1))
    return OutcomeMatrix(
        query_ids=tuple(f"q{i}" for i in range(n)),
        texts=texts,
        domains=tuple(str(t) for t in topics),
        models=("small", "middle", "large"),
        params_b=params_b,
        correct=correct,
        unit="joules",
        costs={"params": np.tile(params_b, (n, 1)), "joules": joules, "dollars": joules * 1e-6},
    )
