"""How often an agent speaks: as often as its work needs, and no faster than it is answered."""

from __future__ import annotations

import itertools

from harness_agent.sample_ranges import SAMPLE_RANGES

from tests.agent.conftest import StartAgent, offer
from tests.agent.mini_coordinator import HEARTBEAT_S, MiniCoordinator


def gaps_s(coordinator: MiniCoordinator, first: int, last: int) -> list[float]:
    """Return the times between heartbeats, ascending."""
    sent_s = [beat.sent_monotonic_ns * 1e-9 for beat in coordinator.heartbeats[first:last]]
    return sorted(after - before for before, after in itertools.pairwise(sent_s))


def median(values: list[float]) -> float:
    return values[len(values) // 2]


def test_an_agent_that_holds_nothing_beats_half_as_often(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    start_agent(coordinator)
    coordinator.wait_for(lambda: len(coordinator.heartbeats) > 14, "fifteen heartbeats")
    # The first ones find the clock's offset.
    assert median(gaps_s(coordinator, 0, 4)) < 1.5 * HEARTBEAT_S
    assert median(gaps_s(coordinator, 5, 15)) > 1.5 * HEARTBEAT_S
    idle = len(coordinator.heartbeats)
    coordinator.send(lease=offer(count=1, engine_args={"tokens": 16, "token_s": 0.4}))
    coordinator.wait_for(lambda: len([b for b in coordinator.heartbeats if b.held]) > 10, "beats of a run")
    assert not any(beat.held for beat in coordinator.heartbeats[:idle])
    busy = [i for i, beat in enumerate(coordinator.heartbeats) if beat.held]
    assert median(gaps_s(coordinator, busy[0], busy[-1] + 1)) < 1.5 * HEARTBEAT_S


def test_an_agent_beats_every_time_where_leases_are_short(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    """Half as often it would be taken for lost between two beats."""
    coordinator.lease_s = 2 * HEARTBEAT_S
    start_agent(coordinator)
    coordinator.wait_for(lambda: len(coordinator.heartbeats) > 12, "a dozen heartbeats")
    assert median(gaps_s(coordinator, 5, 13)) < 1.5 * HEARTBEAT_S


def test_samples_are_gathered_until_the_last_message_is_acknowledged(
    coordinator: MiniCoordinator, start_agent: StartAgent
) -> None:
    coordinator.features = [SAMPLE_RANGES]
    coordinator.acknowledge_samples_after_s = 2.5
    coordinator.offers.append(offer(count=1, engine_args={"tokens": 16, "token_s": 1.0}))
    start_agent(coordinator)
    coordinator.wait_for(lambda: len(coordinator.sample_messages) > 4, "five messages")
    arrived_s = [at_s for at_s, _ in coordinator.sample_messages]
    assert min(after - before for before, after in itertools.pairwise(arrived_s)) > 2.4
    # A run's samples go out every second; each of these holds what came together in two and a half.
    for _, message in coordinator.sample_messages[2:]:
        assert max(len(found.rows) for found in message.ranges) >= 2
