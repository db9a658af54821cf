"""Traffic: what a day of requests costs when every one goes to the cloud, by a router, or by the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness_analysis.errors import AnalysisError
from harness_analysis.outcomes.matrix import FloatArray, IntArray, OutcomeMatrix

DAY_S = 86_400.0
MOST_REQUESTS = 1e10
"""Of a simulated day: a hundred times the paper's, and the better part of an hour."""
BLOCK_REQUESTS = 1_000_000
"""Requests simulated at once: some tens of megabytes, whatever the length of the trace."""


class TrafficError(AnalysisError):
    """A trace or a setting of a replay that makes no sense."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay cost.

    Args:
        hours: right edges of the bins, shape (bins,).
        cumulative: by strategy and unit, the sum up to each edge, shape (bins,).
        accuracy: by strategy, mean score.
        waiting_s: by strategy, mean time in a queue; only where servers were given.
        requests: how many.
    """

    hours: FloatArray
    cumulative: Mapping[str, Mapping[str, FloatArray]]
    accuracy: Mapping[str, float]
    waiting_s: Mapping[str, float]
    requests: int

    def saved(self, strategy: str, unit: str, reference: str = "cloud") -> float:
        """Return the share of the reference's total that a strategy saves.

        Raises:
            TrafficError: the reference costs nothing in this unit.
        """
        total = float(self.cumulative[reference][unit][-1])
        if not total > 0:
            raise TrafficError(f"{reference} costs nothing in {unit}, so nothing of it can be saved")
        return 1 - float(self.cumulative[strategy][unit][-1]) / total


def read_arrivals(path: Path) -> FloatArray:
    """Return arrival times of a trace in seconds from its first request, sorted.

    Args:
        path: an Azure LLM inference trace (.csv with TIMESTAMP), a Mooncake trace (.jsonl with `timestamp` in
            milliseconds), or any .csv or .parquet with `arrival_s`.

    Raises:
        TrafficError: no such file, or no arrivals in it.
    """
    import polars as pl

    try:
        if path.suffix == ".jsonl":
            frame = pl.read_ndjson(path)
        elif path.suffix == ".parquet":
            frame = pl.read_parquet(path)
        else:
            frame = pl.read_csv(path, try_parse_dates=False)
        if "arrival_s" in frame.columns:
            times = frame["arrival_s"].cast(pl.Float64).to_numpy()
        elif "timestamp" in frame.columns:
            times = frame["timestamp"].cast(pl.Float64).to_numpy() / 1e3
        elif "TIMESTAMP" in frame.columns:
            stamps = frame["TIMESTAMP"].str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns")
            times = stamps.cast(pl.Int64).to_numpy() / 1e9
        else:
            raise TrafficError(f"{path}: no column arrival_s, timestamp or TIMESTAMP")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise TrafficError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    if len(times) == 0 or not np.isfinite(times).all():
        raise TrafficError(f"{path}: no arrivals, or times that are no numbers")
    ordered = np.sort(times)
    return ordered - ordered[0]


def poisson_day(
    requests_per_day: float, shape: FloatArray, seed: int = 0, block: int = BLOCK_REQUESTS
) -> Iterator[FloatArray]:
    """Yield a day of arrivals from a Poisson process whose rate follows a shape, in sorted blocks.

    Args:
        requests_per_day: the mean number.
        shape: relative rates of equal parts of the day, such as 24 hours; `hourly_shape` fits one to a trace.
        seed: of the arrivals.
        block: about how many at once.

    Raises:
        TrafficError: rates or numbers that are negative or no numbers, or more than `MOST_REQUESTS`.
    """
    if not (
        requests_per_day > 0
        and shape.size
        and np.isfinite(shape).all()
        and shape.min() >= 0
        and shape.sum() > 0
    ):
        raise TrafficError("a day of traffic needs a number of requests above 0 and rates of at least 0")
    if requests_per_day > MOST_REQUESTS:
        raise TrafficError(
            f"a day of {requests_per_day:g} requests takes hours to replay; at most {MOST_REQUESTS:.0e} are,"
            " and totals grow with the number"
        )
    random = np.random.default_rng(seed)
    part_s = DAY_S / len(shape)
    mean = requests_per_day * shape / shape.sum()
    for at, expected in enumerate(mean):
        pieces = max(1, int(np.ceil(expected / block)))
        for piece in range(pieces):
            count = random.poisson(expected / pieces)
            start = part_s * (at + piece / pieces)
            yield np.sort(start + random.random(count) * part_s / pieces)


def hourly_shape(arrivals_s: FloatArray, parts: int = 24) -> FloatArray:
    """Return the relative rate of equal parts of a trace's span, for `poisson_day`: the trace stands for a day."""
    span = float(arrivals_s.max()) or 1.0
    counts, _ = np.histogram(arrivals_s, bins=parts, range=(0.0, span))
    return counts.astype(np.float64)


