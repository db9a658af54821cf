"""Runs from offer to end, lost and found again; generations and measurements beside them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness_store import evaluations, events, fleet, generations, jobs, leases, measurements, runs
from harness_store.chunk_times import decode_times, encode_times
from harness_store.database import Store
from harness_store.errors import UnknownRunError
from harness_store.models import Evaluation, Measurement, RunEnergy, TaskHost
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from tests.store.worlds import NOW, S, insert_run, new_job, query_rows, register, run_to_its_end, sources


def _start(c: Connection, **job: object) -> str:
    register(c)
    fleet.upsert_sources(c, "a1", sources("g"))
    job_id = jobs.insert_job(c, new_job(**job), query_rows(3)).job_id  # type: ignore[arg-type]
    insert_run(c, job_id)
    return job_id


def _started(c: Connection, run_id: str = "r1", agent_id: str = "a1", settings_json: str = "{}") -> bool:
    return runs.mark_started(
        c, run_id=run_id, agent_id=agent_id, boot_id="b1", clock_id="c1", start_ns=100, source_ids=["g"],
        host_source_ids=["cpu"], engine="stub", engine_version="2", settings_json=settings_json,
    )  # fmt: skip


def _over(c: Connection, state: str = "ended") -> None:
    runs.mark_over(c, run_id="r1", state=state, end_ns=900, reason=None, now_ns=NOW + 9 * S)


def _hold_one(c: Connection, job_id: str) -> leases.LeasedTask:
    (task,) = leases.lease_tasks(
        c, job_id=job_id, model_id="m0", hardware_index=0, run_id="r1", agent_id="a1", limit=1,
        expires_realtime_ns=NOW + 20 * S, now_ns=NOW,
    )  # fmt: skip
    return task


def test_a_run_is_noted_from_its_start_to_its_end(store: Store) -> None:
    with store.begin() as c:
        _start(c)
        assert _started(c)
        assert [r.run_id for r in runs.active_runs(c, ["a1", "a2"])] == ["r1"]
        runs.mark_ready(c, run_id="r1", ready_ns=200, load_s=1.25, facts_json='{"layers": "2"}')
        for _ in range(2):
            runs.add_baseline(c, run_id="r1", start_ns=210, end_ns=310)
        runs.add_baseline(c, run_id="r1", start_ns=800, end_ns=890)
        assert runs.pending_energy(c) == []
        _over(c)
        run = runs.get_run(c, "r1")
        assert (run.state, run.start_ns, run.ready_ns, run.end_ns, run.load_s) == (
            "ended",
            100,
            200,
            900,
            1.25,
        )
        assert (json.loads(run.source_ids_json or ""), json.loads(run.host_source_ids_json or "")) == (
            ["g"],
            ["cpu"],
        )
        assert (run.last_ns, run.over_realtime_ns) == (890, NOW + 9 * S)
        assert runs.baselines(c, "r1") == [(210, 310), (800, 890)]
        assert [r.run_id for r in runs.pending_energy(c)] == ["r1"]
        assert runs.active_runs(c, ["a1"]) == []
        with pytest.raises(UnknownRunError, match="no run 'r9'"):
            runs.get_run(c, "r9")


def test_another_agent_cannot_start_a_run(store: Store) -> None:
    with store.begin() as c:
        _start(c)
        register(c, "a2")
        assert not _started(c, agent_id="a2")
        assert not _started(c, run_id="r9")
        assert runs.get_run(c, "r1").state == "leased"


def test_settings_that_are_no_json_do_not_break_the_results(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c)
        assert _started(c, settings_json="")
        runs.mark_ready(c, run_id="r1", ready_ns=200, load_s=None, facts_json="[broken")
        run = runs.get_run(c, "r1")
        assert (run.settings_json, run.facts_json) == (None, None)
        run_to_its_end(c, job_id)


def test_a_job_without_energy_waits_for_none(store: Store) -> None:
    with store.begin() as c:
        _start(c, energy="off")
        _started(c)
        _over(c)
        assert runs.get_run(c, "r1").energy_state == "none"
        assert runs.pending_energy(c) == []


def test_a_run_of_a_lost_agent_is_lost_and_on_again_when_it_is_heard_of(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c)
        _started(c)
        assert not runs.mark_lost(c, now_ns=NOW)
        fleet.mark_lost(c, older_than_ns=NOW + 1)
        lost = runs.mark_lost(c, now_ns=NOW + S)
        assert (lost.run_ids, lost.jobs) == (("r1",), {job_id})
        assert [r.run_id for r in runs.pending_energy(c)] == ["r1"]
        measurements.replace_run_energy(c, measurements.RunEnergyRows("r1", final=True), now_ns=NOW)
        assert runs.pending_energy(c) == []
        fleet.heartbeat(c, agent_id="a1", boot_id="b1", now_ns=NOW + 2 * S)
        runs.set_watermark(c, "r1", 500)
        run = runs.get_run(c, "r1")
        assert (run.state, run.watermark_ns, run.energy_state, run.over_realtime_ns) == (
            "ready",
            500,
            "pending",
            None,
        )
        assert not runs.mark_lost(c, now_ns=NOW + 3 * S)
        _over(c)
        assert [r.run_id for r in runs.pending_energy(c)] == ["r1"]


def test_the_end_of_a_lost_run_that_comes_late_is_taken(store: Store) -> None:
    with store.begin() as c:
        _start(c)
        _started(c)
        fleet.mark_lost(c, older_than_ns=NOW + 1)
        runs.mark_lost(c, now_ns=NOW + S)
        measurements.replace_run_energy(c, measurements.RunEnergyRows("r1", final=True), now_ns=NOW)
        _over(c)
        run = runs.get_run(c, "r1")
        assert (run.state, run.end_ns, run.energy_state) == ("ended", 900, "pending")
        measurements.replace_run_energy(c, measurements.RunEnergyRows("r1", final=True), now_ns=NOW)
        _over(c, "failed")
        assert runs.get_run(c, "r1").state == "ended"


def test_an_end_said_twice_does_not_start_the_computation_again(store: Store) -> None:
    with store.begin() as c:
        _start(c)
        _started(c)
        _over(c)
        measurements.replace_run_energy(c, measurements.RunEnergyRows("r1", final=True), now_ns=NOW)
        _over(c)
        assert runs.get_run(c, "r1").energy_state == "final"


def test_a_run_of_an_earlier_process_is_lost_once_its_tasks_are_back(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c)
        _started(c)
        _hold_one(c, job_id)
        register(c, boot_id="b2")
        assert not runs.mark_lost(c, now_ns=NOW + S)
        leases.release_older_boots(c, "a1", "b2", now_ns=NOW)
        assert runs.mark_lost(c, now_ns=NOW + S).run_ids == ("r1",)


def test_an_offer_that_never_arrived_is_given_up(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c)
        task = _hold_one(c, job_id)
        assert not runs.mark_lost(c, now_ns=NOW + 60 * S)
        leases.release(c, task_id=task.task_id, attempt=1, agent_id="a1", run_id="r1", now_ns=NOW)
        assert not runs.mark_lost(c, now_ns=NOW + S)
        assert runs.mark_lost(c, now_ns=NOW + 60 * S).run_ids == ("r1",)
        runs.delete_run(c, "r1")
        assert runs.get_run(c, "r1").state == "lost"


def test_an_offer_that_was_not_made_leaves_no_run(store: Store) -> None:
    with store.begin() as c:
        _start(c)
        runs.delete_run(c, "r1")
        with pytest.raises(UnknownRunError):
            runs.get_run(c, "r1")


@given(st.lists(st.integers(0, 2**62)))
def test_chunk_times_come_back_exactly(times: list[int]) -> None:
    assert decode_times(encode_times(times)).tolist() == times


def test_a_thousand_chunk_times_take_few_bytes() -> None:
    assert len(encode_times(list(range(0, 1000 * 11_000_000, 11_000_000))) or b"") < 100


def _generation(**more: Any) -> generations.NewGeneration:
    fields: dict[str, Any] = {
        "task_id": "t", "attempt": 1, "run_id": "r1", "agent_id": "a1", "boot_id": "b1", "query_id": "q0",
        "warmup": False, "counted": True, "start_ns": 10, "end_ns": 20, "received_realtime_ns": NOW,
    }  # fmt: skip
    return generations.NewGeneration(**{**fields, **more})


def test_every_attempt_is_kept_and_the_first_report_of_it_stays(store: Store) -> None:
    with store.begin() as c:
        assert generations.record_generation(c, _generation(counted=False, error="engine crashed"))
        assert generations.record_generation(c, _generation(attempt=2, start_ns=5))
        assert generations.record_generation(
            c, _generation(task_id="warmup/r1/0", warmup=True, counted=False)
        )
        assert not generations.record_generation(c, _generation(attempt=2, response="another"))
        found = generations.run_queries(c, "r1")
    assert [(q.task_id, q.attempt, q.counted) for q in found] == [
        ("t", 2, True), ("t", 1, False), ("warmup/r1/0", 1, False),
    ]  # fmt: skip
    assert found[0].first_token_ns is None
    assert found[0].output_tokens is None


def test_computing_a_run_again_replaces_its_rows_and_no_others(store: Store) -> None:
    with store.begin() as c:
        first = _start(c)
        kept = run_to_its_end(c, first)
        second = jobs.insert_job(c, new_job("s2"), query_rows(3)).job_id
        redone = run_to_its_end(c, second)

        def rows() -> dict[str, list[Any]]:
            return {
                m.__tablename__: sorted(tuple(r) for r in c.execute(select(*m.__table__.columns)))
                for m in (Measurement, RunEnergy, TaskHost)
            }

        everything = rows()
        task = c.execute(select(Measurement.task_id).where(Measurement.run_id == redone)).scalars().first()
        smaller = measurements.RunEnergyRows(redone, final=False, reason="g2 sent no samples")
        smaller.sources.append(
            measurements.NewRunEnergy("g", "primary", "gpu", "power", "m", "time", 1.0, 1.0, 0.0)
        )
        smaller.queries.append(
            measurements.NewMeasurement(
                str(task), 1, "g", "primary", "gpu", "power", "m", "time", float("nan")
            )
        )
        for _ in range(2):
            measurements.replace_run_energy(c, smaller, now_ns=NOW)
        again = rows()
        assert len(again["measurements"]) == 3 + 1
        assert [r for r in again["measurements"] if kept in r] == [
            r for r in everything["measurements"] if kept in r
        ]
        assert len(again["task_host"]) == 3
        assert c.execute(select(Measurement.joules).where(Measurement.run_id == redone)).scalars().all() == [
            None
        ]
        run = runs.get_run(c, redone)
        assert (run.energy_state, run.energy_reason) == ("provisional", "g2 sent no samples")


def test_a_run_no_source_of_which_could_be_used_has_failed_energy(store: Store) -> None:
    with store.begin() as c:
        _start(c)
        rows = measurements.RunEnergyRows("r1", final=True, reason="g sent no samples")
        measurements.replace_run_energy(c, rows, now_ns=NOW)
        assert runs.get_run(c, "r1").energy_state == "failed"


def test_totals_name_each_source_with_what_it_used(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c)
        run_to_its_end(c, job_id)
        (total,) = runs.source_totals(c, job_id)
        summary = jobs.job_summary(c, job_id)
    assert (total.agent, total.source_id, total.device_name) == ("box-a1", "g", "NVIDIA H200")
    assert total.attributed_joules + total.unattributed_joules == total.device_joules == 38.0
    assert (total.baseline_w, total.alpha) == (41.0, None)
    assert summary.joules == total.attributed_joules


def test_a_verdict_is_replaced_by_a_later_one_of_its_method(store: Store) -> None:
    with store.begin() as c:
        job_id = _start(c)
        task_id = f"{job_id}-0"
        asked = evaluations.asked_of_task(c, task_id)
        assert asked is not None
        assert (asked.method, asked.reference, asked.text) == ("exact_match", "1", "What is 0 + 1?")
        assert evaluations.asked_of_task(c, "no such task") is None
        for correct in (True, None, False):
            evaluations.record(c, task_id=task_id, attempt=1, method="exact_match", correct=correct)
            assert c.execute(select(Evaluation.correct)).scalars().all() == [correct]


def test_events_are_listed_newest_first_and_by_job(store: Store) -> None:
    with store.begin() as c:
        for i in range(3):
            events.add(c, kind=f"k{i}", job_id="j" if i else None, at_realtime_ns=NOW + i)
        assert [e.kind for e in events.recent(c)] == ["k2", "k1", "k0"]
        assert [e.kind for e in events.recent(c, job_id="j", limit=1)] == ["k2"]
