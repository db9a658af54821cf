"""Jobs: submission, expansion, completion, retry; datasets."""

from __future__ import annotations

import itertools

import pytest
from harness_store import datasets, jobs, leases, measurements, runs
from harness_store.database import Store
from harness_store.errors import DuplicateDatasetError, UnknownDatasetError, UnknownJobError
from harness_store.models import Dataset, Model, Query, Task
from sqlalchemy import Connection, func, select

from tests.store.worlds import NOW, S, new_job, query_rows, register, run_to_its_end


def _count(c: Connection, model: type) -> int:
    return c.execute(select(func.count()).select_from(model)).scalar_one()


def test_a_job_is_queries_times_models_times_hardware_times_repetitions(store: Store) -> None:
    with store.begin() as c:
        inserted = jobs.insert_job(c, new_job(models=2, hardware_count=3, repetitions=2), query_rows(5))
        assert inserted.tasks == 60
        rows = c.execute(select(Task.query_id, Task.model_id, Task.hardware_index, Task.repetition)).all()
        expected = itertools.product([f"q{i}" for i in range(5)], ["m0", "m1"], range(3), range(2))
        assert sorted(tuple(r) for r in rows) == sorted(expected)
        assert sorted(c.execute(select(Task.ordinal)).scalars()) == list(range(60))


def test_a_submission_that_is_sent_again_is_the_same_job(store: Store) -> None:
    with store.begin() as c:
        first = jobs.insert_job(c, new_job("same", models=2), query_rows(3))
    with store.begin() as c:
        again = jobs.insert_job(c, new_job("same", models=2), query_rows(3))
        assert (again.job_id, again.tasks, again.is_new) == (first.job_id, 6, False)
        other = jobs.insert_job(c, new_job("other", models=2), query_rows(3))
        assert other.job_id != first.job_id
        # The same queries and models are stored once.
        assert (_count(c, Dataset), _count(c, Query), _count(c, Model)) == (1, 3, 2)
        assert _count(c, Task) == 12


