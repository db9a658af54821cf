"""The 1 Hz roll-up of samples, written as they arrive: one row per source and second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Double, and_, bindparam, case, cast, func, or_, select

from harness_store.models import Agent, Samples1Hz
from harness_store.rows import absent_to_none, chunks, insert_into, table_of

NS_PER_S = 1_000_000_000

Block = tuple[str, str, str, Mapping[str, NDArray[np.generic]]]
"""(agent id, source id, clock id, columns)."""


def roll_up(connection: Connection, blocks: Sequence[Block]) -> None:
    """Add new samples to the rows of their seconds; each sample must be given once.

    A second whose samples arrive in two blocks gets the count, average and extremes of all of them.
    """
    statement = _statement(connection.dialect.name)
    for chunk in chunks(second_rows(blocks)):
        connection.execute(statement, chunk)


def second_rows(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Return one row per source and second, in that order; what no sample of a second has is None.

    All blocks go through numpy at once: twenty samples are too few to pay for its calls.
    """
    keys = sorted({block[:3] for block in blocks})
    place = {key: i for i, key in enumerate(keys)}
    lengths = [len(block[3]["t_ns"]) for block in blocks]
    source = np.repeat([place[block[:3]] for block in blocks], lengths)
    t_ns = np.concatenate([block[3]["t_ns"] for block in blocks]).astype(np.int64)
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
    columns = {
        "power_w_avg": np.divide(power_sum, power_n, out=np.full(len(starts), np.nan), where=power_n > 0),
        "power_w_min": np.fmin.reduceat(power, starts),
        "power_w_max": np.fmax.reduceat(power, starts),
        "energy_j_last": np.where(last >= 0, energy[last], np.nan),
        "memory_used_bytes_max": np.fmax.reduceat(
            _column(blocks, lengths, ("memory_used_bytes",))[order], starts
        ),
        "temperature_c_max": np.fmax.reduceat(_column(blocks, lengths, ("temperature_c",))[order], starts),
    }
    values = [[absent_to_none(value) for value in column.tolist()] for column in columns.values()]
    rows: list[dict[str, Any]] = []
    heads = zip(
        source[starts].tolist(), second[starts].tolist(), counts.tolist(), power_n.tolist(), strict=True
    )
    for i, (at, when, n, with_power) in enumerate(heads):
        agent_id, source_id, clock_id = keys[at]
        row: dict[str, Any] = {
            "agent_id": agent_id,
            "source_id": source_id,
            "clock_id": clock_id,
            "second": when,
            "n": n,
            "power_n": with_power,
        }
        for name, column in zip(columns, values, strict=True):
            row[name] = column[i]
        # The statement looks the clock's offset up by them.
        row["b_agent"], row["b_clock"], row["b_second"] = agent_id, clock_id, when
        rows.append(row)
    return rows


def _column(blocks: Sequence[Block], lengths: Sequence[int], names: Sequence[str]) -> NDArray[np.float64]:
    """Join the first of the named columns that each block has, NaN for a block that has none."""
    parts: list[NDArray[np.generic]] = []
    for block, length in zip(blocks, lengths, strict=True):
        name = next((name for name in names if name in block[3]), None)
        parts.append(np.full(length, np.nan) if name is None else block[3][name])
    return np.concatenate(parts).astype(np.float64)


@lru_cache(maxsize=2)
def _statement(dialect: str) -> Any:
    table = table_of(Samples1Hz)
    offset_ns = (
        select(Agent.clock_offset_ns)
        .where(Agent.agent_id == bindparam("b_agent"), Agent.clock_id == bindparam("b_clock"))
        .scalar_subquery()
    )
    statement = insert_into(dialect, table).values(
        realtime_s=cast(bindparam("b_second"), Double) + offset_ns / float(NS_PER_S)
    )
    new, old = statement.excluded, table.c
    total = old.power_n + new.power_n
    weighted = func.coalesce(old.power_w_avg * old.power_n, 0.0) + func.coalesce(
        new.power_w_avg * new.power_n, 0.0
    )
    changes = {
        "realtime_s": func.coalesce(old.realtime_s, new.realtime_s),
        "n": old.n + new.n,
        "power_n": total,
        "power_w_avg": case((total > 0, weighted / cast(total, Double))),
        "power_w_min": _extreme(old.power_w_min, new.power_w_min, smallest=True),
        "power_w_max": _extreme(old.power_w_max, new.power_w_max),
        "energy_j_last": func.coalesce(new.energy_j_last, old.energy_j_last),
        "memory_used_bytes_max": _extreme(old.memory_used_bytes_max, new.memory_used_bytes_max),
        "temperature_c_max": _extreme(old.temperature_c_max, new.temperature_c_max),
    }
    key = [column.name for column in table.primary_key.columns]
    return statement.on_conflict_do_update(index_elements=key, set_=changes)


def _extreme(old: Any, new: Any, *, smallest: bool = False) -> Any:
    better = new < old if smallest else new > old
    return case((or_(old.is_(None), and_(new.is_not(None), better)), new), else_=old)
