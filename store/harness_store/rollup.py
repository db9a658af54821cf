"""The 1 Hz roll-up of samples, written as they arrive: one row per source and second."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from harness_store.bulk_insert import BulkInsert
from harness_store.listed import listed, one_of
from harness_store.models import Agent, SampleSecond, SampleSeries
from harness_store.rows import table_of

NS_PER_S = 1_000_000_000

Series = tuple[str, str, str]
"""(agent id, source id, clock id): whose seconds make one series."""

Block = tuple[Series, Mapping[str, NDArray[np.generic]]]
"""A series and new samples of it, in columns."""


def roll_up(connection: Connection, blocks: Sequence[Block]) -> None:
    """Add new samples to the rows of their seconds; each sample must be given once.

    A second whose samples arrive in two blocks gets the count, average and extremes of all of them.
    """
    keys = sorted({series for series, _ in blocks})
    rows = second_rows(blocks, _numbers(connection, keys), _offsets_ns(connection, keys))
    # Eleven values a second and source: the driver takes tuples at a third of the cost.
    _UPSERT.run(connection, rows)


def _numbers(connection: Connection, keys: Sequence[Series]) -> dict[Series, int]:
    """Return the number of each series; one that is new gets one."""
    found = _known_numbers(connection, keys)
    if missing := [key for key in keys if key not in found]:
        # Another coordinator may give the number in this moment: what is stored is read again.
        _NEW_SERIES.run(connection, missing)
        found |= _known_numbers(connection, missing)
    return found


def _known_numbers(connection: Connection, keys: Sequence[Series]) -> dict[Series, int]:
    rows = connection.exec_driver_sql(_SERIES[connection.dialect.name], (json.dumps(keys),))
    return {keys[at]: series for at, series in rows}


def _offsets_ns(connection: Connection, keys: Sequence[Series]) -> dict[tuple[str, str], float]:
    """Return how far these agents' clocks are from realtime, by agent and clock, where that is known."""
    known: dict[tuple[str, str], float] = {}
    for row in connection.execute(_OFFSETS, {"b_ids": listed({key[0] for key in keys})}):
        if row.clock_offset_ns is not None:
            known[row.agent_id, row.clock_id] = row.clock_offset_ns
    return known


def second_rows(
    blocks: Sequence[Block], numbers: Mapping[Series, int], offsets_ns: Mapping[tuple[str, str], float]
) -> list[tuple[Any, ...]]:
    """Return one row per series and second, in the order of `COLUMNS`; what no sample of a second has is None.

    All blocks go through numpy at once: twenty samples are too few to pay for its calls.
    """
    keys = sorted({key for key, _ in blocks})
    place = {key: i for i, key in enumerate(keys)}
    lengths = [len(columns["t_ns"]) for _, columns in blocks]
    source = np.repeat([place[key] for key, _ in blocks], lengths)
    t_ns = np.concatenate([columns["t_ns"] for _, columns in blocks]).astype(np.int64, copy=False)
    order: NDArray[np.intp] | slice = slice(None)
    # Nearly always each source's samples come in their order, one source after the other.
    if ((np.diff(source) <= 0) & ((np.diff(source) < 0) | (np.diff(t_ns) < 0))).any():
        order = np.lexsort((t_ns, source))
    source, second = source[order], t_ns[order] // NS_PER_S
    starts = np.flatnonzero(np.append(True, (source[1:] != source[:-1]) | (second[1:] != second[:-1])))
    counts = np.append(starts[1:], len(second)) - starts
    places, seconds = source[starts], second[starts]
    offset_ns = np.array([offsets_ns.get((key[0], key[2]), np.nan) for key in keys])
    values = [_column(blocks, lengths, names) for names in _MEASURED]
    power, energy, memory, temperature = (None if v is None else v[order] for v in values)
    power_n, power_avg = _average(power, starts, counts)
    return list(
        zip(
            np.array([numbers[key] for key in keys])[places].tolist(),
            seconds.tolist(),
            _known(seconds + offset_ns[places] / NS_PER_S),
            counts.tolist(),
            power_n.tolist(),
            _known(power_avg),
            _extreme(np.fmin, power, starts),
            _extreme(np.fmax, power, starts),
            _last(energy, starts),
            _extreme(np.fmax, memory, starts),
            _extreme(np.fmax, temperature, starts),
            strict=True,
        )
    )


_MEASURED = (("power_w", "power_avg_w"), ("energy_j",), ("memory_used_bytes",), ("temperature_c",))


