"""Verdicts after the fact: which attempts take one, which method is official, what judges said."""

from __future__ import annotations

import pytest
from harness_store import jobs, judgements, judging, leases, results
from harness_store.database import Store
from harness_store.errors import UnknownJobError, UnknownMethodError
from harness_store.judgements import JudgementRow
from harness_store.judging import NewVerdict
from sqlalchemy import Connection

from tests.store.worlds import NOW, S, insert_run, new_job, query_rows, register, run_to_its_end


def _judged(c: Connection) -> str:
    register(c)
    job_id = jobs.insert_job(c, new_job(), query_rows(3)).job_id
    run_to_its_end(c, job_id, responses=["1", "2", "9"])
    return job_id


def test_answers_carry_what_a_judge_needs(store: Store) -> None:
    with store.begin() as c:
        job_id = _judged(c)
    with store.read() as c:
        rows = judging.answers_table(c, job_id).to_pylist()
        assert [(r["query"], r["reference"], r["response"]) for r in rows][2] == ("What is 2 + 1?", "3", "9")
        job = judging.judged_job(c, job_id)
        assert (job.official, job.tasks, job.answered) == ("exact_match", 3, 3)
        with pytest.raises(UnknownJobError, match="no job 'nowhere'"):
            judging.judged_job(c, "nowhere")


def test_a_verdict_on_an_attempt_that_does_not_count_is_refused(store: Store) -> None:
    with store.begin() as c:
        job_id = _judged(c)
        other = jobs.insert_job(c, new_job("s2"), query_rows(2)).job_id
        insert_run(c, other, "r2")
        (held,) = leases.lease_tasks(
            c, job_id=other, model_id="m0", hardware_index=0, run_id="r2", agent_id="a1", limit=1,
            expires_realtime_ns=NOW + S, now_ns=NOW,
        )  # fmt: skip
        good, late, unknown = f"{job_id}-0", f"{job_id}-1", "nobody"
        new = [NewVerdict(good, 1, True), NewVerdict(late, 2, True), NewVerdict(unknown, 1, True)]
        refused = judging.record_verdicts(c, job_id, "judge:a", new, now_ns=NOW)
        assert refused == [(late, 2), (unknown, 1)]
        # Neither one of another job, nor one that is still worked on.
        assert judging.record_verdicts(c, other, "judge:a", [NewVerdict(good, 1, True)], now_ns=NOW)
        assert judging.record_verdicts(c, other, "judge:a", [NewVerdict(held.task_id, 1, True)], now_ns=NOW)
        rows = judging.verdicts_table(c, job_id).to_pylist()
        assert [r["task"] for r in rows if r["method"] == "judge:a"] == [good]


def test_a_method_becomes_official_and_its_verdicts_the_results_correct(store: Store) -> None:
    with store.begin() as c:
        job_id = _judged(c)
        assert results.results_table(c, job_id)["correct"].to_pylist() == [True, True, False]
        new = [
            NewVerdict(f"{job_id}-0", 1, False, -1.5),
            NewVerdict(f"{job_id}-1", 1, None, None, "it would not say"),
            NewVerdict(f"{job_id}-2", 1, True, float("nan")),
        ]
        for _ in range(2):
            assert judging.record_verdicts(c, job_id, "judge:a", new, now_ns=NOW) == []
        with pytest.raises(UnknownMethodError, match="exact_match, judge:a"):
            judging.use_method(c, job_id, "judge:b")
        assert judging.use_method(c, job_id, "judge:a") == 3
        table = results.results_table(c, job_id)
        assert table["correct"].to_pylist() == [False, None, True]
        assert table["score"].to_pylist() == [-1.5, None, None]
        rows = judging.verdicts_table(c, job_id).to_pylist()
        assert len(rows) == 6
        assert {r["method"]: r["official"] for r in rows} == {"exact_match": False, "judge:a": True}
        assert rows[4]["reason"] == "it would not say"
        # What the database sums up is what its rows say.
        (count,) = judging.verdict_counts(c, job_id, "judge:a")
        assert (count.model_id, count.answers, count.judged, count.right) == ("m0", 3, 2, 1)
        assert judging.verdict_counts(c, job_id, "judge:b") == []


def test_what_a_judge_said_is_kept_once(store: Store) -> None:
    row = JudgementRow("h1", "a", "m", "pairwise", "answer-first", "raw\x00text", 10, 5, 0.25, None, NOW)
    with store.begin() as c:
        assert judgements.keep(c, [row]) == 1
        assert judgements.keep(c, [row]) == 0
        found = judgements.find(c, ["h1", "h2"])
    assert list(found) == ["h1"]
    assert (found["h1"].cost_usd, found["h1"].seconds, found["h1"].raw) == (0.25, None, "raw\u2400text")
