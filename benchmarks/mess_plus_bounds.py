"""MESS+'s theorem 2 on outcomes that others published: both sides, every term computed from runs.

`python -m benchmarks.mess_plus_bounds [--outcomes FOLDER] [--alpha A] [--v V,V] [--draws N]`

Requests are drawn with replacement, so that they are independent as assumption 2 asks. Twice each: with the online
predictor, and with one that knows every answer, for which the bound has no term of prediction.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from harness_analysis.embedding import embedder
from harness_analysis.outcomes import open_outcomes
from harness_analysis.routing.mess_plus import run_mess_plus
from harness_analysis.routing.mess_plus_bounds import cost_bound, least_cost
from numpy.typing import NDArray

from benchmarks.machine import machine, markdown_table

LLMROUTER = Path(__file__).resolve().parents[2] / "shared" / "data" / "outcomes" / "llmrouter"
HEADING = [
    "V", "predictor", "satisfied", "mean cost", "bound", "optimal", "prediction", "1 / 2V", "exploration",
    "while exploring",
]  # fmt: skip


class Clairvoyant:
    """Predicts what will be."""

    def __init__(self, correct: NDArray[np.float64]) -> None:
        """Take the answers in the order they will be asked for."""
        self._rows = iter(correct)

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the truth."""
        return next(self._rows)

    def update(self, features: NDArray[np.float64], satisfied: NDArray[np.float64]) -> None:
        """Go on to the next request."""
        next(self._rows)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--outcomes", default=str(LLMROUTER))
    parser.add_argument("--cost", default="params")
    parser.add_argument("--alpha", type=float, default=0.6)
    parser.add_argument("--v", default="0.01,0.1")
    parser.add_argument("--draws", type=int, default=10)
    asked = parser.parse_args()
    matrix = open_outcomes(asked.outcomes).matrix(asked.cost)
    words = embedder("tfidf")
    words.fit(matrix.texts)
    vectors = words.embed(matrix.texts)
    optimal = least_cost(matrix.correct, matrix.cost, asked.alpha)
    rows = []
    for v in (float(word) for word in asked.v.split(",")):
        for knows in (False, True):
            found, satisfied = [], []
            for seed in range(asked.draws):
                drawn = np.random.default_rng(seed).integers(0, len(matrix), len(matrix))
                ran = run_mess_plus(
                    matrix.correct[drawn],
                    matrix.cost[drawn],
                    vectors[drawn],
                    alpha=asked.alpha,
                    v=v,
                    predictor=Clairvoyant(matrix.correct[drawn]) if knows else None,
                    seed=seed,
                )
                found.append(cost_bound(ran, v, optimal))
                satisfied.append(ran.satisfied.mean())
            terms = ("cost", "bound", "optimal", "prediction", "drift", "exploration", "exploration_drift")
            means = [f"{np.mean([getattr(f, term) for f in found]):.3f}" for term in terms]
            rows.append([f"{v:g}", "knows" if knows else "online", f"{np.mean(satisfied):.4f}", *means])
    print(f"{machine()}; {len(matrix)} requests, {len(matrix.models)} models, {asked.draws} draws\n")
    print(markdown_table(HEADING, rows))


if __name__ == "__main__":
    main()
