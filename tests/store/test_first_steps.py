"""One task's way through the store."""

from __future__ import annotations

import numpy as np
from harness_store import events, fleet, generations, jobs, leases, measurements, runs, segments
from harness_store.database import Store

from tests.store.worlds import NOW, S, insert_run, new_job, query_rows, register


def test_a_task_goes_from_submission_to_joules(store: Store) -> None:
    with store.begin() as c:
        register(c)
        job_id = jobs.insert_job(c, new_job(), query_rows(2)).job_id
        (group,) = leases.ready_groups(c, NOW)
        assert (group.job_id, group.model_id, group.ready_count) == (job_id, "m0", 2)
        insert_run(c, job_id)
        first, second = leases.lease_tasks(
            c, job_id=job_id, model_id="m0", hardware_index=0, run_id="r1", agent_id="a1",
            limit=10, expires_realtime_ns=NOW + 20 * S, now_ns=NOW,
        )  # fmt: skip
        assert (first.query_id, first.attempt, second.query_id) == ("q0", 1, "q1")
        assert leases.ready_groups(c, NOW) == []
        runs.mark_started(
            c, run_id="r1", agent_id="a1", boot_id="b1", clock_id="c1", start_ns=10, source_ids=["g"],
            host_source_ids=[], engine="stub", engine_version="1", settings_json="{}",
        )  # fmt: skip
        for task in (first, second):
            fence = {"task_id": task.task_id, "attempt": 1, "agent_id": "a1", "run_id": "r1"}
            assert leases.mark_running(c, **fence, now_ns=NOW)
            assert leases.complete(c, **fence, now_ns=NOW)
            new = generations.NewGeneration(
                **fence, boot_id="b1", query_id=task.query_id, warmup=False, counted=True, start_ns=20, end_ns=90,
                received_realtime_ns=NOW, chunk_ns=[30, 50, 90], response="a\x00b", output_tokens=3,
            )  # fmt: skip
            assert generations.record_generation(c, new)
            assert not generations.record_generation(c, new)
        assert jobs.finish_if_complete(c, job_id, NOW) is None
        runs.mark_over(c, run_id="r1", state="ended", end_ns=100, reason=None)
        assert [r.run_id for r in runs.pending_energy(c)] == ["r1"]
        assert generations.run_queries(c, "r1")[0].chunk_ns.tolist() == [30, 50, 90]
        energy = measurements.RunEnergyRows("r1", final=True)
        energy.sources.append(
            measurements.NewRunEnergy(
                "g", "primary", "gpu", "counter", "counter-shape", "tokens", 10.0, 8.0, 2.0
            )
        )
        measurements.replace_run_energy(c, energy, now_ns=NOW)
        assert jobs.finish_if_complete(c, job_id, NOW + S) == "done"
        summary = jobs.job_summary(c, job_id)
    assert (summary.state, summary.tasks, summary.done, summary.measured) == ("done", 2, 2, 2)
    assert (summary.joules, summary.joules_kind) == (8.0, "measured")


def test_samples_come_back_as_they_were_sent(store: Store) -> None:
    columns = {"t_ns": np.array([5, 6, 7]), "power_w": np.array([1.5, np.nan, 0.1])}
    block = segments.NewBlock("a1", "b1", "g", "c1", 1, columns)
    with store.begin() as c:
        register(c)
        assert segments.append_blocks(c, [block]) == 1
        assert segments.append_blocks(c, [block]) == 0
        found = segments.read_columns(c, agent_id="a1", source_id="g", clock_id="c1", start_ns=6, end_ns=7)
        assert segments.covered_until_ns(c, "a1", "g", "c1") == 7
    assert found["t_ns"].tolist() == [6, 7]
    np.testing.assert_array_equal(found["power_w"], [np.nan, 0.1])


def test_a_heartbeat_and_an_event_are_kept(store: Store) -> None:
    with store.begin() as c:
        register(c)
        assert fleet.heartbeat(c, agent_id="a1", boot_id="b1", now_ns=NOW + S, loaded_model="m0")
        events.add(c, kind="task_failed", agent_id="a1", detail="no memory")
    with store.read() as c:
        (agent,) = fleet.list_agents(c)
        (event,) = events.recent(c)
    assert (agent.state, agent.loaded_model, agent.last_seen_realtime_ns) == ("live", "m0", NOW + S)
    assert (event.kind, event.detail) == ("task_failed", "no memory")
