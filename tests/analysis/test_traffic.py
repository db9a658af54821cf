"""A replay adds up, waits as a queue waits, and holds at scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness_analysis import traffic
from harness_analysis.metrics.routing_quality import smallest_correct

from tests.analysis.routing_worlds import topic_world


def strategies(world):
    n = len(world)
    return {"cloud": np.full(n, 2), "oracle": smallest_correct(world.correct)}


def test_totals_equal_the_sum_over_requests() -> None:
    world = topic_world(50)
    arrivals = np.sort(np.random.default_rng(0).random(1_000) * 7_200)
    ran = traffic.replay([arrivals[:400], arrivals[400:]], world, strategies(world), seed=3)
    random = np.random.default_rng(3)
    asked = np.concatenate([random.integers(0, 50, size=400), random.integers(0, 50, size=600)])
    joules = world.costs["joules"]
    assert ran.requests == 1_000
    assert ran.cumulative["cloud"]["joules"][-1] == pytest.approx(joules[asked, 2].sum())
    oracle = strategies(world)["oracle"]
    assert ran.cumulative["oracle"]["joules"][-1] == pytest.approx(joules[asked, oracle[asked]].sum())
    assert ran.accuracy["oracle"] == pytest.approx(world.correct[asked, oracle[asked]].mean())
    first_hour = ran.hours <= 1.0
    in_it = arrivals < 3_600
    assert ran.cumulative["cloud"]["joules"][first_hour][-1] == pytest.approx(joules[asked[in_it], 2].sum())
    assert set(ran.cumulative["cloud"]) == {"joules", "dollars"}
    assert 0.3 < ran.saved("oracle", "joules") < 1
    assert ran.saved("cloud", "joules") == 0


def test_a_routers_own_cost_is_counted() -> None:
    world = topic_world(20)
    arrivals = np.arange(100.0)
    free = traffic.replay([arrivals], world, strategies(world))
    paid = traffic.replay([arrivals], world, strategies(world), router_cost={"oracle": {"joules": 5.0}})
    difference = paid.cumulative["oracle"]["joules"][-1] - free.cumulative["oracle"]["joules"][-1]
    assert difference == pytest.approx(500.0)
    assert paid.saved("oracle", "joules") < free.saved("oracle", "joules")


def test_the_return_of_appendix_d_8() -> None:
    assert round(traffic.return_on_router(77.1, 8.4), 1) == 9.2


def test_waiting_times_by_hand() -> None:
    # Served 0-3, 3-5, 6-7: the second waits two seconds, the others none.
    waits, free = traffic.waiting_times(np.array([0.0, 1.0, 6.0]), np.array([3.0, 2.0, 1.0]))
    assert waits.tolist() == [0, 2, 0]
    assert free == 7.0
    waits, _ = traffic.waiting_times(np.array([0.0]), np.array([1.0]), free_at_s=4.0)
    assert waits.tolist() == [4.0]


def test_one_server_waits_as_long_as_theory_says() -> None:
    # M/D/1 at half load: rho / (2 (1 - rho)) services.
    random = np.random.default_rng(0)
    arrivals = np.cumsum(random.exponential(2.0, 200_000))
    waits, _ = traffic.waiting_times(arrivals, np.ones(200_000))
    assert waits.mean() == pytest.approx(0.5, rel=0.03)


def test_blocks_do_not_change_the_queue() -> None:
    world = topic_world(30)
    world = replace(world, costs={**world.costs, "latency": np.tile([0.5, 1.0, 3.0], (30, 1))})
    arrivals = np.sort(np.random.default_rng(1).random(900) * 1_000)
    servers = {"small": 1, "middle": 2, "large": 4}
    choice = {"cloud": np.full(30, 2)}
    whole = traffic.replay([arrivals], world, choice, servers=servers)
    parts = traffic.replay([arrivals[:7], arrivals[7:500], arrivals[500:]], world, choice, servers=servers)
    assert whole.waiting_s["cloud"] > 0
    # Every query takes three seconds at the cloud, so which one was drawn does not matter.
    assert parts.waiting_s["cloud"] == pytest.approx(whole.waiting_s["cloud"])


def test_a_generated_day_follows_its_shape() -> None:
    shape = np.array([1.0, 3.0])
    blocks = list(traffic.poisson_day(200_000, shape, seed=2, block=20_000))
    arrivals = np.concatenate(blocks)
    assert len(blocks) > 5
    assert (np.diff(arrivals) >= 0).all()
    assert len(arrivals) == pytest.approx(200_000, rel=0.01)
    assert np.mean(arrivals > traffic.DAY_S / 2) == pytest.approx(0.75, abs=0.005)


def test_a_million_requests_are_replayed_in_blocks() -> None:
    world = topic_world(500)
    day = traffic.poisson_day(1_000_000, np.ones(24), block=100_000)
    ran = traffic.replay(day, world, strategies(world))
    assert ran.requests == pytest.approx(1_000_000, rel=0.01)
    assert ran.hours[-1] == pytest.approx(24.0)
    assert ran.accuracy["oracle"] == pytest.approx(world.correct.max(axis=1).mean(), abs=0.002)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("AzureLLMInferenceTrace_conv.csv", 19_366),
        ("AzureLLMInferenceTrace_code.csv", 8_819),
        ("mooncake_conversation_trace.jsonl", 12_031),
    ],
)
def test_published_traces_are_read(shared_data: Path, name: str, count: int) -> None:
    arrivals = traffic.read_arrivals(shared_data / "traces" / name)
    assert len(arrivals) == count
    assert arrivals[0] == 0.0
    # Each trace spans about an hour.
    assert 3_400 < arrivals[-1] < 3_700
    shape = traffic.hourly_shape(arrivals)
    assert shape.sum() == count


def test_bad_traffic_is_refused(tmp_path: Path) -> None:
    world = topic_world(5)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(traffic.TrafficError, match="no column arrival_s"):
        traffic.read_arrivals(tmp_path / "t.csv")
    with pytest.raises(traffic.TrafficError, match="cannot be read"):
        traffic.read_arrivals(tmp_path / "missing.csv")
    with pytest.raises(traffic.TrafficError, match="no requests"):
        traffic.replay([np.empty(0)], world, strategies(world))
    with pytest.raises(traffic.TrafficError, match="sorted"):
        traffic.replay([np.array([2.0, 1.0])], world, strategies(world))
    with pytest.raises(traffic.TrafficError, match="3 choices for 5"):
        traffic.replay([np.ones(1)], world, {"x": np.zeros(3, int)})
    with pytest.raises(traffic.TrafficError, match="total_s"):
        traffic.replay([np.ones(1)], world, strategies(world), servers={"large": 1})
    timed = replace(world, costs={**world.costs, "latency": np.ones((5, 3))})
    with pytest.raises(traffic.TrafficError, match="large, which nothing serves"):
        traffic.replay([np.ones(1)], timed, {"cloud": np.full(5, 2)}, servers={"small": 1})
    with pytest.raises(traffic.TrafficError, match="above 0"):
        list(traffic.poisson_day(0, np.ones(24)))
