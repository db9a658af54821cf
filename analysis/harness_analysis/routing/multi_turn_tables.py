"""Multi-turn routing as a table: one row per strategy, as TrafficBench table 21."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from harness_analysis.metrics.bootstrap import Interval, statistic_interval
from harness_analysis.metrics.routing_quality import routing_quality
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix
from harness_analysis.routing.prefill import (
    NOT_PER_TOKEN,
    Recorded,
    conversation_costs,
    prefill_per_token,
    turns_in,
)


def multi_turn_table(
    routed: Sequence[tuple[str, IntArray]],
    training: OutcomeMatrix,
    test: OutcomeMatrix,
    *,
    prefill: Mapping[str, float] | None = None,
    recorded: Recorded = "warm",
    resamples: int = 2_000,
    seed: int = 0,
) -> pa.Table:
    """Return one row per choice of models for the same turns.

    Whole conversations are resampled, for their turns are no independent queries. `*_over_first` is against the first
    row, paired by conversation. `saved` is against the largest model for every turn, `saved_over_first` against the
    first row. `switches` is the share of later turns that another model answers than the turn before. Every turn's
    outcome is taken as recorded, whoever answered the turns before.

    Args:
        routed: (name, model of each test turn); the first is the baseline.
        training: outcomes with turns, from which costs of a prefill are fitted.
        test: the outcomes that were routed.
        prefill: cost of one prompt token by model, in `test.unit`, where it is known better.
        recorded: as for `conversation_costs`.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Source: TrafficBench appendix D.9, table 21.
    """
    members = turns_in(test).conversations()
    units = [test.unit, *(u for u in test.costs if u != test.unit and u not in NOT_PER_TOKEN)]
    per_token = {u: prefill_per_token(training, u, prefill if u == test.unit else None) for u in units}
    largest = np.full(len(test), len(test.models) - 1, dtype=np.int64)
    cloud = {u: conversation_costs(largest, test, u, per_token[u], recorded)[0].mean() for u in units}
    first = routed[0][1]
    first_cost = conversation_costs(first, test, test.unit, per_token[test.unit], recorded)[0].mean()
    first_right = test.correct[np.arange(len(test)), first]
    rows: list[dict[str, Any]] = []
    for name, choice in routed:
        quality = routing_quality(choice, test.correct)
        right = test.correct[np.arange(len(test)), choice]
        accuracy = _over_turns(right, members, resamples, seed)
        over = _over_turns(right - first_right, members, resamples, seed)
        spent = {u: conversation_costs(choice, test, u, per_token[u], recorded) for u in units}
        cost, extra = (float(part.mean()) for part in spent[test.unit])
        row: dict[str, Any] = {
            "strategy": name,
            "accuracy": accuracy.estimate,
            "accuracy_low": accuracy.low,
            "accuracy_high": accuracy.high,
            "accuracy_over_first": over.estimate,
            "over_first_low": over.low,
            "over_first_high": over.high,
            "label_f1": quality.label_f1,
            "macro_f1": quality.macro_f1,
            "largest_share": float(np.mean(choice == len(test.models) - 1)),
            "switches": _switches(choice, members),
            "mean_cost": _known(cost),
            "mean_history_cost": None if test.unit in NOT_PER_TOKEN else _known(extra),
            "saved": _saved(cost, cloud[test.unit]),
            "saved_over_first": _saved(cost, first_cost),
            "cost_unit": test.unit,
            "conversations": len(members),
            "turns": len(test),
        }
        for unit in units:
            if unit not in NOT_PER_TOKEN:
                mean = float(spent[unit][0].mean())
                row |= {f"mean_{unit}": _known(mean), f"{unit}_saved": _saved(mean, cloud[unit])}
        rows.append(row)
    return pa.Table.from_pylist(rows)


def _over_turns(values: FloatArray, members: list[IntArray], resamples: int, seed: int) -> Interval:
    """Return the mean over turns with its interval over conversations."""
    sums = np.array([[values[at].sum(), len(at)] for at in members], dtype=np.float64)
    return statistic_interval(sums, lambda mean: float(mean[0] / mean[1]), resamples, seed)


def _switches(choice: IntArray, members: list[IntArray]) -> float | None:
    later = sum(len(at) - 1 for at in members)
    changed = sum(int(np.count_nonzero(np.diff(choice[at]))) for at in members)
    return changed / later if later else None


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _saved(cost: float, against: float) -> float | None:
    return 1 - cost / against if np.isfinite(cost) and np.isfinite(against) and against > 0 else None
