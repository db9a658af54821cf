"""Each model of a pool beside the others: accuracy, rank over domains, overlap of what they solve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness_analysis.descriptive.solvability import solved_cells
from harness_analysis.errors import OutcomesError
from harness_analysis.metrics.model_pool import average_rank, jaccard_similarity
from harness_analysis.outcomes.matrix import COST_UNITS, FloatArray
from harness_analysis.outcomes.table import IbisTable, Outcomes

_COLUMN_OF = {
    "params": "params_b",
    "tokens": "output_tokens",
    "latency": "total_s",
    "dollars": "cost",
    "price": "price_per_mtok",
    "joules": "joules",
    "flops": "flops",
}
MODELS_OF_A_MASK = 50
"""A sum of different powers of two is exact in float64, which every engine adds, up to 2 ** 53."""


def pool_table(outcomes: Outcomes, unit: str = "params") -> tuple[pa.Table, tuple[str, ...]]:
    """Return accuracy, average rank over domains and mean Jaccard overlap of each model, and what was left out.

    The engine makes one row per query, in which powers of two say which models answered and which solved it, so that
    what comes here is small beside the outcomes. A model that ran on several machines is one per machine. Only queries
    that every model has an outcome for count.

    Args:
        outcomes: with verdicts.
        unit: of `COST_UNITS`; models without it are left out, as routers leave them out.

    Raises:
        OutcomesError: an unknown unit, fewer than two models with it, or no query that all of them answered.

    Source: "Who routes the router", sections 4.2 and 4.3 and appendix H.
    """
    if unit not in COST_UNITS:
        raise OutcomesError(f"cost `{unit}` is not known; choose one of {', '.join(COST_UNITS)}")
    column = _COLUMN_OF[unit]
    cells = solved_cells(outcomes, *({column} - {"params_b"}))
    cells = cells.mutate(hardware=cells.hardware.fill_null("unknown"))
    known = cells.filter(cells[column].notnull())
    found = known.group_by(["model_id", "hardware"]).agg(params_b=known.params_b.max())
    models = found.order_by(["params_b", "model_id", "hardware"]).to_pyarrow().to_pylist()
    everyone = set(cells.select("model_id").distinct().to_pyarrow().column(0).to_pylist())
    missing = sorted(everyone - {row["model_id"] for row in models})
    notes = [f"models without {COST_UNITS[unit]}: {', '.join(missing)}"] if missing else []
    if len(models) < 2:
        raise OutcomesError(
            f"{outcomes.name}: a pool needs two models with a cost in {COST_UNITS[unit]} (--cost {unit})"
            + (f"; left out: {notes[0]}" if notes else "")
        )
    answered = _answered(known, models)
    solved, whole = _solved_by(answered, len(models))
    if not len(solved):
        raise OutcomesError(
            f"{outcomes.name}: no query was answered by all {len(models)} models; choose fewer with --models"
        )
    left_out = len(whole) - len(solved)
    if left_out:
        notes.append(f"{left_out} queries that not every model has an outcome for")
        known = known.semi_join(_answered_by_all(answered, len(models)), ["dataset_id", "query_id"])
    totals, counts = _totals(known, models)
    columns = {
        "model_id": _labels(models),
        "params_b": [row["params_b"] for row in models],
        "accuracy": totals.sum(axis=0) / counts.sum(axis=0),
        "average_rank": average_rank(totals / counts),
        "mean_overlap": (jaccard_similarity(solved).sum(axis=1) - 1) / (len(models) - 1),
    }
    order = [("average_rank", "ascending"), ("accuracy", "descending"), ("model_id", "ascending")]
    return pa.table(columns).sort_by(order), tuple(notes)


def _masks(models: int) -> range:
    return range(-(-models // MODELS_OF_A_MASK))


def _answered(cells: IbisTable, models: list[dict[str, Any]]) -> IbisTable:
    """Return one row per query: for every fifty models the sum of the bits of those that answered and solved it."""
    import ibis

    place = np.arange(len(models))
    bits = pa.table(
        {
            "model_id": [row["model_id"] for row in models],
            "hardware": [row["hardware"] for row in models],
            "mask": place // MODELS_OF_A_MASK,
            "bit": 2.0 ** (place % MODELS_OF_A_MASK),
        }
    )
    known = cells.join(ibis.memtable(bits), ["model_id", "hardware"])
    sums: dict[str, Any] = {}
    for mask in _masks(len(models)):
        bit = (known.mask == mask).ifelse(known.bit, 0.0)
        sums[f"answered_{mask}"] = bit.sum()
        sums[f"solved_{mask}"] = (bit * known.solved).sum()
    return known.group_by(["dataset_id", "query_id"]).agg(**sums)


def _all_bits(mask: int, models: int) -> float:
    return 2.0 ** min(MODELS_OF_A_MASK, models - mask * MODELS_OF_A_MASK) - 1


def _answered_by_all(answered: IbisTable, models: int) -> IbisTable:
    """Return the queries that every model answered."""
    for mask in _masks(models):
        answered = answered.filter(answered[f"answered_{mask}"] == _all_bits(mask, models))
    return answered.select("dataset_id", "query_id")


def _solved_by(answered: IbisTable, models: int) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return which models solved each query that all answered, shape (n, m), and whether all did, for every query."""
    names = [f"{what}_{mask}" for mask in _masks(models) for what in ("answered", "solved")]
    rows = answered.select(*names).to_pyarrow()
    bits = {name: rows[name].to_numpy().astype(np.int64) for name in names}
    whole = np.ones(rows.num_rows, dtype=bool)
    for mask in _masks(models):
        whole &= bits[f"answered_{mask}"] == int(_all_bits(mask, models))
    solved = np.empty((int(whole.sum()), models))
    for at in range(models):
        mask, bit = divmod(at, MODELS_OF_A_MASK)
        solved[:, at] = bits[f"solved_{mask}"][whole] >> bit & 1
    return solved, whole


def _totals(cells: IbisTable, models: list[dict[str, Any]]) -> tuple[FloatArray, FloatArray]:
    """Return sums and numbers of scores by domain and model, shapes (domains, m)."""
    domain = cells.domain.fill_null("")
    grouped = cells.group_by(domain=domain, model_id=cells.model_id, hardware=cells.hardware)
    rows = grouped.agg(total=cells.score.sum(), queries=cells.count()).to_pyarrow().to_pylist()
    place = {(row["model_id"], row["hardware"]): at for at, row in enumerate(models)}
    domains = {name: at for at, name in enumerate(sorted({row["domain"] for row in rows}))}
    totals, counts = np.zeros((2, len(domains), len(models)))
    for row in rows:
        at = domains[row["domain"]], place[row["model_id"], row["hardware"]]
        totals[at], counts[at] = row["total"], row["queries"]
    return totals, counts


def _labels(models: list[dict[str, Any]]) -> list[str]:
    """Return the models' names, with the machine where one ran on more than one."""
    ran = [row["model_id"] for row in models]
    return [
        row["model_id"] if ran.count(row["model_id"]) == 1 else f"{row['model_id']} @ {row['hardware']}"
        for row in models
    ]
