"""How many neighbours to ask: macro F1 and deferral area for each k, and which k is best by each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from harness_analysis.embedding import Embedder
from harness_analysis.errors import RoutingError
from harness_analysis.metrics.deferral import budgeted_choices, budgets_of, deferral_curve
from harness_analysis.metrics.routing_quality import routing_quality
from harness_analysis.outcomes.matrix import OutcomeMatrix
from harness_analysis.routing.choosing import DEFAULT_THRESHOLD, best, smallest_viable
from harness_analysis.routing.nearest import SWEEP, KNearest
from harness_analysis.routing.router import Queries

MEASURES = ("macro_f1", "label_f1", "accuracy", "area")
"""What a best k is named for, greater is better."""


def sweep_neighbours(
    training: OutcomeMatrix,
    validation: OutcomeMatrix,
    embedder: Embedder,
    *,
    ask: Literal["vote", "score"] = "vote",
    sweep: Sequence[int] = SWEEP,
    threshold: float = DEFAULT_THRESHOLD,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Return one row per k, from the least; `best` names the measures by which it is the best, ties to the smaller k.

    Args:
        training: outcomes to ask neighbours among.
        validation: outcomes of other queries.
        embedder: not fitted yet.
        ask: as for `KNearest`; `vote` is TrafficBench's.
        sweep: the k to try.
        threshold: that a score must exceed, with `score`.
        progress: told of each k before its turn.

    Raises:
        RoutingError: no k, or one that is below 1 or above the number of training queries.

    Source: TrafficBench section 4.2 and appendix C.1, which chooses k by macro F1.
    """
    tried = sorted(set(sweep))
    if not tried:
        raise RoutingError("a sweep needs at least one k")
    if tried[-1] > len(training):
        raise RoutingError(f"k {tried[-1]} is more than the {len(training)} training queries there are")
    routers = [KNearest(k, ask) for k in tried]
    model_cost = training.cost.mean(axis=0)
    budgets = budgets_of(model_cost)
    embedder.fit(training.texts)
    known, asked = embedder.embed(training.texts), Queries(embedder.embed(validation.texts))
    rows: list[dict[str, Any]] = []
    for router in routers:
        progress(f"k = {router.k}")
        router.fit(training, known)
        scores = router.scores(asked)
        quality = routing_quality(
            best(scores) if router.votes else smallest_viable(scores, threshold), validation.correct
        )
        curve = deferral_curve(budgeted_choices(scores, model_cost, budgets), validation.correct, budgets)
        rows.append(
            {
                "k": router.k,
                "macro_f1": quality.macro_f1,
                "label_f1": quality.label_f1,
                "accuracy": quality.accuracy,
                "area": curve.area,
            }
        )
    first = {measure: max(rows, key=lambda row: (row[measure], -row["k"]))["k"] for measure in MEASURES}
    for row in rows:
        row["best"] = ", ".join(m for m in MEASURES if first[m] == row["k"])
        row["validation_queries"] = len(validation)
    return rows
