"""Reading a store from Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from harness_analysis import StoreReader, connect
from harness_store import fleet, jobs, segments
from harness_store.database import open_store
from harness_store.errors import NotOurDatabaseError, StoreUnreachableError, UnknownJobError

from tests.store.worlds import S, new_job, query_rows, register, run_to_its_end, sources


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the URL of a store with one job that ran, and the job's id."""
    url = f"sqlite:///{tmp_path_factory.mktemp('reader') / 'store.db'}"
    store = open_store(url)
    t_ns = np.arange(5, 100) * S
    with store.begin() as c:
        register(c)
        fleet.upsert_sources(c, "a1", sources("g"))
        job_id = jobs.insert_job(c, new_job(), query_rows(4)).job_id
        run_to_its_end(c, job_id)
        for seq, source_id in enumerate(("g", "host:memory", "unrelated"), start=1):
            columns = {"t_ns": t_ns, "power_w": np.where(t_ns == 20 * S, np.nan, 100.0)}
            segments.append_blocks(c, [segments.NewBlock("a1", "b1", source_id, "c1", seq, columns)])
    store.close()
    return url, job_id


@pytest.fixture
def reader(database: tuple[str, str]) -> Iterator[StoreReader]:
    with connect(database[0]) as opened:
        yield opened


def test_results_come_in_every_form(reader: StoreReader, database: tuple[str, str], tmp_path: Path) -> None:
    frame = reader.results(database[1])
    assert len(frame) == 4
    assert frame.to_polars()["joules"].to_list() == [10.0, 11.0, 12.0, 13.0]
    assert frame.to_pandas()["correct"].tolist() == [True] * 4
    assert frame.to_arrow().column("query_id").to_pylist() == ["q0", "q1", "q2", "q3"]
    frame.to_parquet(tmp_path / "r.parquet")
    assert pq.read_table(tmp_path / "r.parquet").equals(frame.to_arrow())
    frame.to_csv(tmp_path / "r.csv")
    read = pl.read_csv(tmp_path / "r.csv")
    assert read["joules"].to_list() == [10.0, 11.0, 12.0, 13.0]
    assert read["temperature_c_median"].null_count() == 4
    assert next(iter(frame))["query_id"] == "q0"


def test_samples_of_a_job_are_those_of_its_sources_over_its_runs(
    reader: StoreReader, database: tuple[str, str], tmp_path: Path
) -> None:
    frame = reader.samples(database[1])
    samples = frame.to_polars()
    assert samples["source"].unique().sort().to_list() == ["g", "host:memory"]
    assert (samples["t_ns"].min(), samples["t_ns"].max()) == (10 * S, 90 * S)
    assert samples["power_w"].null_count() == 2
    frame.to_csv(tmp_path / "s.csv")
    assert pl.read_csv(tmp_path / "s.csv").height == len(frame) == 2 * 81


@pytest.mark.parametrize("agent", ["a1", "box-a1"])
def test_samples_of_an_agent_are_everything_it_sent(reader: StoreReader, agent: str) -> None:
    assert len(reader.samples(agent)) == 3 * 95


def test_jobs_and_outcomes_are_listed(reader: StoreReader, database: tuple[str, str]) -> None:
    (job,) = list(reader.jobs())
    assert (job["job_id"], job["done"], job["joules"]) == (database[1], 4, 46.0)
    assert len(reader.outcomes()) == 4
    assert len(reader.outcomes(models=["m0"], hardware=["NVIDIA H200"])) == 4
    assert len(reader.outcomes(models=["m9"])) == 0
    assert len(reader.outcomes(models=[])) == 0


def test_what_is_not_there_is_said(reader: StoreReader, tmp_path: Path) -> None:
    with pytest.raises(UnknownJobError, match="no job"):
        reader.results("nope")
    with pytest.raises(UnknownJobError, match=r"neither a job .* nor an agent"):
        reader.samples("nope")
    with pytest.raises(StoreUnreachableError, match="no such database file"):
        connect(f"sqlite:///{tmp_path / 'typo.db'}")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text.db").write_text("this is a text of more than sixteen characters\n" * 100)
    with pytest.raises(NotOurDatabaseError, match="is not a database file"):
        connect(str(tmp_path / "text.db"))


def test_a_reader_cannot_write(reader: StoreReader) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import OperationalError

    with reader.store.read() as c, pytest.raises(OperationalError, match="readonly"):
        c.execute(text("DELETE FROM jobs"))
