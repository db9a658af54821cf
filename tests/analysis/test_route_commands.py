"""The commands about outcomes, as people call them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from harness_analysis.outcomes.matrix import OutcomeMatrix
from harness_cli.main import harness

from tests.analysis.routing_worlds import topic_world


def long_form(world: OutcomeMatrix) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "query_id": query,
                "query": world.texts[i],
                "domain": world.domains[i],
                "model_id": model,
                "params_b": world.params_b[j],
                "correct": world.correct[i, j],
                "joules": world.costs["joules"][i, j],
                "cost": world.costs["dollars"][i, j],
                "total_s": 1.5,
                "energy_kind": "measured",
            }
            for i, query in enumerate(world.query_ids)
            for j, model in enumerate(world.models)
        ]
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("outcomes") / "outcomes.parquet"
    long_form(topic_world(400)).write_parquet(path)
    return str(path)


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(harness, list(words))
    assert result.exit_code == code, result.output
    return result


def test_a_sample_of_the_queries_is_evaluated_where_routers_learn_long(file: str, tmp_path: Path) -> None:
    asked = ("--queries", "100", "--routers", "smallest,knn:5", "--train-share", "0.6")
    run("route", "evaluate", file, *QUICK, *asked, "-o", str(tmp_path / "e.csv"))
    assert set(pl.read_csv(tmp_path / "e.csv")["test_queries"]) == {40}


QUICK = ("--resamples", "200", "--cost", "joules")


def test_one_command_evaluates_all_routers_with_intervals_and_a_plot(file: str, tmp_path: Path) -> None:
    run("route", "evaluate", file, *QUICK, "-o", str(tmp_path / "e.csv"), "--plot", str(tmp_path / "e.svg"))
    rows = {row["router"]: row for row in pl.read_csv(tmp_path / "e.csv").to_dicts()}
    assert set(rows) == {
        *(
            "smallest",
            "largest",
            "random",
            "heuristic",
            "knn",
            "knn-vote",
            "kmeans",
            "mlp",
            "mf",
            "oracle",
            "zero",
        )
    }
    for row in rows.values():
        assert row["area_low"] <= row["area"] <= row["area_high"]
        assert row["area"] <= rows["oracle"]["area"] + 1e-12
    assert rows["knn"]["area_over_heuristic_low"] > 0
    assert (tmp_path / "e.svg").read_text().count("<path") > 10


def test_pairs_of_routers_are_compared(file: str) -> None:
    result = run(
        "route", "compare", file, *QUICK, "--routers", "smallest,heuristic,oracle", "--format", "json"
    )
    rows = json.loads(result.stdout)
    assert [(r["first"], r["second"]) for r in rows] == [
        ("smallest", "heuristic"),
        ("smallest", "oracle"),
        ("heuristic", "oracle"),
    ]
    assert all(row["significant"] for row in rows)


def test_a_router_is_fitted_saved_and_asked(file: str, tmp_path: Path) -> None:
    saved = str(tmp_path / "router")
    run("route", "fit", file, "--router", "knn:20", "--cost", "joules", "-o", saved)
    asked = ["onion oven butter simmer", "court judge statute appeal", "prime matrix theorem integral"]
    best = json.loads(run("route", "predict", saved, *asked, "--threshold", "0.5", "--format", "json").stdout)
    assert [row["model"] for row in best] == ["small", "middle", "large"]
    cheap = json.loads(run("route", "predict", saved, *asked, "--price", "0", "--format", "json").stdout)
    assert {row["model"] for row in cheap} == {"small"}
    (tmp_path / "queries.txt").write_text("onion oven\n\ncourt judge\n")
    from_file = run("route", "predict", saved, "--file", str(tmp_path / "queries.txt"), "--format", "json")
    assert len(json.loads(from_file.stdout)) == 2


def test_thresholds_trade_accuracy_for_joules(file: str) -> None:
    result = run("route", "thresholds", file, "--cost", "joules", "--router", "knn:20", "--format", "json")
    rows = json.loads(result.stdout)
    assert [row["threshold"] for row in rows] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, None]
    sizes = [row["mean_params_b"] for row in rows[:-1]]
    assert sizes == sorted(sizes)
    saved = [row["joules_saved"] for row in rows[:-1]]
    assert saved == sorted(saved, reverse=True)
    assert rows[-1]["label_f1"] == 1.0


def test_cascades_pairs_and_promises(file: str, tmp_path: Path) -> None:
    bought = json.loads(run("route", "cascade", file, *QUICK, "--format", "json").stdout)
    assert [row["judge_error"] for row in bought] == [0.0, 0.1, 0.2, 0.4, None]
    assert bought[0]["accuracy"] == bought[-1]["accuracy"]
    assert bought[0]["mean_cost"] < bought[-1]["mean_cost"]
    pair = (
        "--cost",
        "joules",
        "--small",
        "middle",
        "--large",
        "large",
        "--max-drop",
        "2",
        "--format",
        "json",
    )
    trained = json.loads(run("route", "hybrid", file, *pair).stdout)
    assert [row["router"] for row in trained] == ["deterministic", "probabilistic", "transformed"]
    assert all(row["rate_curve_area"] > row["random_area"] for row in trained)
    assert all(row["calibration_drop_percent"] <= 2 for row in trained)
    figure = tmp_path / "m.svg"
    options = ("--cost", "joules", "--alpha", "0.7", "--c", "0.5", "--format", "json", "--plot", str(figure))
    kept = {row["router"]: row for row in json.loads(run("route", "mess-plus", file, *options).stdout)}
    assert kept["MESS+"]["satisfied"] > kept["small"]["satisfied"]
    assert kept["MESS+"]["mean_cost"] < kept["large"]["mean_cost"]
    assert figure.stat().st_size > 1_000


def test_a_day_of_traffic_is_replayed(file: str, tmp_path: Path) -> None:
    figure = tmp_path / "day.png"
    day = ("--cost", "joules", "--requests-per-day", "20000", "--router", "knn:20", "--format", "json")
    result = run("route", "replay", file, *day, "--servers", "small=1", "--servers", "middle=1", "--servers", "large=2",
                 "--plot", str(figure))  # fmt: skip
    rows = {row["strategy"]: row for row in json.loads(result.stdout)}
    assert list(rows) == ["cloud", "knn:20", "oracle"]
    assert rows["cloud"]["joules_saved"] == 0.0
    assert 0.3 < rows["knn:20"]["joules_saved"] < rows["oracle"]["joules_saved"] + 0.1
    assert rows["oracle"]["joules_of_oracle"] == 1.0
    assert all(row["mean_waiting_s"] >= 0 for row in rows.values())
    assert figure.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "column"),
    [
        (("solvability",), "solved"),
        (("coverage", "--by", "domain"), "covered"),
        (("efficiency",), "per_joule"),
        (("savings",), "saved"),
        (("failures", "--cost", "joules", "--router", "knn:20"), "oversized_percent"),
        (("pool",), "average_rank"),
    ],
)
def test_every_analysis_is_a_table_and_a_figure(
    words: tuple[str, ...], column: str, file: str, tmp_path: Path
) -> None:
    name, *options = words
    figure = tmp_path / "figure.png"
    shown = run("analyze", name, file, *options, "--format", "json", "--plot", str(figure))
    rows = json.loads(shown.stdout)
    assert rows
    assert all(column in row for row in rows)
    assert figure.read_bytes().startswith(b"\x89PNG")
    run("analyze", name, file, *options, "-o", str(tmp_path / "table.parquet"))
    assert column in pl.read_parquet(tmp_path / "table.parquet").columns


def test_the_report_is_one_file_that_needs_no_other(file: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    run("report", file, "--cost", "joules", "-o", str(page))
    text = page.read_text()
    for heading in (
        "Solvability",
        "Joint coverage",
        "Intelligence per joule",
        "Savings by size",
        "Routers by budget",
    ):
        assert f"<h2>{heading}" in text
    assert text.count("<svg") == 6
    # Names of SVG's own vocabulary and a link to a part of the same page are no references to other files.
    elsewhere = re.findall(r'(?:src|href)="(?!#|http://www\.w3\.org)[^"]*"', text)
    assert elsewhere == []


def test_a_report_says_what_the_outcomes_cannot_support(tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    pl.DataFrame({"query_id": ["a", "b"], "model_id": ["m", "m"], "correct": [1, 0]}).write_csv(bare)
    result = run("report", str(bare), "-o", str(tmp_path / "r.html"))
    assert "No routers in the report: " in result.output
    text = (tmp_path / "r.html").read_text()
    assert "Not shown: " in text
    assert "both a verdict and joules" in text


def test_negative_joules_are_refused_and_one_class_is_shown(tmp_path: Path) -> None:
    frame = long_form(topic_world(120))
    negative, ones = str(tmp_path / "n.parquet"), str(tmp_path / "o.parquet")
    frame.with_columns(joules=-pl.col("joules")).write_parquet(negative)
    frame.with_columns(correct=pl.lit(1.0)).write_parquet(ones)
    assert "negative numbers: `joules` in 360 rows" in run("analyze", "efficiency", negative, code=2).output
    # Every threshold serves: the one that is found is minus infinity, which once could not be printed.
    assert "-inf" in run("route", "hybrid", ones, "--cost", "joules").output
