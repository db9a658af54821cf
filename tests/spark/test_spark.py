"""The descriptive tables on local Spark beside DuckDB; run by `make test-spark`."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes import Outcomes, open_outcomes

from tests.analysis.table_worlds import all_tables, assert_same, world_rows

ENGINE = "pyspark://"

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("pyspark") is None,
        reason="needs Spark in an environment of its own: make test-spark",
    ),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module", autouse=True)
def _spark_ends() -> Iterator[None]:
    yield
    spark: Any = importlib.import_module("pyspark.sql").SparkSession
    running = spark.getActiveSession()
    if running is not None:
        running.stop()


@pytest.mark.parametrize("repetitions", [1, 2])
@pytest.mark.parametrize("name", list(all_tables()))
def test_spark_says_what_duckdb_says(name: str, repetitions: int) -> None:
    rows = world_rows(60, repetitions)
    here, there = Outcomes.from_arrow(rows), Outcomes.from_arrow(rows, ENGINE)
    assert there.table.get_backend().name == "pyspark"
    assert here.repeats == there.repeats == (repetitions > 1)
    assert_same(all_tables()[name](there), all_tables()[name](here))


def test_spark_reads_a_parquet_file_where_it_lies_and_makes_the_same_matrix(tmp_path: Path) -> None:
    pq.write_table(world_rows(30), tmp_path / "rows.parquet")
    here, there = (
        open_outcomes(tmp_path / "rows.parquet", engine=e).matrix("dollars", hardware=["H200"])
        for e in ("duckdb://", ENGINE)
    )
    assert here.query_ids == there.query_ids
    assert here.models == there.models
    assert (here.correct == there.correct).all()
    assert math.isclose(here.cost.sum(), there.cost.sum(), rel_tol=1e-12)


def test_a_broken_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("no parquet")
    with pytest.raises(OutcomesError, match="cannot be read as parquet"):
        open_outcomes(tmp_path / "rows.parquet", engine=ENGINE)
