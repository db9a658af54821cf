"""Outcomes as arrays, queries by models: what routers learn from and metrics are computed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes.turns import Turns, read_turns

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

COST_UNITS = {
    "params": "billions of parameters",
    "tokens": "tokens, prompt and output",
    "latency": "seconds",
    "dollars": "dollars",
    "price": "dollars per million output tokens",
    "joules": "joules",
    "flops": "floating point operations",
}
"""What a query can cost, and the unit of each."""

Pandas = Any
"""A pandas frame or series: its annotations know less than its documentation promises."""


@dataclass(frozen=True, slots=True)
class OutcomeMatrix:
    """Scores and costs of every query with every model; columns run from the smallest model to the largest.

    Args:
        query_ids: of the n queries.
        texts: of the queries, "" where absent.
        domains: of the queries, "" where absent.
        models: labels of the m models; `model @ hardware` where a model ran on more than one.
        params_b: billions of parameters, shape (m,), NaN where not known.
        correct: score in [0, 1], shape (n, m).
        unit: the cost that orders budgets, of `COST_UNITS`.
        costs: by unit, shape (n, m); only units that are known for every cell.
        left_out: queries that some model has no verdict for and models without the unit, in words.
        turns: the queries as turns of conversations, None where they are none or nobody asked.
        datasets: of the queries, "" where absent.
    """

    query_ids: tuple[str, ...]
    texts: tuple[str, ...]
    domains: tuple[str, ...]
    models: tuple[str, ...]
    params_b: FloatArray
    correct: FloatArray
    unit: str
    costs: Mapping[str, FloatArray]
    left_out: tuple[str, ...] = ()
    turns: Turns | None = None
    datasets: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.query_ids)

    @property
    def cost(self) -> FloatArray:
        """Cost of each query with each model in `unit`, shape (n, m)."""
        return self.costs[self.unit]

    def rows(self, index: IntArray | NDArray[np.bool_]) -> OutcomeMatrix:
        """Return some of the queries, by index or mask."""
        at = np.arange(len(self))[index]
        return OutcomeMatrix(
            query_ids=tuple(self.query_ids[i] for i in at),
            texts=tuple(self.texts[i] for i in at),
            domains=tuple(self.domains[i] for i in at),
            models=self.models,
            params_b=self.params_b,
            correct=self.correct[at],
            unit=self.unit,
            costs={unit: cost[at] for unit, cost in self.costs.items()},
            left_out=self.left_out,
            turns=None if self.turns is None else self.turns.rows(at),
            datasets=tuple(self.datasets[i] for i in at) if self.datasets else (),
        )

    def by_dataset(self) -> OutcomeMatrix:
        """Return the same queries with their datasets in place of their domains.

        Raises:
            OutcomesError: fewer than two datasets.
        """
        if len(set(self.datasets)) < 2:
            raise OutcomesError(
                "all queries are of one dataset (column `dataset_id`); split them --by domain"
            )
        return replace(self, domains=self.datasets)

    def models_at(self, columns: IntArray) -> OutcomeMatrix:
        """Return some of the models, by column."""
        return replace(
            self,
            models=tuple(self.models[m] for m in columns),
            params_b=self.params_b[columns],
            correct=self.correct[:, columns],
            costs={unit: cost[:, columns] for unit, cost in self.costs.items()},
        )

    def sample(self, count: int, seed: int) -> OutcomeMatrix:
        """Return so many queries, drawn at random and in their order; all where there are no more."""
        return self.rows(np.sort(np.random.default_rng(seed).permutation(len(self))[:count]))

    def split(self, train_share: float, seed: int) -> tuple[OutcomeMatrix, OutcomeMatrix]:
        """Return a random training part and the rest.

        Raises:
            OutcomesError: a share outside (0, 1), or a part without queries.
        """
        if not 0 < train_share < 1:
            raise OutcomesError(f"the training share must lie between 0 and 1, not {train_share:g}")
        order = np.random.default_rng(seed).permutation(len(self))
        cut = round(train_share * len(self))
        if cut in {0, len(self)}:
            raise OutcomesError(f"too few queries ({len(self)}) to train on {train_share:.0%} of them")
        return self.rows(np.sort(order[:cut])), self.rows(np.sort(order[cut:]))


def matrix_from_arrow(rows: pa.Table, unit: str, name: str, *, turns: bool = False) -> OutcomeMatrix:
    """Pivot one row per (query, model, hardware, kind of energy) into arrays, queries in the order of their ids.

    Only queries that every model has a verdict for are kept: a model that skipped the hard ones would look better.

    Args:
        rows: columns of `OUTCOMES_SCHEMA`.
        unit: of `COST_UNITS`.
        name: of the outcomes, for messages.
        turns: also read which queries are turns of one conversation.

    Raises:
        OutcomesError: unknown unit; measured and estimated energy mixed; fewer than two models or no query left; turns
            that cannot be placed.
    """
    if unit not in COST_UNITS:
        raise OutcomesError(f"cost `{unit}` is not known; choose one of {', '.join(COST_UNITS)}")
    frame: Any = rows.to_pandas()
    frame = frame[frame["correct"].notna()]
    if frame.empty:
        raise OutcomesError(f"{name}: no answer has a verdict, so nothing can be said about routing")
    if unit == "joules" and len(kinds := sorted(set(frame["energy_kind"].dropna()))) > 1:
        raise OutcomesError(f"{name}: {' and '.join(kinds)} energy are mixed; choose one with --energy")
    notes: list[str] = []
    frame = frame.assign(column=_labels(frame))
    values = _values(frame)
    units = [u for u, v in values.items() if u != "correct" and v.notna().any()]
    known = values[unit].notna().groupby(frame["column"]).any()
    if not known.all():
        notes.append(f"models without {COST_UNITS[unit]}: {', '.join(map(str, known.index[~known]))}")
        frame = frame[frame["column"].isin(known.index[known])]
        values = _values(frame)
    if frame["column"].nunique() < 2:
        raise OutcomesError(
            f"{name}: routing needs two models with a cost in {COST_UNITS[unit]} (--cost {unit})"
            + (f"; left out: {notes[0]}" if notes else "")
            + (f"; known costs: {', '.join(units)}" if units else "")
        )
    column_at, columns = _coded(frame["column"])
    row_at, queries = _coded(frame["dataset_id"].fillna("") + "\x1f" + frame["query_id"])
    # The first row of each query by the order of its models tells the query's text, whatever order the rows come in.
    sorted_at = np.lexsort((column_at, row_at))
    first_at = sorted_at[np.searchsorted(row_at[sorted_at], np.arange(len(queries)))]
    arrays = {u: _mean_cells(v, row_at, column_at, (len(first_at), len(columns))) for u, v in values.items()}
    whole = np.isfinite(arrays["correct"]).all(axis=1) & np.isfinite(arrays[unit]).all(axis=1)
    if not whole.any():
        raise OutcomesError(
            f"{name}: no query was answered by all {len(columns)} models; choose fewer with --models"
        )
    if not whole.all():
        notes.append(f"{int((~whole).sum())} queries that not every model has an outcome for")
    params_b = _mean_cells(frame["params_b"], 0 * row_at, column_at, (1, len(columns)))[0]
    # Where a size is not known, the asked cost says which model is small.
    known_sizes = bool(np.isfinite(params_b).all())
    order = np.argsort(params_b if known_sizes else arrays[unit][whole].mean(axis=0), kind="stable")
    asked = frame.iloc[first_at[whole]]
    kept = {u: a[whole][:, order] for u, a in arrays.items()}
    return OutcomeMatrix(
        query_ids=tuple(asked["query_id"]),
        texts=tuple(asked["query"].fillna("")),
        domains=tuple(asked["domain"].fillna("")),
        models=tuple(str(columns[i]) for i in order),
        params_b=params_b[order],
        correct=kept["correct"],
        unit=unit,
        costs={u: a for u, a in kept.items() if u != "correct" and np.isfinite(a).all()},
        left_out=tuple(notes),
        turns=_turns(frame, asked, (row_at, column_at), np.flatnonzero(whole), order, name)
        if turns
        else None,
        datasets=tuple(asked["dataset_id"].fillna("")),
    )


def _turns(
    frame: Pandas,
    asked: Pandas,
    cells: tuple[IntArray, IntArray],
    whole: IntArray,
    order: IntArray,
    name: str,
) -> Turns | None:
    columns = ["dataset_id", "query_id", "query", "conversation", "turn", "messages_json"]
    if asked[["conversation", "messages_json"]].isna().all(axis=None):
        return None
    shape = (int(cells[0].max()) + 1, len(order))
    prompt, output = (
        _mean_cells(frame[tokens], *cells, shape)[whole][:, order]
        for tokens in ("prompt_tokens", "output_tokens")
    )
    return read_turns(asked[columns].to_dict("records"), prompt, output, name)


def _labels(frame: Pandas) -> Pandas:
    """Return the model of each row, with its hardware where the model ran on more than one."""
    several = frame.groupby("model_id")["hardware"].nunique(dropna=False)
    on_one = ~frame["model_id"].isin(several[several > 1].index)
    return frame["model_id"].where(on_one, frame["model_id"] + " @ " + frame["hardware"].fillna("unknown"))


def _coded(values: Pandas) -> tuple[IntArray, list[str]]:
    """Return each value's place among the sorted different ones, and those."""
    import pandas as pd

    codes, found = pd.factorize(values, sort=True)
    return codes.astype(np.int64), [str(value) for value in found]


def _values(frame: Pandas) -> dict[str, Pandas]:
    """Return the score and every cost of each row; joules only where they are of one kind."""
    one_kind = frame["energy_kind"].nunique() <= 1
    return {
        "correct": frame["correct"],
        "params": frame["params_b"],
        "tokens": frame["prompt_tokens"].fillna(0) + frame["output_tokens"],
        "latency": frame["total_s"],
        "dollars": frame["cost"],
        "price": frame["price_per_mtok"],
        "joules": frame["joules"] if one_kind else frame["joules"] * np.nan,
        "flops": frame["flops"],
    }


def _mean_cells(values: Pandas, row_at: IntArray, column_at: IntArray, shape: tuple[int, int]) -> FloatArray:
    """Return the mean of what is known in each cell, NaN where nothing is."""
    numbers = values.to_numpy(np.float64)
    known = np.isfinite(numbers)
    cell = row_at[known] * shape[1] + column_at[known]
    count = np.bincount(cell, minlength=shape[0] * shape[1])
    total = np.bincount(cell, weights=numbers[known], minlength=shape[0] * shape[1])
    with np.errstate(invalid="ignore"):
        return (total / count).reshape(shape)
