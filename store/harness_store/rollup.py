"""The 1 Hz roll-up of samples, written as they arrive: one row per source and second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from harness_store.bulk_insert import BulkInsert
from harness_store.listed import listed, one_of
from harness_store.models import Agent, Samples1Hz
from harness_store.rows import table_of

NS_PER_S = 1_000_000_000

Block = tuple[str, str, str, Mapping[str, NDArray[np.generic]]]
"""(agent id, source id, clock id, columns)."""


def roll_up(connection: Connection, blocks: Sequence[Block]) -> None:
    """Add new samples to the rows of their seconds; each sample must be given once.

    A second whose samples arrive in two blocks gets the count, average and extremes of all of them.
    """
    rows = second_rows(blocks, _offsets_ns(connection, blocks))
    # Fourteen values a second and source: the driver takes tuples at a third of the cost.
    _UPSERT.run(connection, rows)


def _offsets_ns(connection: Connection, blocks: Sequence[Block]) -> dict[tuple[str, str], float]:
    """Return how far these agents' clocks are from realtime, by agent and clock, where that is known."""
    known: dict[tuple[str, str], float] = {}
    for row in connection.execute(_OFFSETS, {"b_ids": listed({block[0] for block in blocks})}):
        if row.clock_offset_ns is not None:
            known[row.agent_id, row.clock_id] = row.clock_offset_ns
    return known


def second_rows(
    blocks: Sequence[Block], offsets_ns: Mapping[tuple[str, str], float] | None = None
) -> list[tuple[Any, ...]]:
    """Return one row per source and second, in the order of `COLUMNS`; what no sample of a second has is None.

    All blocks go through numpy at once: twenty samples are too few to pay for its calls.
    """
    keys = sorted({block[:3] for block in blocks})
    place = {key: i for i, key in enumerate(keys)}
    lengths = [len(block[3]["t_ns"]) for block in blocks]
    source = np.repeat([place[block[:3]] for block in blocks], lengths)
    t_ns = np.concatenate([block[3]["t_ns"] for block in blocks]).astype(np.int64)
    order: NDArray[np.intp] | slice = slice(None)
    # Nearly always each source's samples come in their order, one source after the other.
    if ((np.diff(source) <= 0) & ((np.diff(source) < 0) | (np.diff(t_ns) < 0))).any():
        order = np.lexsort((t_ns, source))
    source, second = source[order], t_ns[order] // NS_PER_S
    starts = np.flatnonzero(np.append(True, (source[1:] != source[:-1]) | (second[1:] != second[:-1])))
    counts = np.append(starts[1:], len(second)) - starts
    power = _column(blocks, lengths, ("power_w", "power_avg_w"))[order]
    known = np.isfinite(power)
    power_n = np.add.reduceat(known.astype(np.int64), starts)
    power_sum = np.add.reduceat(np.where(known, power, 0.0), starts)
    energy = _column(blocks, lengths, ("energy_j",))[order]
    # The position of the last sample that has a counter value, -1 where a second has none.
    last = np.maximum.reduceat(np.where(np.isfinite(energy), np.arange(len(energy)), -1), starts)
    values = (
        np.divide(power_sum, power_n, out=np.full(len(starts), np.nan), where=power_n > 0),
        np.fmin.reduceat(power, starts),
        np.fmax.reduceat(power, starts),
        np.where(last >= 0, energy[last], np.nan),
        np.fmax.reduceat(_column(blocks, lengths, ("memory_used_bytes",))[order], starts),
        np.fmax.reduceat(_column(blocks, lengths, ("temperature_c",))[order], starts),
    )
    offset_ns = np.array([(offsets_ns or {}).get((key[0], key[2]), np.nan) for key in keys])
    places, seconds = source[starts], second[starts]
    return list(
        zip(
            *([key[part] for key in map(keys.__getitem__, places.tolist())] for part in range(3)),
            seconds.tolist(),
            _known(seconds + offset_ns[places] / NS_PER_S),
            counts.tolist(),
            power_n.tolist(),
            *map(_known, values),
            strict=True,
        )
    )


def _known(values: NDArray[np.float64]) -> list[float | None]:
    """Return a column for SQL: NaN and infinity are NULL."""
    absent = ~np.isfinite(values)
    if not absent.any():
        return values.tolist()
    found = values.astype(object)
    found[absent] = None
    return found.tolist()


def _column(blocks: Sequence[Block], lengths: Sequence[int], names: Sequence[str]) -> NDArray[np.float64]:
    """Join the first of the named columns that each block has, NaN for a block that has none."""
    first = [block[3].get(names[0]) for block in blocks]
    if all(values is not None for values in first):
        return np.concatenate(cast("list[NDArray[np.generic]]", first), dtype=np.float64)
    joined = np.full(sum(lengths), np.nan)
    at = 0
    for block, length in zip(blocks, lengths, strict=True):
        for name in names:
            values = block[3].get(name)
            if values is not None:
                joined[at : at + length] = values
                break
        at += length
    return joined


_OFFSETS = select(Agent.agent_id, Agent.clock_id, Agent.clock_offset_ns).where(
    one_of(Agent.agent_id, "b_ids")
)
COLUMNS = (
    "agent_id", "source_id", "clock_id", "second", "realtime_s", "n", "power_n", "power_w_avg", "power_w_min",
    "power_w_max", "energy_j_last", "memory_used_bytes_max", "temperature_c_max",
)  # fmt: skip


def _extreme(name: str, better: str) -> str:
    old, new = f"samples_1hz.{name}", f"excluded.{name}"
    return f"{name} = CASE WHEN {old} IS NULL OR {new} {better} {old} THEN {new} ELSE {old} END"


_ADDED = f"""
ON CONFLICT (agent_id, source_id, clock_id, second) DO UPDATE SET
realtime_s = COALESCE(samples_1hz.realtime_s, excluded.realtime_s),
n = samples_1hz.n + excluded.n,
power_n = samples_1hz.power_n + excluded.power_n,
power_w_avg = CASE WHEN samples_1hz.power_n + excluded.power_n > 0 THEN
  (COALESCE(samples_1hz.power_w_avg * samples_1hz.power_n, 0.0)
   + COALESCE(excluded.power_w_avg * excluded.power_n, 0.0))
  / (samples_1hz.power_n + excluded.power_n) END,
{_extreme("power_w_min", "<")},
{_extreme("power_w_max", ">")},
energy_j_last = COALESCE(excluded.energy_j_last, samples_1hz.energy_j_last),
{_extreme("memory_used_bytes_max", ">")},
{_extreme("temperature_c_max", ">")}
"""
# As text for the driver: there are thousands of rows a second.
_UPSERT = BulkInsert(table_of(Samples1Hz), COLUMNS, _ADDED)
