"""`harness jobs`: whether a job's joules were measured or estimated is never left out."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness_cli.main import harness
from harness_cli.watching import progress_line
from harness_coordinator.answers import job_detail
from harness_store import fleet, jobs
from harness_store.database import open_store

from tests.store.worlds import new_job, query_rows, register, run_to_its_end, sources


@pytest.mark.parametrize(
    ("energies", "kind", "line", "heading"),
    [
        (["counter"], "measured", "33.00 J measured", "joules measured"),
        (["estimated"], "estimated", "33.00 J estimated", "joules estimated"),
        (["counter", "estimated"], "mixed", "which are not added", "joules mixed"),
    ],
)
def test_a_listing_says_where_a_jobs_joules_come_from(
    energies: list[str], kind: str, line: str, heading: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'harness.db'}"
    store = open_store(url)
    with store.begin() as c:
        register(c)
        fleet.upsert_sources(c, "a1", sources("g"))
        job_id = jobs.insert_job(c, new_job(models=len(energies)), query_rows(3)).job_id
        for number, energy in enumerate(energies):
            run_to_its_end(c, job_id, energy_source={"g": energy}, model_id=f"m{number}")
        assert line in progress_line(job_detail(c, job_id))
    store.close()
    call = [
        CliRunner().invoke(harness, ["jobs", "--db", url, "--format", f]).stdout
        for f in ("json", "csv", "table")
    ]
    (row,) = json.loads(call[0])
    assert (row["from"], row["joules"]) == (kind, None if kind == "mixed" else 33.0)
    assert next(csv.DictReader(io.StringIO(call[1])))["from"] == kind
    assert heading in " ".join(call[2].split())
