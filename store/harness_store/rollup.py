"""The 1 Hz roll-up of samples, written as they arrive: one row per source and second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Float, and_, case, cast, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from harness_store.models import Agent, Samples1Hz
from harness_store.rows import absent_to_none, chunks, table_of

NS_PER_S = 1_000_000_000

Block = tuple[str, str, str, Mapping[str, NDArray[np.generic]]]
"""(agent id, source id, clock id, columns)."""


def roll_up(connection: Connection, blocks: Sequence[Block]) -> None:
    """Add new samples to the rows of their seconds; each sample must be given once.

    A second whose samples arrive in two blocks gets the count, average, extremes of all of them.
    """
    seconds: dict[tuple[str, str, str, int], dict[str, Any]] = {}
    for agent_id, source_id, clock_id, columns in blocks:
        for row in second_rows(columns):
            key = (agent_id, source_id, clock_id, row["second"])
            there = seconds.get(key)
            seconds[key] = row if there is None else _merged(there, row)
    offsets = _offsets(connection, {(key[0], key[2]) for key in seconds})
    rows = [
        {
            "agent_id": key[0],
            "source_id": key[1],
            "clock_id": key[2],
            "realtime_s": _realtime_s(offsets.get((key[0], key[2])), key[3]),
            **{name: absent_to_none(value) for name, value in row.items()},
        }
        for key, row in sorted(seconds.items())
    ]
    statement = _statement(connection)
    for chunk in chunks(rows):
        connection.execute(statement, chunk)


def second_rows(columns: Mapping[str, NDArray[np.generic]]) -> list[dict[str, Any]]:
    """Return one row per second of a block; what no sample of a second has is NaN."""
    t_ns = np.asarray(columns["t_ns"], np.int64)
    order = np.argsort(t_ns, kind="stable")
    second = t_ns[order] // NS_PER_S
    starts = np.flatnonzero(np.diff(second, prepend=second[0] - 1))
    counts = np.diff(starts, append=len(second))
    power = _column(columns, "power_w", "power_avg_w", order)
    power_n = np.add.reduceat(np.isfinite(power).astype(np.int64), starts)
    power_sum = np.add.reduceat(np.nan_to_num(power), starts)
    average = np.divide(power_sum, power_n, out=np.full(len(starts), np.nan), where=power_n > 0)
    lowest, highest = np.fmin.reduceat(power, starts), np.fmax.reduceat(power, starts)
    memory = np.fmax.reduceat(_column(columns, "memory_used_bytes", "", order), starts)
    temperature = np.fmax.reduceat(_column(columns, "temperature_c", "", order), starts)
    energy = _column(columns, "energy_j", "", order)
    rows: list[dict[str, Any]] = []
    for i, start in enumerate(starts.tolist()):
        known = energy[start : start + counts[i]]
        known = known[np.isfinite(known)]
        rows.append(
            {
                "second": int(second[start]),
                "n": int(counts[i]),
                "power_n": int(power_n[i]),
                "power_w_avg": float(average[i]),
                "power_w_min": float(lowest[i]),
                "power_w_max": float(highest[i]),
                "energy_j_last": float(known[-1]) if len(known) else np.nan,
                "memory_used_bytes_max": float(memory[i]),
                "temperature_c_max": float(temperature[i]),
            }
        )
    return rows


def _column(
    columns: Mapping[str, NDArray[np.generic]], name: str, otherwise: str, order: NDArray[np.intp]
) -> NDArray[np.float64]:
    values = columns.get(name, columns.get(otherwise))
    if values is None:
        return np.full(len(order), np.nan)
    return np.asarray(values, np.float64)[order]


def _merged(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    power_n = one["power_n"] + two["power_n"]
    weighted = [r["power_w_avg"] * r["power_n"] for r in (one, two) if r["power_n"]]
    return {
        "second": one["second"],
        "n": one["n"] + two["n"],
        "power_n": power_n,
        "power_w_avg": sum(weighted) / power_n if power_n else np.nan,
        "power_w_min": float(np.fmin(one["power_w_min"], two["power_w_min"])),
        "power_w_max": float(np.fmax(one["power_w_max"], two["power_w_max"])),
        "energy_j_last": two["energy_j_last"] if np.isfinite(two["energy_j_last"]) else one["energy_j_last"],
        "memory_used_bytes_max": float(np.fmax(one["memory_used_bytes_max"], two["memory_used_bytes_max"])),
        "temperature_c_max": float(np.fmax(one["temperature_c_max"], two["temperature_c_max"])),
    }


def _statement(connection: Connection) -> Any:
    table = table_of(Samples1Hz)
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    new, old = statement.excluded, table.c
    total = old.power_n + new.power_n
    weighted = func.coalesce(old.power_w_avg * old.power_n, 0.0) + func.coalesce(
        new.power_w_avg * new.power_n, 0.0
    )
    changes = {
        "realtime_s": func.coalesce(old.realtime_s, new.realtime_s),
        "n": old.n + new.n,
        "power_n": total,
        "power_w_avg": case((total > 0, weighted / cast(total, Float))),
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


def _offsets(connection: Connection, clocks: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
    agents = {agent_id for agent_id, _ in clocks}
    rows = connection.execute(
        select(Agent.agent_id, Agent.clock_id, Agent.clock_offset_ns).where(
            Agent.agent_id.in_(agents), Agent.clock_offset_ns.is_not(None)
        )
    )
    return {(row.agent_id, row.clock_id): row.clock_offset_ns for row in rows}


def _realtime_s(offset_ns: float | None, second: int) -> float | None:
    return None if offset_ns is None else second + offset_ns / NS_PER_S
