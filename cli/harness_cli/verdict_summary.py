"""What came out of judging: per method and model how many were judged, right, undecided, and the position bias."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from harness_analysis.evaluation.verdicts import PositionBias, position_bias
from harness_store.judging import VerdictCount

SUMMARY_COLUMNS = (
    "method",
    "model_id",
    "answers",
    "judged",
    "right",
    "share_right",
    "undecided",
    "orders_disagree",
    "first_gains",
    "second_gains",
)
SUMMARY_LABELS = {
    "model_id": "model",
    "share_right": "share",
    "orders_disagree": "orders disagree",
    "first_gains": "first gains",
    "second_gains": "second gains",
}


def summary_rows(verdicts: Sequence[dict[str, Any]], methods: Collection[str]) -> list[dict[str, Any]]:
    """Sum verdicts up; the columns of position bias are None where no answer was compared in both orders."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for verdict in verdicts:
        if verdict["method"] in methods:
            groups.setdefault((verdict["method"], verdict["model_id"]), []).append(verdict)
    return [_summary(method, model, own) for (method, model), own in sorted(groups.items())]


def counted_rows(counts: Sequence[VerdictCount]) -> list[dict[str, Any]]:
    """Return the rows of methods that compare nothing in two orders."""
    return [_row(count, position_bias([])) for count in counts]


def _summary(method: str, model_id: str, verdicts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    decided = [v["correct"] for v in verdicts if v["correct"] is not None]
    details = [json.loads(v["detail"]) for v in verdicts if v["detail"] and method.startswith("judge:")]
    bias = position_bias([d["levels"] for d in details if "levels" in d])
    return _row(VerdictCount(method, model_id, len(verdicts), len(decided), sum(decided)), bias)


def _row(count: VerdictCount, bias: PositionBias) -> dict[str, Any]:
    measured = bias.both_orders > 0
    return {
        "method": count.method,
        "model_id": count.model_id,
        "answers": count.answers,
        "judged": count.judged,
        "right": count.right,
        "share_right": count.right / count.judged if count.judged else None,
        "undecided": count.answers - count.judged,
        "orders_disagree": bias.disagree if measured else None,
        "first_gains": bias.first_gains if measured else None,
        "second_gains": bias.second_gains if measured else None,
        "both_orders": bias.both_orders if measured else None,
    }
