"""Open-loop arrivals and engine gauges under a real agent process."""

from __future__ import annotations

import json
from itertools import islice, pairwise

import numpy as np
from harness_agent.arrivals import gaps_s, tasks_ahead
from harness_proto.v1 import work_pb2

from tests.agent.conftest import StartAgent, offer
from tests.agent.mini_coordinator import MiniCoordinator


def test_poisson_gaps_have_the_rate_and_can_be_made_again() -> None:
    arrivals = work_pb2.Arrivals(kind="poisson", rate_per_s=20.0, seed=7)
    gaps = list(islice(gaps_s(arrivals), 4000))
    assert gaps == list(islice(gaps_s(arrivals), 4000))
    # Mean 1/rate, and a standard deviation as large as the mean: what tells Poisson from constant.
    assert abs(np.mean(gaps) - 0.05) < 4 * 0.05 / 4000**0.5
    assert abs(np.std(gaps) / np.mean(gaps) - 1) < 0.1
    assert list(islice(gaps_s(work_pb2.Arrivals(kind="constant", rate_per_s=4.0)), 2)) == [0.25, 0.25]


def test_enough_tasks_are_kept_ahead_of_a_schedule() -> None:
    assert tasks_ahead(work_pb2.Arrivals(), 3) == 3
    assert tasks_ahead(work_pb2.Arrivals(kind="constant", rate_per_s=50), 1) == 200
    assert tasks_ahead(work_pb2.Arrivals(kind="recorded"), 1) == 64


def test_queries_come_at_their_rate_whether_or_not_the_engine_keeps_up(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    made = offer(count=20, concurrency=1, engine_args={"first_token_s": 1.2, "token_s": 0.0}, last=True)
    made.settings.arrivals.CopyFrom(work_pb2.Arrivals(kind="constant", rate_per_s=25.0))
    coordinator.offers.append(made)
    start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    starts = sorted(g.start_ns for g in coordinator.generations())
    assert len(starts) == 20
    gaps = [(after - before) / 1e9 for before, after in pairwise(starts)]
    assert abs(sum(gaps) / len(gaps) - 0.04) < 0.01
    ends = min(g.end_ns for g in coordinator.generations())
    assert starts[-1] < ends, (
        "all were sent before the first was answered: concurrency does not hold them back"
    )
    ended = coordinator.bodies("run_update")[-1]
    assert ended.facts["arrivals_sent"] == "20"
    assert float(ended.facts["arrivals_lag_max_s"]) >= 0
    # The engine's own gauge, sampled while they were on.
    assert float(ended.facts["running_requests_max"]) == 20
    started = coordinator.bodies("run_update")[0]
    assert json.loads(started.settings_json)["arrivals"]["rate_per_s"] == 25.0


def test_a_bound_on_queries_in_flight_makes_the_rest_late_and_says_so(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    made = offer(count=6, engine_args={"first_token_s": 0.2, "token_s": 0.0}, last=True)
    made.settings.arrivals.CopyFrom(work_pb2.Arrivals(kind="constant", rate_per_s=200.0, max_in_flight=2))
    coordinator.offers.append(made)
    start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    facts = coordinator.bodies("run_update")[-1].facts
    assert int(facts["arrivals_late"]) >= 4
    assert float(facts["arrivals_lag_max_s"]) > 0.3


def test_a_recorded_trace_keeps_its_distances_and_lengths(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    made = offer(count=5, engine_args={"tokens": 12}, last=True)
    made.settings.arrivals.CopyFrom(work_pb2.Arrivals(kind="recorded", exact_output=True))
    # A run that takes over in the middle: the first arrival is its zero.
    for task, (arrival_s, tokens) in zip(
        made.tasks, [(40.0, 3), (40.1, 5), (40.1, 7), (40.4, 100), (40.5, 1)], strict=True
    ):
        task.query.arrival_s = arrival_s
        task.query.max_output_tokens = tokens
    coordinator.offers.append(made)
    start_agent(coordinator)
    coordinator.wait_for(lambda: coordinator.ended("run-1"), "the run's end")
    found = sorted(coordinator.generations(), key=lambda g: g.task_id)
    assert [g.output_tokens for g in found] == [3, 5, 7, 12, 1], (
        "a recorded length never exceeds the job's limit"
    )
    offsets = [(g.start_ns - found[0].start_ns) / 1e9 for g in found]
    assert np.allclose(offsets, [0, 0.1, 0.1, 0.4, 0.5], atol=0.06)
