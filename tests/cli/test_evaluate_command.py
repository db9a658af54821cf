"""`harness evaluate --db` in this process: a judge's endpoint is a real one, the coordinator is not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from harness_cli.main import harness
from harness_store import jobs
from harness_store.database import Store, open_store
from sqlalchemy import text

from tests.analysis.evaluation.standin_judge import pairwise, standin_judge
from tests.store.worlds import new_job, query_rows, register, run_to_its_end


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path / 'h.db'}")


def job_of(store: Store, queries: int = 8) -> str:
    with store.begin() as c:
        register(c)
        job_id = jobs.insert_job(c, new_job(), query_rows(queries)).job_id
        # An answer that is the reference makes one prompt of both orders.
        run_to_its_end(c, job_id, responses=[f"I say {i + 1}" for i in range(queries)])
    return job_id


def call(store: Store, *arguments: str) -> Result:
    return CliRunner().invoke(harness, [*arguments, "--db", str(store.engine.url)])


def judges_file(tmp_path: Path, url: str, **more: Any) -> str:
    judge = {"name": "j", "base_url": url, "model": "m", "concurrency": 2, "backoff_s": 0.01, **more}
    path = tmp_path / "judges.yaml"
    path.write_text(yaml.safe_dump({"judges": [judge]}))
    return str(path)


def kept(store: Store) -> int:
    with store.read() as c:
        return int(c.execute(text("SELECT count(*) FROM judgements")).scalar_one())


def test_a_budget_stops_cleanly_and_going_on_pays_for_nothing_twice(store: Store, tmp_path: Path) -> None:
    job_id = job_of(store)
    price = {"input_per_mtok": 1.0, "output_per_mtok": 1.0}
    with standin_judge(reply=pairwise("A=B")) as url:
        judges = judges_file(tmp_path, url, price=price, max_output_tokens=500)
        base = ("evaluate", job_id, "--judges", judges, "--judge", "j", "--format", "json")
        capped = call(store, *base, "--budget", "0.004")
        assert capped.exit_code == 1
        assert "the budget of 0.004 USD is spent" in capped.stderr
        paid = kept(store)
        assert 0 < paid < 16
        whole = call(store, *base)
        assert whole.exit_code == 0, whole.stderr
        assert f"{16 - paid} asks were sent now" in whole.stderr
    again = call(store, *base)
    assert "0 asks were sent now" in again.stderr
    (row,) = json.loads(again.stdout)
    assert (row["judged"], row["right"], row["undecided"], row["both_orders"]) == (8, 8, 0, 8)
    store.close()


def test_a_judge_that_is_not_there_leaves_reasons_and_is_asked_again(store: Store, tmp_path: Path) -> None:
    job_id = job_of(store, 2)
    base = ("evaluate", job_id, "--judge", "j", "--form", "true_false", "--format", "json", "--judges")
    gone = call(store, *base, judges_file(tmp_path, "http://127.0.0.1:1/v1", retries=1))
    assert gone.exit_code == 0, gone.stderr
    assert json.loads(gone.stdout)[0]["undecided"] == 2
    with standin_judge(reply='{"correct": true}') as url:
        back = call(store, *base, judges_file(tmp_path, url), "--limit", "1", "--use")
    assert back.exit_code == 0, back.stderr
    row = json.loads(back.stdout)[0]
    assert (row["judged"], row["right"], row["undecided"]) == (1, 1, 1)
    store.close()


def test_a_budget_without_a_price_is_refused_before_anything_is_asked(store: Store, tmp_path: Path) -> None:
    job_id = job_of(store, 2)
    wrong = call(
        store, "evaluate", job_id, "--judges", judges_file(tmp_path, "http://127.0.0.1:1"), "--budget", "1",
        "--method", "judge",
    )  # fmt: skip
    assert wrong.exit_code == 2
    assert "has no `price`" in wrong.stderr
    assert kept(store) == 0
    store.close()