def _average(
    values: NDArray[np.float64] | None, starts: NDArray[np.intp], counts: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return how many values each second has, and their average."""
    if values is None:
        return np.zeros_like(counts), np.full(len(starts), np.nan)
    known = np.isfinite(values)
    if known.all():
        return counts, np.add.reduceat(values, starts) / counts
    n = np.add.reduceat(known.astype(np.intp), starts)
    total = np.add.reduceat(np.where(known, values, 0.0), starts)
    return n, np.divide(total, n, out=np.full(len(starts), np.nan), where=n > 0)


def _extreme(
    better: np.ufunc, values: NDArray[np.float64] | None, starts: NDArray[np.intp]
) -> list[float | None]:
    return [None] * len(starts) if values is None else _known(better.reduceat(values, starts))


def _last(values: NDArray[np.float64] | None, starts: NDArray[np.intp]) -> list[float | None]:
    """Return each second's last value that is one."""
    if values is None:
        return [None] * len(starts)
    known = np.isfinite(values)
    if known.all():
        return values[np.append(starts[1:], len(values)) - 1].tolist()
    # Before the first place that is known stands -1: of this second none is.
    last = np.maximum.reduceat(np.where(known, np.arange(len(values)), -1), starts)
    return _known(np.where(last >= 0, values[last], np.nan))


def _known(values: NDArray[np.float64]) -> list[float | None]:
    """Return a column for SQL: NaN and infinity are NULL."""
    absent = ~np.isfinite(values)
    if not absent.any():
        return values.tolist()
    found = values.astype(object)
    found[absent] = None
    return found.tolist()


def _column(
    blocks: Sequence[Block], lengths: Sequence[int], names: Sequence[str]
) -> NDArray[np.float64] | None:
    """Join the first of the named columns that each block has, NaN for a block that has none; None where none has."""
    first = [columns.get(names[0]) for _, columns in blocks]
    if all(values is not None for values in first):
        return np.concatenate(cast("list[NDArray[np.generic]]", first), dtype=np.float64)
    if not any(name in columns for name in names for _, columns in blocks):
        return None
    joined = np.full(sum(lengths), np.nan)
    at = 0
    for (_, columns), length in zip(blocks, lengths, strict=True):
        for name in names:
            values = columns.get(name)
            if values is not None:
                joined[at : at + length] = values
                break
        at += length
    return joined


_OFFSETS = select(Agent.agent_id, Agent.clock_id, Agent.clock_offset_ns).where(
    one_of(Agent.agent_id, "b_ids")
)
_NEW_SERIES = BulkInsert(
    table_of(SampleSeries),
    ("agent_id", "source_id", "clock_id"),
    "ON CONFLICT (agent_id, source_id, clock_id) DO NOTHING",
)
_SAME = "s.agent_id = w.agent_id AND s.source_id = w.source_id AND s.clock_id = w.clock_id"
# CROSS JOIN keeps SQLite from going through all series.
_SERIES = {
    "sqlite": "WITH wanted(at, agent_id, source_id, clock_id) AS MATERIALIZED (SELECT key,"  # noqa: S608
    " json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?))"
    f" SELECT w.at, s.series FROM wanted AS w CROSS JOIN sample_series AS s WHERE {_SAME}",
    "postgresql": "SELECT w.at, s.series FROM (SELECT (place - 1)::int AS at, v ->> 0 AS agent_id,"  # noqa: S608
    " v ->> 1 AS source_id, v ->> 2 AS clock_id FROM json_array_elements(%s::json) WITH ORDINALITY AS e(v, place))"
    f" AS w JOIN sample_series AS s ON {_SAME}",
}
COLUMNS = (
    "series", "second", "realtime_s", "n", "power_n", "power_w_avg", "power_w_min", "power_w_max", "energy_j_last",
    "memory_used_bytes_max", "temperature_c_max",
)  # fmt: skip


def _better(name: str, better: str) -> str:
    old, new = f"sample_seconds.{name}", f"excluded.{name}"
    return f"{name} = CASE WHEN {old} IS NULL OR {new} {better} {old} THEN {new} ELSE {old} END"


_ADDED = f"""
ON CONFLICT (series, second) DO UPDATE SET
realtime_s = COALESCE(sample_seconds.realtime_s, excluded.realtime_s),
n = sample_seconds.n + excluded.n,
power_n = sample_seconds.power_n + excluded.power_n,
power_w_avg = CASE WHEN sample_seconds.power_n + excluded.power_n > 0 THEN
  (COALESCE(sample_seconds.power_w_avg * sample_seconds.power_n, 0.0)
   + COALESCE(excluded.power_w_avg * excluded.power_n, 0.0))
  / (sample_seconds.power_n + excluded.power_n) END,
{_better("power_w_min", "<")},
{_better("power_w_max", ">")},
energy_j_last = COALESCE(excluded.energy_j_last, sample_seconds.energy_j_last),
{_better("memory_used_bytes_max", ">")},
{_better("temperature_c_max", ">")}
"""
# As text for the driver: there are thousands of rows a second.
_UPSERT = BulkInsert(table_of(SampleSecond), COLUMNS, _ADDED)
