"""Agents come, beat, are lost, come back, and are removed for good."""

from __future__ import annotations

import math
from typing import Any

import pytest
from harness_store import fleet
from harness_store.database import Store
from harness_store.errors import DuplicateNameError, RemovedAgentError, UnknownAgentError
from harness_store.models import ClockOffset
from sqlalchemy import Connection, select

from tests.store.worlds import NOW, S, register, sources


def _state(c: Connection, agent_id: str = "a1") -> str:
    return next(a.state for a in fleet.list_agents(c, removed=True) if a.agent_id == agent_id)


def _beat(
    c: Connection, agent_id: str = "a1", boot_id: str = "b1", now_ns: int = NOW + S, **more: object
) -> bool:
    return fleet.heartbeat(c, agent_id=agent_id, boot_id=boot_id, now_ns=now_ns, **more)  # type: ignore[arg-type]


def test_a_silent_agent_is_lost_and_its_next_heartbeat_brings_it_back(store: Store) -> None:
    with store.begin() as c:
        register(c)
        register(c, "a2")
        assert _beat(c, "a2", now_ns=NOW + 30 * S)
        assert fleet.mark_lost(c, older_than_ns=NOW + 10 * S) == ["a1"]
        assert fleet.mark_lost(c, older_than_ns=NOW + 10 * S) == []
        assert (_state(c), _state(c, "a2")) == ("lost", "live")
        assert _beat(c, now_ns=NOW + 31 * S)
        assert _state(c) == "live"


def test_agents_of_another_coordinator_are_seen_while_they_live(store: Store) -> None:
    with store.begin() as c:
        register(c)
        assert not fleet.lives_besides(c, ["a1"])
        register(c, "a2")
        assert fleet.lives_besides(c, ["a1"])
        assert not fleet.lives_besides(c, ["a1", "a2"])
        fleet.mark_lost(c, older_than_ns=NOW + 10 * S)
        assert not fleet.lives_besides(c, ["a1"])


def test_a_late_heartbeat_never_revives_a_removed_agent(store: Store) -> None:
    with store.begin() as c:
        register(c)
        assert fleet.remove_agent(c, "box-a1") == "a1"
    with store.begin() as c:
        assert not _beat(c)
        assert _state(c) == "removed"
        assert fleet.list_agents(c) == []
        with pytest.raises(RemovedAgentError, match="was removed"):
            register(c)
        assert _state(c) == "removed"
        with pytest.raises(UnknownAgentError, match="no agent is called 'a1'"):
            fleet.remove_agent(c, "a1")


def test_a_heartbeat_of_an_earlier_process_changes_nothing(store: Store) -> None:
    with store.begin() as c:
        register(c, boot_id="b1")
        register(c, boot_id="b2", now_ns=NOW + 5 * S)
        assert not _beat(c, boot_id="b1", now_ns=NOW + 9 * S, loaded_model="old")
        (agent,) = fleet.list_agents(c)
    assert (agent.boot_id, agent.last_seen_realtime_ns, agent.loaded_model) == ("b2", NOW + 5 * S, None)
    assert agent.registered_realtime_ns == NOW


def test_a_name_belongs_to_one_agent_that_is_there(store: Store) -> None:
    with store.begin() as c:
        register(c, "a1", name="box")
        with pytest.raises(DuplicateNameError, match="'box' belongs to another agent, on lab-1"):
            register(c, "a2", name="box")
        fleet.mark_lost(c, older_than_ns=NOW + S)
        register(c, "a2", name="box")
        assert {a.agent_id: a.name for a in fleet.list_agents(c)} == {"a1": "box~a1", "a2": "box"}
        fleet.remove_agent(c, "a2")
        register(c, "a3", name="box")
        assert fleet.find_agent(c, "box") == "a3"


def test_a_drained_agent_stays_drained_over_restarts_until_it_is_let_back(store: Store) -> None:
    with store.begin() as c:
        register(c)
        fleet.drain_agent(c, "box-a1")
        register(c, boot_id="b2")
        assert _beat(c, boot_id="b2")
        fleet.mark_lost(c, older_than_ns=NOW + 100 * S)
        assert _state(c) == "drained"
        fleet.drain_agent(c, "a1", drained=False)
        assert _state(c) == "live"


