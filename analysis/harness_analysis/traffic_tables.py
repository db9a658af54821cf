"""A replay of traffic as a table and a figure: cloud-only, one router and the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from harness_analysis.metrics.routing_quality import smallest_correct
from harness_analysis.outcomes.matrix import COST_UNITS, FloatArray, IntArray, OutcomeMatrix
from harness_analysis.plots import Figure, lines_figure
from harness_analysis.routing.choosing import best, smallest_viable
from harness_analysis.routing.saved import FittedRouter
from harness_analysis.traffic import Replay, TrafficError, hourly_shape, poisson_day, read_arrivals

CLOUD, ORACLE = "cloud", "oracle"


def three_strategies(fitted: FittedRouter, test: OutcomeMatrix, threshold: float) -> dict[str, IntArray]:
    """Return the choices of cloud-only, the router at a threshold, and the oracle, for the test queries."""
    scores = fitted.scores(list(test.texts))
    return {
        CLOUD: np.full(len(test), len(test.models) - 1),
        fitted.router.name: best(scores) if fitted.router.votes else smallest_viable(scores, threshold),
        ORACLE: smallest_correct(test.correct),
    }


def traffic_blocks(
    arrivals: Path | None, requests_per_day: float | None, seed: int
) -> Iterator[FloatArray] | list[FloatArray]:
    """Return the trace itself, or a day of a given number of requests in the trace's shape (flat without a trace).

    Raises:
        TrafficError: neither is given, or the trace cannot be read.
    """
    trace = read_arrivals(arrivals) if arrivals is not None else None
    if requests_per_day is None:
        if trace is None:
            raise TrafficError("no traffic: neither a trace nor a number of requests a day")
        return [trace]
    return poisson_day(requests_per_day, np.ones(24) if trace is None else hourly_shape(trace), seed)


def replay_table(ran: Replay) -> pa.Table:
    """Return one row per strategy: totals, savings against the cloud, and the share of the oracle's savings."""
    rows = []
    for name, sums in ran.cumulative.items():
        row: dict[str, object] = {"strategy": name, "requests": ran.requests, "accuracy": ran.accuracy[name]}
        for unit, curve in sums.items():
            row[f"total_{unit}"] = float(curve[-1])
            row[f"{unit}_saved"] = ran.saved(name, unit, CLOUD)
            possible = ran.saved(ORACLE, unit, CLOUD)
            row[f"{unit}_of_oracle"] = ran.saved(name, unit, CLOUD) / possible if possible > 0 else None
        row["mean_waiting_s"] = ran.waiting_s.get(name)
        rows.append(row)
    return pa.Table.from_pylist(rows)


def replay_curve_figure(ran: Replay) -> Figure:
    """Draw the cumulative cost of each strategy over the day, in joules where they are known (figure 5).

    Raises:
        TrafficError: no cost that adds up is known.
    """
    units = list(ran.cumulative[CLOUD])
    if not units:
        raise TrafficError(
            "the outcomes know no cost that adds up over requests (joules, dollars, flops ...)"
        )
    unit = "joules" if "joules" in units else units[0]
    rows = [
        {"hour": float(hour), "strategy": name, "total": float(total)}
        for name, sums in ran.cumulative.items()
        for hour, total in zip(ran.hours, sums[unit], strict=True)
    ]
    return lines_figure(
        pa.Table.from_pylist(rows),
        "hour",
        "total",
        "strategy",
        x_title="hour",
        y_title=f"total {COST_UNITS[unit]}",
    )