def replay(
    blocks: Iterator[FloatArray] | list[FloatArray],
    matrix: OutcomeMatrix,
    strategies: Mapping[str, IntArray],
    *,
    servers: Mapping[str, int] | None = None,
    router_cost: Mapping[str, Mapping[str, float]] | None = None,
    bin_s: float = 600.0,
    seed: int = 0,
) -> Replay:
    """Replay arrivals over outcomes: each request is a query drawn at random, and goes where each strategy sends it.

    All strategies serve the same queries at the same times, so that their differences are no chance.

    Args:
        blocks: sorted arrival times in seconds, block after block.
        matrix: outcomes of the queries that requests are drawn from.
        strategies: by name, the model of each of its queries, shape (n,).
        servers: by model, how many serve it; requests are dealt to them in turn and wait first in, first out. Needs the
            cost `latency`. None: no queueing.
        router_cost: by strategy and unit, what deciding costs for each request; added to every request.
        bin_s: width of the bins of the cumulative curves.
        seed: of the draws.

    Returns:
        Sums over all requests, for every unit the outcomes know that adds up (not params or price).

    Raises:
        TrafficError: no requests, a strategy for other queries, a model without servers.

    Source: TrafficBench section 5.4 and figure 5.
    """
    units = [unit for unit in matrix.costs if unit not in {"params", "price"}]
    n = len(matrix)
    for name, choice in strategies.items():
        if len(choice) != n:
            raise TrafficError(f"strategy {name} has {len(choice)} choices for {n} queries")
    queues = _queues(matrix, strategies, servers) if servers is not None else {}
    random = np.random.default_rng(seed)
    rows = np.arange(n)
    # Costs per query are looked up once; a request is then one number, the index of its query.
    value = {
        name: {
            u: matrix.costs[u][rows, choice] + (router_cost or {}).get(name, {}).get(u, 0.0) for u in units
        }
        for name, choice in strategies.items()
    }
    score = {name: matrix.correct[rows, choice] for name, choice in strategies.items()}
    drawn = np.zeros(n, dtype=np.int64)
    sums: dict[str, dict[str, FloatArray]] = {name: {u: np.zeros(0) for u in units} for name in strategies}
    waited = dict.fromkeys(queues, 0.0)
    total, last = 0, -np.inf
    for block in blocks:
        if block.size == 0:
            continue
        if block[0] < last - 1e-9 or np.any(np.diff(block) < 0):
            raise TrafficError("arrivals must be sorted in time")
        last = float(block[-1])
        asked = random.integers(0, n, size=block.size)
        drawn += np.bincount(asked, minlength=n)
        bins = (block / bin_s).astype(np.int64)
        for name, costs in value.items():
            for unit, cost in costs.items():
                sums[name][unit] = _added(sums[name][unit], np.bincount(bins, weights=cost[asked]))
        for name, queue in queues.items():
            waited[name] += queue.serve(block, asked)
        total += block.size
    if total == 0:
        raise TrafficError("no requests to replay")
    length = int(last / bin_s) + 1
    return Replay(
        hours=np.arange(1, length + 1) * bin_s / 3_600,
        cumulative={
            name: {u: np.cumsum(_added(s, np.zeros(length))) for u, s in by.items()}
            for name, by in sums.items()
        },
        accuracy={name: float(drawn @ s / total) for name, s in score.items()},
        waiting_s={name: w / total for name, w in waited.items()},
        requests=total,
    )


def return_on_router(saved: float, overhead: float) -> float:
    """Return how many times its own cost a router saves; TrafficBench D.8: 77.1 % over 8.4 % is 9.2.

    Raises:
        TrafficError: an overhead that is not positive.
    """
    if not overhead > 0:
        raise TrafficError("the return on a router's cost needs a cost above 0")
    return saved / overhead


def waiting_times(
    arrivals_s: FloatArray, service_s: FloatArray, free_at_s: float = 0.0
) -> tuple[FloatArray, float]:
    """Return how long each request waits for one server, and when the server is free after the last.

    Lindley's recursion as a running maximum: a request leaves at S_i + max over j <= i of (a_j - S_(j-1)), where S are
    the cumulative service times.

    Args:
        arrivals_s: sorted, shape (n,).
        service_s: shape (n,).
        free_at_s: when the server is done with what came before.
    """
    if arrivals_s.size == 0:
        return np.zeros(0), free_at_s
    done = np.cumsum(service_s)
    before = done - service_s
    start = np.maximum(np.maximum.accumulate(arrivals_s - before), free_at_s) + before
    return start - arrivals_s, float(start[-1] + service_s[-1])


class _Queue:
    """Servers of every model under one strategy, between blocks of requests."""

    def __init__(self, choice: IntArray, service_s: FloatArray, counts: IntArray) -> None:
        self._choice, self._service_s, self._counts = choice, service_s, counts
        self._free_at_s = [np.zeros(count) for count in counts]
        self._next = np.zeros(len(counts), dtype=np.int64)

    def serve(self, arrivals_s: FloatArray, asked: IntArray) -> float:
        """Return the seconds that the requests of a block waited together."""
        total = 0.0
        model_of = self._choice[asked]
        for model, count in enumerate(self._counts):
            at = np.flatnonzero(model_of == model)
            for server in range(count):
                mine = at[(server - self._next[model]) % count :: count]
                waits, free = waiting_times(
                    arrivals_s[mine], self._service_s[asked[mine]], float(self._free_at_s[model][server])
                )
                self._free_at_s[model][server] = free
                total += float(waits.sum())
            self._next[model] = (self._next[model] + at.size) % max(1, count)
        return total


def _queues(
    matrix: OutcomeMatrix, strategies: Mapping[str, IntArray], servers: Mapping[str, int]
) -> dict[str, _Queue]:
    if "latency" not in matrix.costs:
        raise TrafficError("queueing needs the seconds of every query (column total_s)")
    counts = np.array([servers.get(model, 0) for model in matrix.models])
    rows = np.arange(len(matrix))
    queues = {}
    for name, choice in strategies.items():
        without = [matrix.models[m] for m in np.unique(choice) if counts[m] < 1]
        if without:
            raise TrafficError(
                f"strategy {name} sends requests to {', '.join(without)}, which nothing serves"
            )
        queues[name] = _Queue(choice, matrix.costs["latency"][rows, choice], counts)
    return queues


def _added(first: NDArray[Any], second: NDArray[Any]) -> FloatArray:
    if len(first) < len(second):
        first, second = second, first
    result = first.copy()
    result[: len(second)] += second
    return result