def test_job_ids_sort_by_time() -> None:
    ids = [jobs.new_job_id(NOW + i * 2_000_000) for i in range(200)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 200
    assert {len(i) for i in ids} == {11}


def test_submissions_of_one_millisecond_get_ids_of_their_own(store: Store) -> None:
    """Three characters of chance: among 600 of one moment two meet all but surely."""
    with store.begin() as c:
        made = [jobs.insert_job(c, new_job(f"s{i}"), query_rows(1)).job_id for i in range(600)]
    assert len(set(made)) == 600


def test_a_job_may_use_the_first_queries_of_an_imported_dataset(store: Store) -> None:
    with store.begin() as c:
        datasets.store_rows(c, query_rows(9), origin="file.jsonl", now_ns=NOW, name="sums")
        inserted = jobs.insert_job(c, new_job(dataset_name="sums", dataset_limit=4))
        assert inserted.tasks == 4
        assert [q.query_id for q in jobs.first_queries(c, inserted.job_id, 99)] == ["q0", "q1", "q2", "q3"]
        assert [q.text for q in jobs.first_queries(c, inserted.job_id, 1)] == ["What is 0 + 1?"]
        datasets.store_rows(c, query_rows(9), origin="file.jsonl", now_ns=NOW, name="sums")
        with pytest.raises(DuplicateDatasetError, match="'sums' exists with other queries"):
            datasets.store_rows(c, query_rows(8), origin="file.jsonl", now_ns=NOW, name="sums")
        with pytest.raises(UnknownDatasetError, match=r"no dataset is named 'sum' \(sums\)"):
            jobs.insert_job(c, new_job("s2", dataset_name="sum"))


def test_a_job_needs_queries_with_ids_of_their_own(store: Store) -> None:
    with store.begin() as c:
        with pytest.raises(ValueError, match="at least one query"):
            jobs.insert_job(c, new_job())
        with pytest.raises(ValueError, match="'q0' is there twice"):
            jobs.insert_job(c, new_job(), query_rows(1) + query_rows(1))
        assert jobs.job_summaries(c) == []


def test_a_job_is_over_when_its_tasks_and_its_energy_are(store: Store) -> None:
    with store.begin() as c:
        register(c)
        job_id = jobs.insert_job(c, new_job(), query_rows(2)).job_id
        assert jobs.finish_if_complete(c, job_id, NOW) is None
        run_id = run_to_its_end(c, job_id)
        measurements.replace_run_energy(c, measurements.RunEnergyRows(run_id, final=False), now_ns=NOW)
        assert jobs.finish_if_complete(c, job_id, NOW) is None
        measurements.replace_run_energy(c, measurements.RunEnergyRows(run_id, final=True), now_ns=NOW)
        assert jobs.finish_if_complete(c, job_id, NOW + S) == "done"
        assert jobs.finish_if_complete(c, job_id, NOW + S) is None
        assert jobs.job_summary(c, job_id).finished_realtime_ns == NOW + S


def test_failed_tasks_fail_the_job_and_a_retry_opens_both(store: Store) -> None:
    with store.begin() as c:
        register(c)
        job_id = jobs.insert_job(c, new_job(energy="off", max_attempts=1), query_rows(2)).job_id
        runs.insert_run(
            c, run_id="r1", job_id=job_id, model_id="m0", hardware_index=0, agent_id="a1", boot_id="b1",
            device_ids=[], created_realtime_ns=NOW,
        )  # fmt: skip
        lease = {"job_id": job_id, "model_id": "m0", "hardware_index": 0, "run_id": "r1", "agent_id": "a1"}
        bad, good = leases.lease_tasks(c, **lease, limit=2, expires_realtime_ns=NOW + S, now_ns=NOW)
        fence = {"agent_id": "a1", "run_id": "r1", "now_ns": NOW, "attempt": 1}
        leases.complete(c, task_id=good.task_id, **fence)
        leases.fail(c, task_id=bad.task_id, **fence, reason="no", retryable=True)
        assert jobs.finish_if_complete(c, job_id, NOW) is None, "the run is still on"
        runs.mark_over(c, run_id="r1", state="ended", end_ns=5, reason=None)
        assert jobs.finish_if_complete(c, job_id, NOW) == "failed"
        (failed,) = jobs.failed_tasks(c, job_id)
        assert (failed.task_id, failed.attempt, failed.reason) == (bad.task_id, 1, "no")
        assert jobs.retry_job(c, job_id, now_ns=NOW) == 1
        summary = jobs.job_summary(c, job_id)
        assert (summary.state, summary.ready, summary.done, summary.finished_realtime_ns) == (
            "active",
            1,
            1,
            None,
        )
        (again,) = leases.lease_tasks(c, **lease, limit=2, expires_realtime_ns=NOW + S, now_ns=NOW)
        assert (again.task_id, again.attempt) == (bad.task_id, 2)
        leases.complete(c, task_id=again.task_id, **{**fence, "attempt": 2})
        assert jobs.finish_if_complete(c, job_id, NOW) == "done"


def test_a_query_may_hold_any_character(store: Store) -> None:
    strange = "a\x00b \u2028 \U0001f600 '; DROP TABLE jobs; -- % %s ?"
    with store.begin() as c:
        job_id = jobs.insert_job(c, new_job(), [datasets.QueryRow("q", 0, strange, domain="\x00")]).job_id
        (row,) = jobs.first_queries(c, job_id, 1)
    assert row.text == strange.replace("\x00", "\u2400")


def test_an_unknown_job_is_an_error_everywhere(store: Store) -> None:
    with store.begin() as c:
        for call in (
            lambda: jobs.job_summary(c, "nope"),
            lambda: jobs.spec_json(c, "nope"),
            lambda: jobs.first_queries(c, "nope", 1),
            lambda: jobs.cancel_job(c, "nope", now_ns=NOW),
            lambda: jobs.retry_job(c, "nope", now_ns=NOW),
        ):
            with pytest.raises(UnknownJobError, match="no job 'nope'"):
                call()


def test_jobs_are_listed_newest_first(store: Store) -> None:
    with store.begin() as c:
        ids = [
            jobs.insert_job(c, new_job(f"s{i}", submitted_realtime_ns=NOW + i * S), query_rows(1)).job_id
            for i in range(3)
        ]
        assert [s.job_id for s in jobs.job_summaries(c)] == ids[::-1]
        assert [s.job_id for s in jobs.job_summaries(c, limit=1)] == [ids[2]]
