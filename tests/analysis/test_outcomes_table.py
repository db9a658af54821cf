"""One outcomes table, wherever the rows come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness_analysis.errors import OutcomesError
from harness_analysis.outcomes import OUTCOMES_SCHEMA, Outcomes, open_outcomes
from harness_analysis.outcomes.public_sets import params_from_name
from harness_store import fleet, jobs
from harness_store.database import open_store

from tests.store.worlds import new_job, query_rows, register, run_to_its_end, sources

ROWS = [
    {"query_id": "a", "model_id": "small", "correct": 1.0, "params_b": 1.0, "joules": 2.0, "domain": "maths"},
    {
        "query_id": "a",
        "model_id": "large",
        "correct": 1.0,
        "params_b": 9.0,
        "joules": 20.0,
        "domain": "maths",
    },
    {"query_id": "b", "model_id": "small", "correct": 0.0, "params_b": 1.0, "joules": 4.0, "domain": "law"},
    {"query_id": "b", "model_id": "large", "correct": 1.0, "params_b": 9.0, "joules": 40.0, "domain": "law"},
]


def rows(**changes: object) -> list[dict[str, object]]:
    return [{**row, **changes} for row in ROWS]


def test_csv_jsonl_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS)
    frame.write_csv(tmp_path / "o.csv")
    frame.write_parquet(tmp_path / "o.parquet")
    (tmp_path / "o.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    read = [open_outcomes(tmp_path / name).to_arrow() for name in ("o.csv", "o.parquet", "o.jsonl")]
    assert read[0].schema == OUTCOMES_SCHEMA
    assert all(table.to_pylist() == read[0].to_pylist() for table in read)
    matrix = open_outcomes(tmp_path / "o.csv").matrix("joules")
    assert matrix.models == ("small", "large")
    assert matrix.query_ids == ("a", "b")
    assert matrix.correct.tolist() == [[1, 1], [0, 1]]
    assert matrix.cost.tolist() == [[2, 20], [4, 40]]
    assert matrix.domains == ("maths", "law")
    assert set(matrix.costs) == {"params", "joules"}


def test_other_peoples_column_names_are_understood() -> None:
    renamed = [
        {
            "sample_id": r["query_id"],
            "model_name": r["model_id"],
            "performance": bool(r["correct"]),
            "cost": 0.1,
        }
        for r in ROWS
    ]
    matrix = Outcomes.from_arrow(pa.Table.from_pylist(renamed)).matrix("dollars")
    assert matrix.correct.sum() == 3


def test_the_live_stores_rows_feed_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = open_store(url)
    with store.begin() as c:
        register(c)
        fleet.upsert_sources(c, "a1", sources("g"))
        job_id = jobs.insert_job(c, new_job(models=2), query_rows(4)).job_id
        run_to_its_end(c, job_id)
        run_to_its_end(c, job_id, model_id="m1", responses=["1", "wrong", "3", "4"])
    store.close()
    outcomes = open_outcomes(url)
    assert open_outcomes(url, job=job_id).to_arrow().num_rows == outcomes.to_arrow().num_rows == 8
    matrix = outcomes.matrix("joules")
    assert matrix.models == ("m0", "m1")
    assert matrix.correct.mean(axis=0).tolist() == [1.0, 0.75]
    assert matrix.cost[:, 0].tolist() == [10, 11, 12, 13]
    assert {"params", "tokens", "latency", "dollars", "joules"} <= set(matrix.costs)
    with pytest.raises(OutcomesError, match="no answer of job nope"):
        open_outcomes(url, job="nope")


def test_repetitions_are_averaged() -> None:
    twice = [*ROWS, {**ROWS[0], "correct": 0.0, "joules": 6.0}]
    matrix = Outcomes.from_arrow(pa.Table.from_pylist(twice)).matrix("joules")
    assert matrix.correct[0, 0] == 0.5
    assert matrix.cost[0, 0] == 4.0


def test_a_model_on_two_machines_is_two_choices() -> None:
    both = [*rows(hardware="H200"), *rows(hardware="M4", joules=1.0)[::2]]
    matrix = Outcomes.from_arrow(pa.Table.from_pylist(both)).matrix("joules")
    assert sorted(matrix.models) == ["large", "small @ H200", "small @ M4"]
    assert Outcomes.from_arrow(pa.Table.from_pylist(both)).matrix("joules", hardware=["h2*"]).models == (
        "small",
        "large",
    )


def test_queries_that_a_model_skipped_are_left_out_and_said() -> None:
    absent = [{**ROWS[0], "query_id": "c", "correct": float("nan")}, {**ROWS[1], "query_id": "c"}]
    matrix = Outcomes.from_arrow(pa.Table.from_pylist([*ROWS, *absent])).matrix()
    assert matrix.query_ids == ("a", "b")
    assert matrix.left_out == ("1 queries that not every model has an outcome for",)


@pytest.mark.parametrize(
    ("table", "unit", "message"),
    [
        (rows(correct=7.0), "params", r"`correct` is 7 for query a .* divide by their maximum"),
        (rows(correct=float("nan")), "params", "no answer has a verdict"),
        (rows(correct=None), "params", "no column `correct`"),
        ([{"query_id": "a", "model_id": "m"}], "params", "no column `correct`"),
        (ROWS, "beans", "cost `beans` is not known"),
        (ROWS, "dollars", r"routing needs two models with a cost in dollars .* known costs: params, joules"),
        (ROWS[:1], "params", "routing needs two models"),
        ([ROWS[0], ROWS[3]], "params", "no query was answered by all 2 models"),
        (
            [*rows(energy_kind="measured"), *rows(energy_kind="estimated")],
            "joules",
            "estimated and measured energy are mixed",
        ),
    ],
)
def test_bad_outcomes_are_refused_in_a_sentence(
    table: list[dict[str, object]], unit: str, message: str
) -> None:
    with pytest.raises(OutcomesError, match=message):
        Outcomes.from_arrow(pa.Table.from_pylist(table)).matrix(unit)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "o.parquet").write_text("no parquet")
    (tmp_path / "o.xlsx").write_text("")
    pq.write_table(
        pa.table({"query_id": pa.array([], pa.string()), "model_id": [], "correct": []}),
        tmp_path / "e.parquet",
    )
    for name, message in [
        ("o.parquet", "cannot be read"),
        ("o.xlsx", "read from .parquet, .csv"),
        ("missing.csv", "no such file"),
        (".", "no published set"),
        ("e.parquet", "no outcomes in it"),
    ]:
        with pytest.raises(OutcomesError, match=message):
            open_outcomes(tmp_path / name)


def test_an_unknown_model_is_answered_with_what_there_is() -> None:
    with pytest.raises(OutcomesError, match="no model_id matches huge; there is large, small"):
        Outcomes.from_arrow(pa.Table.from_pylist(ROWS)).select(models=["huge"])


@pytest.mark.parametrize(
    ("name", "size_b"),
    [
        ("Llama-2-13b-hf", 13.0),
        ("Meta-Llama-3_1-70B-Instruct", 70.0),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46.7),
        ("qwen-1.5b@together", 1.5),
        ("gpt-4o-2024-05-13", None),
        ("claude-3-opus", None),
    ],
)
def test_sizes_are_read_from_names_only_where_they_tell(name: str, size_b: float | None) -> None:
    assert params_from_name(name) == size_b


@pytest.mark.parametrize(
    ("folder", "file", "models", "queries"),
    [("mmlu_pro", "correct.parquet", 28, 12_032), ("zeroeval", "gsm_correct.parquet", 44, 1_319)],
)
def test_single_model_accuracies_equal_independent_counts(
    shared_data: Path, folder: str, file: str, models: int, queries: int
) -> None:
    at = shared_data / "outcomes" / folder
    counted = pl.read_parquet(at / file)
    table = open_outcomes(at).table
    ours = {
        row["model_id"]: row
        for row in table.group_by("model_id")
        .agg(n=table.correct.count(), s=table.correct.sum())
        .to_pyarrow()
        .to_pylist()
    }
    assert len(ours) == models
    for model, row in ours.items():
        verdicts = counted[model].filter(counted[model] >= 0)
        assert (row["n"], row["s"]) == (len(verdicts), verdicts.sum())
    assert max(row["n"] for row in ours.values()) == queries


def test_routellm_and_llmrouter_counts(shared_data: Path) -> None:
    pair = open_outcomes(shared_data / "outcomes" / "routellm-gsm8k").matrix("tokens")
    frame = pl.read_csv(shared_data / "outcomes" / "routellm-gsm8k" / "gsm8k_responses.csv")
    for column, model in enumerate(pair.models):
        assert pair.correct[:, column].sum() == frame[model].sum()
    nine = open_outcomes(shared_data / "outcomes" / "llmrouter").matrix("params")
    assert nine.correct.shape == (6_108, 9)
    items = json.loads((shared_data / "outcomes" / "llmrouter" / "dcrouter_test.json").read_text())
    test = nine.rows(np.array([d == "test" for d in nine.domains]))
    for column, model in enumerate(nine.models):
        assert test.correct[:, column].sum() == pytest.approx(sum(item["scores"][model] for item in items))