def test_sources_and_devices_are_replaced_and_what_is_gone_comes_back(store: Store) -> None:
    with store.begin() as c:
        register(c)
        fleet.upsert_sources(c, "a1", sources("g", "g2"))
        fleet.mark_source_gone(c, "a1", "g", "GPU is lost", 77)
        gone, here = fleet.sources_of(c, "a1")
        assert (gone.gone_reason, gone.gone_ns, here.gone_reason) == ("GPU is lost", 77, None)
        (agent,) = fleet.list_agents(c)
        assert (agent.hardware, agent.source_ids) == (("NVIDIA H200",), ("g2",))
        fleet.upsert_sources(c, "a1", sources("g"))
        assert fleet.sources_of(c, "a1")[0].gone_reason is None


def test_unknown_numbers_of_a_source_are_null(store: Store) -> None:
    record = fleet.SourceRecord(
        "s", "intel", "package-0", "Xeon", "package", "counter", has_energy=True, has_power=False,
        max_power_w=math.nan, counter_wrap_j=262143.3,
    )  # fmt: skip
    with store.begin() as c:
        register(c)
        fleet.upsert_sources(c, "a1", [record])
        (found,) = fleet.sources_of(c, "a1")
    assert (found.max_power_w, found.power_period_s, found.counter_wrap_j) == (None, None, 262143.3)


def test_control_sequence_numbers_are_kept_per_process_and_never_go_back(store: Store) -> None:
    with store.begin() as c:
        register(c, boot_id="b1")
        assert fleet.control_seq(c, "a1", "b1") == 0
        fleet.set_control_seq(c, "a1", "b1", 7)
        fleet.set_control_seq(c, "a1", "b1", 5)
        fleet.set_control_seq(c, "a1", "older", 3)
        assert [fleet.control_seq(c, "a1", b) for b in ("b1", "older", "never")] == [7, 3, 0]
        register(c, boot_id="b1")
        assert fleet.control_seq(c, "a1", "b1") == 7


def test_clock_offsets_are_kept_once_a_minute_and_forgotten_with_the_clock(store: Store) -> None:
    with store.begin() as c:
        register(c)
        for second in range(0, 130, 5):
            assert _beat(
                c, now_ns=NOW + second * S, clock_offset_ns=1e18 + second, clock_offset_error_ns=50_000.0
            )
        (agent,) = fleet.list_agents(c)
        assert (agent.clock_offset_ns, agent.clock_offset_error_ns) == (1e18 + 125, 50_000.0)
        kept = (
            c.execute(select(ClockOffset.at_realtime_ns).order_by(ClockOffset.at_realtime_ns)).scalars().all()
        )
        assert kept == [NOW, NOW + 60 * S, NOW + 120 * S]
        register(c, boot_id="b2")
        assert fleet.list_agents(c)[0].clock_offset_ns == 1e18 + 125
        register(c, boot_id="b3", clock_id="c2")
        assert fleet.list_agents(c)[0].clock_offset_ns is None


def test_a_heartbeat_without_an_offset_keeps_the_last_one(store: Store) -> None:
    with store.begin() as c:
        register(c)
        _beat(c, clock_offset_ns=5.0, clock_offset_error_ns=1.0, spool_bytes=10, dropped_samples=2)
        _beat(c, now_ns=NOW + 9 * S)
        (agent,) = fleet.list_agents(c)
    assert (agent.clock_offset_ns, agent.spool_bytes, agent.dropped_samples) == (5.0, 10, 2)


def test_a_drift_is_kept_with_its_offset_and_ends_with_its_line(store: Store) -> None:
    offset: dict[str, Any] = {"clock_offset_ns": 1e18, "clock_offset_error_ns": 50_000.0}
    with store.begin() as c:
        register(c)
        _beat(c, **offset, clock_drift_ppm=-12.5, clock_drift_error_ppm=0.25)
        _beat(c, now_ns=NOW + S)  # tells nothing of the clock
        (agent,) = fleet.list_agents(c)
        assert (agent.clock_drift_ppm, agent.clock_drift_error_ppm) == (-12.5, 0.25)
        assert c.execute(select(ClockOffset.drift_ppm, ClockOffset.drift_error_ppm)).one() == (-12.5, 0.25)
        _beat(c, now_ns=NOW + 2 * S, **offset)  # a new line has no drift yet
        assert fleet.list_agents(c)[0].clock_drift_ppm is None
        _beat(c, now_ns=NOW + 3 * S, **offset, clock_drift_ppm=3.0, clock_drift_error_ppm=1.0)
        register(c, boot_id="b2")
        assert fleet.list_agents(c)[0].clock_drift_ppm == 3.0
        register(c, boot_id="b3", clock_id="c2")
        assert fleet.list_agents(c)[0].clock_drift_ppm is None
