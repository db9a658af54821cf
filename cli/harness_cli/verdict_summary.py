"""What came out of judging: per method and model how many were judged, right, undecided, and the position bias."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from harness_analysis.evaluation.verdicts import position_bias

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


def _summary(method: str, model_id: str, verdicts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    decided = [v["correct"] for v in verdicts if v["correct"] is not None]
    details = [json.loads(v["detail"]) for v in verdicts if v["detail"] and method.startswith("judge:")]
    bias = position_bias([d["levels"] for d in details if "levels" in d])
    measured = bias.both_orders > 0
    return {
        "method": method,
        "model_id": model_id,
        "answers": len(verdicts),
        "judged": len(decided),
        "right": sum(decided),
        "share_right": sum(decided) / len(decided) if decided else None,
        "undecided": len(verdicts) - len(decided),
        "orders_disagree": bias.disagree if measured else None,
        "first_gains": bias.first_gains if measured else None,
        "second_gains": bias.second_gains if measured else None,
        "both_orders": bias.both_orders if measured else None,
    }
