"""The outcomes table as an Ibis expression, so that the same analysis runs on DuckDB, PostgreSQL or Spark."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes.matrix import OutcomeMatrix, matrix_from_arrow
from harness_analysis.outcomes.schema import ALIASES, KEY, NUMBERS, OUTCOMES_SCHEMA, REQUIRED

DEFAULT_ENGINE = "duckdb://"

IbisTable = Any
"""An `ibis.Table`: its columns are attributes, which no type checker can know."""


class Outcomes:
    """Outcomes on an engine that Ibis speaks to; every analysis is an expression on `table`."""

    def __init__(self, table: IbisTable, name: str = "outcomes") -> None:
        """Take a table with the columns of `OUTCOMES_SCHEMA`; `normalised` makes one of any other."""
        self.table = table
        self.name = name

    @classmethod
    def from_arrow(cls, rows: pa.Table, engine: str = DEFAULT_ENGINE, name: str = "outcomes") -> Outcomes:
        """Bring rows to an engine.

        Args:
            rows: columns of `OUTCOMES_SCHEMA` or their aliases; what is missing is absent.
            engine: URL for `ibis.connect`: `duckdb://` (in memory), `duckdb://FILE`, `postgres://...`, `pyspark://...`.
            name: what messages call these outcomes.

        Raises:
            OutcomesError: a required column is missing, or a score lies outside [0, 1].
        """
        import ibis

        connection: Any = ibis.connect(engine)
        # A column of which nothing is known has no type that an engine could store.
        rows = rows.select([f.name for f in rows.schema if not pa.types.is_null(f.type)])
        table = connection.create_table("harness_outcomes", rows, temp=True)
        return cls(normalised(table, name), name).checked()

    @classmethod
    def from_parquet(cls, path: str, engine: str = DEFAULT_ENGINE) -> Outcomes:
        """Read a Parquet file where it lies: the engine scans it, nothing is copied first.

        Raises:
            OutcomesError: no Parquet file, or as for `from_arrow`.
        """
        import duckdb
        import ibis

        connection: Any = ibis.connect(engine)
        try:
            return cls(normalised(connection.read_parquet(path), path), path).checked()
        except duckdb.Error as error:
            raise OutcomesError(f"{path}: cannot be read as parquet: {str(error).splitlines()[0]}") from None

    def checked(self) -> Outcomes:
        """Return these outcomes if their scores are scores.

        Raises:
            OutcomesError: a score outside [0, 1], or no rows.
        """
        t = self.table
        wrong = t.filter((t.correct < 0) | (t.correct > 1)).limit(1).to_pyarrow().to_pylist()
        if wrong:
            row = wrong[0]
            raise OutcomesError(
                f"{self.name}: `correct` is {row['correct']:g} for query {row['query_id']} and model"
                f" {row['model_id']}; scores must lie in [0, 1], so divide by their maximum first"
            )
        if not int(t.count().execute()):
            raise OutcomesError(f"{self.name}: no outcomes in it")
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
        return Outcomes(table, self.name)

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
        return matrix_from_arrow(chosen.per_query().to_pyarrow(), unit, self.name, turns=turns)

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
    for field in OUTCOMES_SCHEMA:
        kind = "float64" if field.type == pa.float64() else "string"
        if field.name not in source:
            columns[field.name] = ibis.null(kind)
            continue
        value: Any = table[source[field.name]].cast(kind)
        columns[field.name] = (
            ibis.ifelse(value.isnan(), ibis.null(kind), value) if kind == "float64" else value
        )
    # Part of the key of every join, where null would equal nothing.
    columns["dataset_id"] = columns["dataset_id"].fill_null("")
    return table.select(**columns)
