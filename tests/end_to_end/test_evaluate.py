"""`harness evaluate` and `harness judges` with real coordinator, agent, engine and judge processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness_analysis import connect

from tests.analysis.evaluation.standin_judge import pairwise, standin_judge
from tests.end_to_end.conftest import write_job
from tests.end_to_end.harness_processes import HARNESS, Harness, wait_for

pytestmark = pytest.mark.timeout(360)


def write_judges(folder: Path, *judges: dict[str, Any]) -> str:
    path = folder / "judges.yaml"
    path.write_text(yaml.safe_dump({"judges": list(judges)}))
    return str(path)


def endpoint(name: str, url: str, **more: Any) -> dict[str, Any]:
    plain = {"name": name, "base_url": url, "model": f"model-{name}", "backoff_s": 0.05, "concurrency": 2}
    return {**plain, "price": {"input_per_mtok": 1.0, "output_per_mtok": 1.0}, **more}


def finished_job(fleet: Harness, folder: Path, **changes: Any) -> str:
    job_id = fleet.submit(write_job(folder, baseline_s=0.05, **changes))
    assert fleet.wait_until_over(job_id)["summary"]["state"] == "done"
    return job_id


def model(name: str, reply: str) -> dict[str, Any]:
    return {"id": name, "engine": "stub", "device": "cpu", "engine_args": {"reply": reply}}


def test_judges_a_majority_people_and_the_official_verdict(fleet: Harness, tmp_path: Path) -> None:
    models = [model("good", "four"), model("bad", "five")]
    job_id = finished_job(fleet, tmp_path, models=models, queries=3, evaluation={"method": "judge"})
    assert {row["correct"] for row in fleet.results(job_id)} == {None}
    fair = [
        {"when": "<answer_a>\nfive", "say": pairwise("B>>A")},
        {"when": "<answer_b>\nfive", "say": pairwise("A>>B")},
        {"when": "", "say": pairwise("A=B")},
    ]
    with standin_judge(replies=fair) as a, standin_judge(reply=pairwise("A>B")) as b:
        lax = endpoint("lax", b)
        judges = write_judges(
            tmp_path, endpoint("fair", a), lax, endpoint("mute", b, timeout_s=5), endpoint("x", a)
        )
        one = fleet.rows("evaluate", job_id, "--judges", judges, "--judge", "fair")
        assert {(r["model_id"], r["judged"], r["right"], r["orders_disagree"]) for r in one} == {
            ("good", 3, 3, 0),
            ("bad", 3, 0, 0),
        }
        # The job asked for a judge: the first one's verdicts are its `correct`.
        found = {(r["model_id"], r["correct"]) for r in fleet.results(job_id)}
        assert found == {("good", True), ("bad", False)}
        two = fleet.rows("evaluate", job_id, "--judges", judges, "--judge", "lax", "--judge", "x")
        biased = next(r for r in two if (r["method"], r["model_id"]) == ("judge:lax", "bad"))
        assert (biased["right"], biased["orders_disagree"], biased["first_gains"]) == (3, 3, 3)
    # Both endpoints are gone: everything comes from what was kept.
    again = fleet.call("evaluate", job_id, "--judges", judges, "--judge", "fair", check=True)
    assert "0 asks were sent now" in again.stderr
    table = {r["judge"]: r for r in fleet.rows("judges", "agreement", job_id)}
    assert (table["judge:fair"]["agreement"], table["judge:lax"]["agreement"]) == (1.0, 0.5)
    fleet.call("judges", "majority", job_id, "--use", check=True)
    assert {r["model_id"] for r in fleet.results(job_id) if r["correct"]} == {"good"}
    sample = tmp_path / "sample.csv"
    fleet.call("judges", "export", job_id, "-o", str(sample), "--count", "4", check=True)
    labelled = list(csv.DictReader(sample.read_text().splitlines()))
    with sample.open("w", newline="") as file:
        writer = csv.DictWriter(file, labelled[0])
        writer.writeheader()
        for row in labelled:
            writer.writerow({**row, "label": "right" if row["answer"] == "four" else "wrong"})
        writer.writerow({**labelled[0], "id": "unknown", "label": "right"})
    done = fleet.call("judges", "import", job_id, str(sample), "--name", "anna")
    assert done.returncode == 1
    assert "4 labels stored as human:anna" in done.stdout
    assert "line 6: `id`: 'unknown' is no answer" in done.stderr
    people = fleet.rows("judges", "agreement", job_id, "--of", "human:anna", "--of", "judge:fair")
    assert (people[0]["items"], people[0]["agreement"]) == (4, 1.0)
    verdicts = connect(fleet.database).verdicts(job_id).to_polars()
    assert verdicts.filter(verdicts["official"])["method"].unique().to_list() == ["majority"]


def test_a_budget_stops_cleanly_and_a_kill_costs_nothing_twice(fleet: Harness, tmp_path: Path) -> None:
    job_id = finished_job(fleet, tmp_path, queries=8)
    others = _judgements(fleet)
    with standin_judge(reply=pairwise("A=B"), first_token_s=0.3) as url:
        judges = write_judges(tmp_path, endpoint("j", url, concurrency=1, max_output_tokens=500))
        base = ("evaluate", job_id, "--judges", judges, "--judge", "j")
        # One ask costs some 300 + 5 words; what it may cost at most, some 3,000 bytes and 500 tokens, must fit.
        capped = fleet.call(*base, "--budget", "0.004")
        assert capped.returncode == 1
        assert "the budget of 0.004 USD is spent" in capped.stderr
        environment = {**os.environ, "HARNESS_COORDINATOR": fleet.address}
        with subprocess.Popen([*HARNESS, *base], env=environment, stderr=subprocess.DEVNULL) as killed:
            kept = _judgements(fleet)
            wait_for(lambda: _judgements(fleet) > kept + 1, "some more replies are kept")
            killed.send_signal(signal.SIGKILL)
        before = _judgements(fleet) - others
        assert before < 16
        done = fleet.call(*base, check=True)
        asked = int(done.stderr.partition(" asks were sent now")[0].split()[-1])
    # A reply that was kept between the count and the kill is none that is asked again.
    assert asked <= 16 - before
    assert _judgements(fleet) - others == 16
    assert len(fleet.rows(*base)) == 1


def _judgements(fleet: Harness) -> int:
    from sqlalchemy import text

    store = connect(fleet.database)
    with store.store.read() as c:
        count = c.execute(text("SELECT count(*) FROM judgements")).scalar_one()
    store.close()
    return int(count)


def test_a_fleet_model_judges_with_joules_of_its_own(fleet: Harness, tmp_path: Path) -> None:
    job_id = finished_job(fleet, tmp_path, queries=3)
    joules = fleet.job(job_id)["summary"]["joules"]
    say = {
        "engine": "stub",
        "device": "cpu",
        "engine_args": {"reply": '{"correct": true}', "burn": True, "first_token_s": 0.3},
    }
    prose = {
        "engine": "stub",
        "device": "cpu",
        "engine_args": {"reply": "I like it.", "burn": True, "first_token_s": 0.3},
    }
    policy = {"energy": "estimated-ok", "baseline_s": 0.05}
    jobs_before = len(fleet.rows("jobs"))
    judges = write_judges(
        tmp_path,
        {"name": "local", "fleet": {"model": {"id": "judge-model", **say}, **policy}},
        {"name": "chatty", "fleet": {"model": {"id": "chatty-model", **prose}, **policy}},
    )
    base = ("evaluate", job_id, "--judges", judges, "--form", "true_false", "--judge")
    done = fleet.call(*base, "local", "--format", "json", check=True)
    (row,) = json.loads(done.stdout)
    assert (row["judged"], row["right"], row["undecided"]) == (3, 3, 0)
    assert "none of it is part of job" in done.stderr
    fleet.call(*base, "local", check=True)
    chatty = fleet.call(*base, "chatty", "--format", "json", check=True)
    (row,) = json.loads(chatty.stdout)
    assert (row["judged"], row["undecided"]) == (0, 3)
    assert "3 replies were no JSON and are asked for once more" in chatty.stderr
    jobs = fleet.rows("jobs")
    # One job of judging however often it was asked for, two of the one that had to be asked twice.
    assert len(jobs) - jobs_before == 3
    assert fleet.job(job_id)["summary"]["joules"] == joules
    judging = next(j for j in jobs if j["name"].startswith("judge-local"))
    assert judging["joules"] > 0
    assert {row["correct"] for row in fleet.results(judging["job"])} == {None}


def test_rules_at_ingest_and_afterwards_and_code_only_by_name(fleet: Harness, tmp_path: Path) -> None:
    job_id = finished_job(
        fleet,
        tmp_path,
        queries=2,
        models=[model("m", "It is 3.2")],
        evaluation={"method": "numeric", "absolute_tolerance": 0.2},
    )
    assert {row["correct"] for row in fleet.results(job_id)} == {None}, "the reference is a word"
    direct = fleet.call("evaluate", job_id, "--method", "exact_match", "--use", "--db", fleet.database)
    assert direct.returncode == 0, direct.stderr
    assert [row["correct"] for row in fleet.results(job_id)] == [False, False]
    code = fleet.rows("evaluate", job_id, "--method", "code")
    assert (code[0]["judged"], code[0]["right"]) == (2, 0)
    for arguments, said in (
        (("evaluate", "nojob"), "there is no job 'nojob'"),
        (("evaluate", job_id, "--method", "numeric", "--budget", "1"), "belong to --method judge"),
        (("evaluate", job_id, "--method", "exact_match", "--absolute-tolerance", "1"), "a tolerance belongs"),
        (("evaluate", job_id, "--judge", "x", "--judges", str(tmp_path / "no.yaml")), "no such judges file"),
        (("judges", "agreement", job_id), "agreement needs two"),
        (("judges", "import", job_id, str(tmp_path / "no.csv"), "--name", "a"), "no such label file"),
    ):
        wrong = fleet.call(*arguments)
        assert wrong.returncode == 2, (arguments, wrong.stderr)
        assert said in wrong.stderr


def test_references_are_compared_on_the_same_answers(fleet: Harness, tmp_path: Path) -> None:
    models = [model("good", "four"), model("bad", "five"), model("teacher", "six")]
    job_id = finished_job(fleet, tmp_path, models=models, queries=2)
    replies = [
        {"when": "<reference>\nsix\n</reference>\n\n<response>\nfour", "say": '{"correct": true}'},
        {"when": "", "say": '{"correct": false}'},
    ]
    with standin_judge(replies=replies) as url:
        judges = write_judges(tmp_path, endpoint("j", url))
        base = ("evaluate", job_id, "--judges", judges, "--judge", "j", "--form", "true_false")
        fleet.call(*base, check=True)
        fleet.call(*base, "--reference-model", "teacher", check=True)
    table = {r["reference"]: r for r in fleet.rows("judges", "references", job_id, "--judge", "j")}
    assert (table["teacher"]["good"], table["teacher"]["bad"], table["teacher"]["coverage"]) == (
        1.0,
        0.0,
        1.0,
    )
    assert (table["the dataset's"]["coverage"], table["teacher"]["difference_pp"]) == (0.0, 100.0)
