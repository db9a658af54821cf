"""What the commands about outcomes say to wrong input: one plain sentence, exit code 2, and nothing half written."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from harness_cli.main import harness

from tests.analysis.routing_worlds import topic_world
from tests.analysis.test_route_commands import long_form

EVALUATE = (
    "route",
    "evaluate",
    "FILE",
    "--cost",
    "joules",
    "--resamples",
    "100",
    "--routers",
    "heuristic,knn",
)
MESS = ("route", "mess-plus", "FILE", "--cost", "joules")
SLA = ("route", "sla", "FILE", "--cost", "joules")
REPLAY = ("route", "replay", "FILE", "--cost", "joules")
SWEEP = ("route", "sweep", "FILE", "--cost", "joules")
HYBRID = ("route", "hybrid", "FILE", "--cost", "joules")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("outcomes") / "outcomes.parquet"
    long_form(topic_world(60)).write_parquet(path)
    return str(path)


@pytest.fixture(autouse=True)
def _no_library_speaks_up() -> Iterator[None]:
    """A warning from a library's inside is a failure here; deprecations are theirs among themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def refused(*words: str, code: int = 2) -> str:
    result: Result = CliRunner().invoke(harness, list(words))
    assert result.exit_code == code, (result.output, result.exception)
    said = [line for line in result.stderr.splitlines() if not line.endswith("...")]
    assert "Traceback" not in result.output
    return said[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*EVALUATE[:2], "nowhere.csv"), "no such file"),
        ((*EVALUATE, "--threshold", "3"), "between 0 and 1"),
        ((*EVALUATE, "--threshold", "nan"), "between 0 and 1"),
        ((*EVALUATE, "--train-share", "1"), "between 0 and 1"),
        ((*EVALUATE, "--train-share", "nan"), "between 0 and 1"),
        ((*EVALUATE, "--seed", "-1"), "Invalid value for '--seed'"),
        ((*EVALUATE, "--routers", "psychic"), "choose from smallest"),
        ((*EVALUATE, "--routers", ","), "no router was named"),
        ((*EVALUATE, "--routers", "all,-psychic"), "was not named before it"),
        ((*EVALUATE, "--routers", "knn:0"), "k of at least 1"),
        ((*EVALUATE, "--routers", "decoder"), "write decoder:FOLDER"),
        ((*EVALUATE, "--routers", "bert:/nowhere"), "is no folder"),
        ((*EVALUATE, "--routers", "mf-embedllm", "--learning-rate", "nan"), "is not a finite number"),
        ((*EVALUATE, "--models", "small"), "needs two models"),
        ((*EVALUATE, "--models", "gpt*"), "there is large, middle, small"),
        ((*EVALUATE, "--cost", "flops"), "known costs: params, latency, dollars, joules"),
        ((*EVALUATE, "--energy", "estimated"), "no outcomes with estimated energy"),
        ((*EVALUATE, "--job", "7"), "jobs are of a database"),
        ((*EVALUATE, "--plot", "x.bmp"), "must end in .png"),
        ((*EVALUATE, "--plot", "/nowhere/x.png"), "there is no folder"),
        ((*EVALUATE, "-o", "/nowhere/x.csv"), "there is no folder"),
        (("route", "predict", "FILE", "hello"), "no router is in it"),
        (("route", "predict", "FILE"), "no query was given"),
        (("route", "fit", "FILE", "--router", "oracle", "-o", "router"), "is a bound"),
        (REPLAY, "no traffic was given"),
        ((*REPLAY, "--requests-per-day", "9", "--servers", "large"), "write MODEL=NUMBER"),
        ((*REPLAY, "--requests-per-day", "nan"), "above 0"),
        ((*REPLAY, "--requests-per-day", "inf"), "takes hours"),
        ((*MESS, "--alpha", "0.99"), "no promise of it can be kept"),
        ((*MESS, "--alpha", "nan"), "between 0 and 1"),
        ((*MESS, "--alpha", "0.5", "--v", "inf"), "above 0 and finite"),
        ((*MESS, "--alpha", "0.5", "--c", "0"), "above 0 and finite"),
        ((*MESS, "--alpha", "0.5", "--rivals", "oracle"), "it is no rival"),
        ((*SLA, "--alpha", "half"), "write numbers with commas"),
        ((*SLA, "--alpha", "0.5,0.99"), "no promise of it can be kept"),
        ((*SLA, "--alpha", "0.5", "--v", "0.1,-1"), "above 0 and finite"),
        ((*SLA, "--alpha", "0.5", "--window", "61"), "1 to 60 requests"),
        ((*HYBRID, "--small", "tiny"), "there is no model tiny"),
        ((*HYBRID, "--small", "large"), "a pair needs two models"),
        ((*HYBRID, "--max-drop", "nan"), "between 0 and 100 percent"),
        ((*SWEEP, "--k", "0"), "whole numbers from 1 on"),
        ((*SWEEP, "--k", "1000"), "more than the 42 training queries"),
        (("route", "curve", "FILE", "--cost", "joules", "--sizes", "1000"), "42 are in the training part"),
        (("route", "cascade", "FILE", "--cost", "joules", "--judge-error", "nan"), "between 0 and 1"),
        (("route", "cascade", "FILE", "--cost", "joules", "--cost-cap", "-1"), "above 0"),
        (("route", "experiment", "duplicates", "FILE", "--similarity", "2"), "(0, 1]"),
        (("route", "experiment", "ood", "FILE", "--by", "dataset"), "all queries are of one dataset"),
        (("analyze", "precision", "FILE"), "another precision"),
        (("analyze", "savings", "FILE", "--cloud", "gpt"), "there is no model gpt"),
        (("analyze", "savings", "FILE", "--models", "large"), "none to save with"),
        (("analyze", "coverage", "FILE", "--families", "gpt,small"), "no model begins with gpt"),
        (("analyze", "coverage", "FILE", "--families", "none.json"), "no families in it"),
        (("analyze", "failures", "FILE", "--router", "knn,mf"), "name one router"),
        (("report", "FILE", "-o", "report.txt"), "must end in .html"),
        (("report", "FILE", "--routers", "psychic", "-o", "report.html"), "choose from smallest"),
    ],
)
def test_wrong_options_are_refused(
    words: tuple[str, ...], message: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(*(file if word == "FILE" else word for word in words))
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_not_there_cannot_be_reached() -> None:
    assert "no such database file" in refused(
        "analyze", "efficiency", "sqlite:////nowhere/harness.db", code=3
    )


def changed(**columns: pl.Expr) -> pl.DataFrame:
    return long_form(topic_world(60)).with_columns(**columns)


SMALL = pl.col("model_id") == "small"
FILES = {
    "a model without outcomes": changed(correct=pl.when(SMALL).then(None).otherwise(pl.col("correct"))),
    "no verdict": changed(correct=pl.lit(float("nan"))),
    "a score above 1": changed(correct=pl.lit(2.0)),
    "a negative cost": changed(joules=-pl.col("joules")),
    "no cost": long_form(topic_world(60)).drop("joules"),
    "infinite cost": changed(joules=pl.lit(float("inf"))),
    "one cost": changed(joules=pl.lit(5.0)),
    "no verdict column": long_form(topic_world(60)).drop("correct"),
    "two kinds of energy": changed(
        energy_kind=pl.when(SMALL).then(pl.lit("estimated")).otherwise(pl.lit("measured"))
    ),
    "no rows": long_form(topic_world(60)).head(0),
    "no text": long_form(topic_world(60)).drop("query"),
    "one query": long_form(topic_world(60)).head(3),
    "one model": long_form(topic_world(60)).filter(SMALL),
}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no verdict", "no answer has a verdict"),
        ("a score above 1", "divide by their maximum first"),
        ("a negative cost", "negative numbers: `joules` in 180 rows"),
        ("no cost", "known costs: params, latency, dollars"),
        ("infinite cost", "models without joules"),
        ("one cost", "all models cost the same"),
        ("no verdict column", "no column `correct`"),
        ("two kinds of energy", "choose one with --energy"),
        ("no rows", "no outcomes in it"),
        ("no text", "need a column `query`"),
        ("one query", "too few queries (1)"),
        ("one model", "needs two models"),
    ],
)
def test_outcomes_that_nothing_can_be_said_about_are_refused(name: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "o.parquet"
    FILES[name].write_parquet(path)
    said = refused(
        *(str(path) if word == "FILE" else word for word in EVALUATE), "-o", str(tmp_path / "t.csv")
    )
    assert message in said
    assert [p.name for p in tmp_path.iterdir()] == ["o.parquet"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", ""),
        ("b.csv", "query_id,model_id,correct\n"),
        ("c.jsonl", ""),
        ("d.jsonl", '{"a":'),
        ("e.parquet", "x"),
    ],
)
def test_files_that_hold_no_rows_are_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    for command in (("analyze", "solvability"), ("route", "evaluate")):
        said = refused(*command, str(tmp_path / name))
        assert name in said
        assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("a query nobody solved", changed(correct=pl.lit(0.0))),
        ("one class only", changed(correct=pl.lit(1.0))),
        ("rows twice", pl.concat([changed(), changed()])),
        ("two queries", long_form(topic_world(60)).head(6)),
    ],
)
def test_odd_outcomes_have_a_value_and_no_warning(name: str, table: pl.DataFrame, tmp_path: Path) -> None:
    path = str(tmp_path / "o.parquet")
    table.write_parquet(path)
    for words in (EVALUATE, (*SWEEP, "--k", "1")):
        asked = [path if word == "FILE" else word for word in words]
        result = CliRunner().invoke(harness, [*asked, "--format", "json"])
        assert result.exit_code == 0, (name, result.output, result.exception)
        rows = json.loads(result.stdout)
        assert rows
        assert all(any(isinstance(value, float) for value in row.values()) for row in rows), (name, rows)


def test_a_model_without_outcomes_is_no_candidate(tmp_path: Path) -> None:
    path = str(tmp_path / "o.parquet")
    FILES["a model without outcomes"].write_parquet(path)
    result = CliRunner().invoke(harness, [path if word == "FILE" else word for word in (*SWEEP, "--k", "5")])
    assert result.exit_code == 0, result.output
    alone = ("--models", "small", "--models", "middle")
    said = refused(*(path if word == "FILE" else word for word in EVALUATE), *alone)
    assert "needs two models" in said
    assert "no answer of small has a verdict" in refused("analyze", "savings", path, "--cloud", "small")
