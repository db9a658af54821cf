"""Labelling and cleaning by a judge behind a real endpoint, and by a classifier on real embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from harness_cli.dataset import dataset

from tests.analysis.evaluation.standin_judge import standin_judge

LAW, SUMS = "Legal services", "Computer and mathematical"
PRICE = {"input_per_mtok": 1.0, "output_per_mtok": 1.0}


def say(category: str) -> str:
    return json.dumps({"category": category})


class Desk:
    """A database with datasets, and a judges file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = f"sqlite:///{folder / 'h.db'}"

    def run(self, *arguments: str) -> Result:
        ran = CliRunner().invoke(dataset, arguments, env={"HARNESS_DB": self.database})
        assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
        return ran

    def imported(self, name: str, rows: list[dict[str, str]]) -> None:
        path = self.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert self.run("import", name, str(path)).exit_code == 0

    def judges(self, url: str, **more: Any) -> tuple[str, ...]:
        judge = {"name": "j", "base_url": url, "model": "m", "concurrency": 2, "backoff_s": 0.01, **more}
        path = self.folder / "judges.yaml"
        path.write_text(yaml.safe_dump({"judges": [judge]}))
        return ("--judge", "j", "--judges", str(path))

    def domains(self, name: str) -> list[str | None]:
        path = self.folder / "out.jsonl"
        assert self.run("export", name, "-o", str(path)).exit_code == 0
        return [json.loads(line).get("domain") for line in path.read_text().splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_judge_sorts_and_what_it_cannot_sort_keeps_no_domain(desk: Desk) -> None:
    asked = ["Is a will without witnesses valid?", "What is 3 + 4?", "Hello", "Is a will valid?", "Mumble"]
    desk.imported("mixed", [{"query": q, "domain": "old"} for q in asked])
    replies = [
        {"when": "will", "say": say(LAW)},
        {"when": "3 + 4", "say": say(SUMS.upper())},
        {"when": "Hello", "say": say("None")},
        {"when": "", "say": say("Wizardry")},
    ]
    with standin_judge(replies=replies) as url:
        ran = desk.run("label", "mixed", *desk.judges(url), "--format", "json")
    assert ran.exit_code == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["domains"] == {LAW: 2, SUMS: 1, "None": 1}
    assert (report["rows"], report["undecided"], report["by"]) == (5, 1, "judge:j")
    (reason,) = report["reasons"]
    assert "'Wizardry' is none of the categories" in reason
    assert desk.domains("mixed-labelled") == [LAW, SUMS, "None", LAW, None]
    assert desk.domains("mixed") == ["old"] * 5
    shown = json.loads(desk.run("show", "mixed-labelled", "--format", "json").stdout)
    assert (shown["parent"], shown["report"]["domains"]) == ("mixed", report["domains"])


def test_a_spent_budget_stores_nothing_and_going_on_pays_for_nothing_twice(desk: Desk) -> None:
    desk.imported("sums", [{"query": f"What is {i} + 1?"} for i in range(6)])
    with standin_judge(reply=say(SUMS)) as url:
        judge = desk.judges(url, price=PRICE, max_output_tokens=100)
        capped = desk.run("label", "sums", *judge, "--budget", "0.0028")
        assert capped.exit_code == 1
        assert "nothing was stored" in capped.stderr
        sent = int(capped.stderr.split(" asks were sent")[0].split()[-1])
        assert 0 < sent < 6
        assert desk.run("show", "sums-labelled").exit_code == 2
        whole = desk.run("label", "sums", *judge)
    assert f"{6 - sent} asks were sent now" in whole.stderr
    again = desk.run("label", "sums", *judge)
    assert (again.exit_code, "0 asks were sent now" in again.stderr) == (0, True)
    assert desk.domains("sums-labelled") == [SUMS] * 6


def test_equal_queries_are_asked_once(desk: Desk) -> None:
    desk.imported("same", [{"query": "What is 1 + 1?"}] * 5)
    with standin_judge(reply=say(SUMS)) as url:
        ran = desk.run("label", "same", *desk.judges(url))
    assert "1 asks were sent now" in ran.stderr
    assert "5 of 5 rows have a domain" in ran.stdout


def test_a_judge_that_is_not_there_stores_nothing(desk: Desk) -> None:
    desk.imported("sums", [{"query": "What is 1 + 1?"}])
    ran = desk.run("label", "sums", *desk.judges("http://127.0.0.1:1/v1", retries=0))
    assert ran.exit_code == 1
    assert "no row of sums got a domain; nothing was stored (the first reason: the connection" in ran.stderr


def test_a_judge_of_the_judges_file_cleans(desk: Desk) -> None:
    desk.imported("mixed", [{"query": q} for q in ("What is 1 + 1?", "asdf </div> {{", "Mumble")])
    replies = [
        {"when": "</div>", "say": '{"fault": "malformed"}'},
        {"when": "1 + 1", "say": '{"fault": "none"}'},
        {"when": "", "say": "I could not say."},
    ]
    skip = ("--skip", "near", "--skip", "english", "--skip", "reference")
    with standin_judge(replies=replies) as url:
        ran = desk.run("clean", "mixed", *skip, *desk.judges(url), "--format", "json")
    assert ran.exit_code == 0, ran.stderr
    step = json.loads(ran.stdout)["steps"][-1]
    assert (step["reasons"], step["undecided"], step["by"]) == ({"malformed": 1}, 1, "judge:j")
    assert "1 rows stay undecided and are kept" in ran.stderr
    with standin_judge(replies=replies) as url:
        capped = ("--budget", "0.000001", "--to", "capped")
        spent = desk.run("clean", "mixed", *skip, *desk.judges(url, price=PRICE, model="n"), *capped)
    assert (spent.exit_code, "nothing was stored" in spent.stderr) == (1, True)
    assert desk.run("show", "capped").exit_code == 2


def test_a_classifier_fills_what_has_no_domain(desk: Desk) -> None:
    crimes = (
        "theft",
        "fraud",
        "libel",
        "trespass",
        "perjury",
        "arson",
        "bribery",
        "assault",
        "forgery",
        "piracy",
    )
    law = [f"Which court hears a case of {crime}?" for crime in crimes]
    sums = [f"Multiply {i} by {i + 7} and add the digits." for i in range(3, 13)]
    rows = [{"query": q, "domain": d} for q, d in [*((q, LAW) for q in law), *((q, SUMS) for q in sums)]]
    desk.imported("part", [*rows, {"query": "Which court hears a case of burglary?"}])
    ran = desk.run("label", "part", "--classifier", "--min-confidence", "0.6", "--format", "json")
    assert ran.exit_code == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert (report["trained_rows"], report["predicted_rows"]) == (20, 1)
    assert report["cross_validated"]["accuracy"] >= 0.9
    assert desk.domains("part-labelled") == [*[LAW] * 10, *[SUMS] * 10, LAW]
    full = desk.run("label", "part-labelled", "--classifier")
    assert (full.exit_code, "has a domain already" in full.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "label by --judge JUDGE or by --classifier"),
        (("--judge", "j", "--classifier"), "one of them"),
        (("--judge", "j", "--train", "x"), "--train belongs to --classifier"),
        (("--classifier", "--budget", "1"), "--budget belongs to --judge"),
        (("--judge", "j", "--judges", "nowhere.yaml"), "there is no such judges file"),
        (("--classifier",), "no row has a domain to learn from"),
        (("--classifier", "--train", "one"), "a classifier needs two or more domains"),
        (("--classifier", "--train", "nope"), "no dataset is named 'nope'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(desk: Desk, arguments: tuple[str, ...], said: str) -> None:
    desk.imported("bare", [{"query": "What is 1 + 1?"}])
    desk.imported("one", [{"query": f"What is {i} + 1?", "domain": SUMS} for i in range(12)])
    ran = desk.run("label", "bare", *arguments)
    assert (ran.exit_code, said in ran.stderr) == (2, True), ran.stderr
    assert desk.run("show", "bare-labelled").exit_code == 2
