"""Intelligence per watt and per joule of each model on each hardware."""

from __future__ import annotations

import math

import pyarrow as pa

from harness_analysis.descriptive.intervals import ratio_moments, ratio_of
from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes.table import Outcomes


def efficiency(outcomes: Outcomes) -> pa.Table:
    """Return accuracy per mean watt and per mean joule, with 95 % intervals over queries (TrafficBench tables 4, 14).

    The intervals are of the sample of queries (delta method). Beside them `per_joule_instrument_low` and `_high` use
    the bounds of the joules: the instrument's own uncertainty, which no number of queries removes. Measured and
    estimated joules are rows of their own. Where watts are absent, joules per second of the query stand in.

    Raises:
        OutcomesError: no answer has both a verdict and joules.
    """
    t = outcomes.table
    t = t.filter(t.correct.notnull() & t.joules.notnull())
    t = t.mutate(power_w=t.watts.fill_null(t.joules / t.total_s.nullif(0.0)))
    keys = ["model_id", "hardware", "energy_kind"]
    grouped = t.group_by(keys).agg(
        params_b=t.params_b.max(),
        answers=t.count(),
        joules_low=t.joules_low.mean(),
        joules_high=t.joules_high.mean(),
        **ratio_moments(t.correct, t.power_w, "watt"),
        **ratio_moments(t.correct, t.joules, "joule"),
    )
    rows = []
    for row in grouped.order_by(["params_b", *keys]).to_pyarrow().to_pylist():
        watt, joule = ratio_of(row, "watt"), ratio_of(row, "joule")
        accuracy = row["joule_top"]
        rows.append(
            {
                **{key: row[key] for key in [*keys, "params_b", "answers"]},
                "accuracy": accuracy,
                "mean_watts": row["watt_bottom"],
                "mean_joules": row["joule_bottom"],
                **dict(zip(("per_watt", "per_watt_low", "per_watt_high"), watt, strict=True)),
                **dict(zip(("per_joule", "per_joule_low", "per_joule_high"), joule, strict=True)),
                "per_joule_instrument_low": accuracy / row["joules_high"] if row["joules_high"] else None,
                "per_joule_instrument_high": accuracy / row["joules_low"] if row["joules_low"] else None,
            }
        )
    if not rows:
        raise OutcomesError(
            f"{outcomes.name}: no answer has both a verdict and joules, which efficiency needs"
        )
    return pa.Table.from_pylist(rows)


def efficiency_gap(value: float, reference: float) -> float:
    """Return how many times better a value is than a reference (the gains of table 4, the gaps of table 14).

    NaN where the reference is 0 or absent.
    """
    return value / reference if reference and math.isfinite(reference) else float("nan")
