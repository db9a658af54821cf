"""The outcomes table as an Ibis expression, so that the same analysis runs on DuckDB, PostgreSQL or Spark."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes.engines import DEFAULT_ENGINE, connect_engine, known_number, send_rows
from harness_analysis.outcomes.matrix import OutcomeMatrix, matrix_from_arrow
from harness_analysis.outcomes.repetition import may_repeat
from harness_analysis.outcomes.schema import ALIASES, KEY, NUMBERS, OUTCOMES_SCHEMA, REQUIRED

IbisTable = Any
"""An `ibis.Table`: its columns are attributes, which no type checker can know."""


class Outcomes:
    """Outcomes on an engine that Ibis speaks to; every analysis is an expression on `table`."""

    def __init__(self, table: IbisTable, name: str = "outcomes") -> None:
        """Take a table with the columns of `OUTCOMES_SCHEMA`; `normalised` makes one of any other."""
        self.table = table
        self.name = name
        self._repeats: bool | None = None

    @property
    def repeats(self) -> bool:
        """Whether a model may have answered some query twice on one machine; counted at the first call."""
        if self._repeats is None:
            self._repeats = may_repeat(self.table.filter(self.table.correct.notnull()))
        return self._repeats

    @classmethod
    def from_arrow(cls, rows: pa.Table, engine: str = DEFAULT_ENGINE, name: str = "outcomes") -> Outcomes:
        """Bring rows to an engine.

        Args:
            rows: columns of `OUTCOMES_SCHEMA` or their aliases; what is missing is absent.
            engine: URL as for `connect_engine`.
            name: what messages call these outcomes.

        Raises:
            OutcomesError: a required column is missing, or a score lies outside [0, 1].
        """
        table = send_rows(connect_engine(engine), rows)
        return cls(normalised(table, name), name).checked()

    @classmethod
    def from_parquet(cls, path: str, engine: str = DEFAULT_ENGINE) -> Outcomes:
        """Read a Parquet file where it lies: the engine scans it, nothing is copied first.

        Raises:
            OutcomesError: no Parquet file, or as for `from_arrow`.
        """
        connection = connect_engine(engine)
        try:
            return cls(normalised(connection.read_parquet(path), path), path).checked()
        except OutcomesError:
            raise
        except Exception as error:  # noqa: BLE001 - every engine has errors of its own
            raise OutcomesError(f"{path}: cannot be read as parquet: {str(error).splitlines()[0]}") from None

    def checked(self) -> Outcomes:
        """Return these outcomes if their scores are scores.

        Raises:
            OutcomesError: a score outside [0, 1], a negative cost, energy, time or size, or no rows.
        """
        t = self.table
        wrong = t.filter((t.correct < 0) | (t.correct > 1)).limit(1).to_pyarrow().to_pylist()
        if wrong:
            row = wrong[0]
            raise OutcomesError(
                f"{self.name}: `correct` is {row['correct']:g} for query {row['query_id']} and model"
                f" {row['model_id']}; scores must lie in [0, 1], so divide by their maximum first"
            )
        below = {c: (t[c] < 0).sum() for c in NUMBERS if c != "correct"}
        counted = t.agg(rows=t.count(), **below).to_pyarrow().to_pylist()[0]
        if not counted.pop("rows"):
            raise OutcomesError(f"{self.name}: no outcomes in it")
        negative = [f"`{column}` in {int(n)} rows" for column, n in counted.items() if n]
        if negative:
            raise OutcomesError(
                f"{self.name}: negative numbers: {', '.join(negative)}; absent is empty or NaN"
            )
        return self

    def select(
        self,
        *,
        models: Sequence[str] | None = None,
        hardware: Sequence[str] | None = None,
        energy: str | None = None,
    ) -> Outcomes:
        """Keep some models (ids or patterns), hardware (names or patterns) and one kind of energy.

        Raises:
            OutcomesError: nothing is left; the message names what there is.
        """
        table = self.table
        for column, wanted in (("model_id", models), ("hardware", hardware)):
            if wanted is None:
                continue
            known = [v for v in self.values(column) if v is not None]
            kept = [v for v in known if any(fnmatch.fnmatchcase(v.lower(), w.lower()) for w in wanted)]
            if not kept:
                there = ", ".join(known[:12]) or "none at all"
                raise OutcomesError(f"{self.name}: no {column} matches {', '.join(wanted)}; there is {there}")
            table = table.filter(table[column].isin(kept))
        if energy is not None:
            table = table.filter(table.energy_kind == energy)
            if not int(table.count().execute()):
                raise OutcomesError(f"{self.name}: no outcomes with {energy} energy")
        chosen = Outcomes(table, self.name)
        if self._repeats is False:
            chosen._repeats = False
        return chosen

    def values(self, column: str) -> list[Any]:
        """Return the different values of a column, sorted, absent ones last."""
        found = self.table.select(column).distinct().to_pyarrow().column(0).to_pylist()
        return sorted(found, key=lambda v: (v is None, v))

    def per_query(self) -> IbisTable:
        """Return one row per (dataset, query, model, hardware, kind of energy): means over repetitions."""
        t = self.table
        texts = {
            name: t[name].max() for name in ("query", "domain", "precision", "conversation", "messages_json")
        }
        means = {name: t[name].mean() for name in NUMBERS}
        return t.group_by(list(KEY)).agg(**texts, **means)

    def matrix(self, unit: str = "params", *, turns: bool = False, **choice: Any) -> OutcomeMatrix:
        """Return scores and costs as arrays, queries by models; see `matrix_from_arrow`.

        Args:
            unit: of `COST_UNITS`; models are ordered by it where their size is not known.
            turns: also read which queries are turns of one conversation.
            choice: `models`, `hardware`, `energy` as for `select`.

        Raises:
            OutcomesError: no query was answered by all models, or the unit is not known for any of them.
        """
        chosen = self.select(**choice) if any(v is not None for v in choice.values()) else self
        once = chosen.table.filter(chosen.table.correct.notnull())
        rows = chosen.per_query() if chosen.repeats else once
        return matrix_from_arrow(rows.to_pyarrow(), unit, self.name, turns=turns)

    def to_arrow(self) -> pa.Table:
        """Return every row as an Arrow table with the columns of `OUTCOMES_SCHEMA`."""
        return self.table.to_pyarrow().cast(OUTCOMES_SCHEMA)


def normalised(table: IbisTable, name: str) -> IbisTable:
    """Return a table with exactly the columns of `OUTCOMES_SCHEMA`: aliases renamed, NaN absent, the rest null.

    Raises:
        OutcomesError: a required column is missing.
    """
    import ibis

    there = {c.lower(): c for c in table.columns}
    source = {ours: there[theirs] for theirs, ours in ALIASES.items() if theirs in there}
    source |= {f.name: there[f.name] for f in OUTCOMES_SCHEMA if f.name in there}
    for column in REQUIRED:
        if column not in source:
            also = [theirs for theirs, ours in ALIASES.items() if ours == column]
            raise OutcomesError(
                f"{name}: no column `{column}` (or {', '.join(also)}); it has {', '.join(table.columns)}"
            )
    columns: dict[str, Any] = {}
    backend = table.get_backend().name
    for field in OUTCOMES_SCHEMA:
        kind = "float64" if field.type == pa.float64() else "string"
        if field.name not in source:
            columns[field.name] = ibis.null(kind)
            continue
        value: Any = table[source[field.name]].cast(kind)
        columns[field.name] = known_number(value, backend) if kind == "float64" else value
    # Part of the key of every join, where null would equal nothing.
    columns["dataset_id"] = columns["dataset_id"].fill_null("")
    return table.select(**columns)
