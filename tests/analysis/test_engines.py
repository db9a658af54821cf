"""The same tables on every engine that is at hand: PostgreSQL here, Spark by `make test-spark`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes import Outcomes, open_outcomes

from tests.analysis.table_worlds import all_tables, assert_same, world_rows


@pytest.mark.parametrize("repetitions", [1, 2])
@pytest.mark.parametrize("name", list(all_tables()))
def test_postgresql_says_what_duckdb_says(
    name: str, repetitions: int, new_postgres: Callable[[], str], tmp_path: Path
) -> None:
    rows = world_rows(40, repetitions)
    pq.write_table(rows, tmp_path / "rows.parquet")
    here = open_outcomes(tmp_path / "rows.parquet")
    there = open_outcomes(tmp_path / "rows.parquet", engine=new_postgres())
    assert here.repeats == there.repeats == (repetitions > 1)
    assert there.table.get_backend().name == "postgres"
    assert_same(all_tables()[name](there), all_tables()[name](here))


@pytest.mark.parametrize("name", list(all_tables()))
def test_the_short_way_without_repetitions_gives_the_long_ways_numbers(name: str) -> None:
    short, long = (Outcomes.from_arrow(world_rows(60)) for _ in range(2))
    assert short.repeats is False
    long._repeats = True
    assert_same(all_tables()[name](short), all_tables()[name](long))


def test_a_repetition_is_noticed_wherever_it_is() -> None:
    rows = world_rows(30)
    for at in (0, 17, rows.num_rows - 1):
        doubled = Outcomes.from_arrow(
            rows.slice(0).from_batches([*rows.to_batches(), *rows.slice(at, 1).to_batches()])
        )
        expected = rows.column("correct")[at].as_py() is not None
        assert doubled.repeats is expected


@pytest.mark.parametrize("engine", ["nonsense://", "postgres://nobody@127.0.0.1:1/none"])
def test_an_engine_that_cannot_be_used_is_named(engine: str) -> None:
    with pytest.raises(OutcomesError, match=r"engine .* cannot be used"):
        Outcomes.from_arrow(world_rows(2), engine)


def test_a_nan_in_a_parquet_file_is_absent_and_no_number(tmp_path: Path) -> None:
    pq.write_table(world_rows(10), tmp_path / "rows.parquet")
    table = open_outcomes(tmp_path / "rows.parquet").table
    counted = table.agg(known=table.joules.count(), mean=table.joules.mean()).to_pyarrow().to_pylist()[0]
    assert counted["known"] == 72
    assert counted["mean"] > 0
