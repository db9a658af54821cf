"""The scheduler decides without a server: who runs what, and why somebody waits."""

from __future__ import annotations

from harness_coordinator.matching import Device, Requirement, Selector
from harness_coordinator.scheduler import AgentView, Group, Lease, Run, plan, why_impossible
from hypothesis import given, settings
from hypothesis import strategies as st

CPU = Device("cpu", "intel", "Xeon", is_cpu=True, measured=True, estimated=True)
GUESSED_CPU = Device("cpu", "host", "Some CPU", is_cpu=True, measured=False, estimated=True)
H200 = Device(
    "GPU-1", "nvidia", "NVIDIA H200", is_cpu=False, measured=True, estimated=False, memory_bytes=141e9
)
H200_B = Device(
    "GPU-2", "nvidia", "NVIDIA H200", is_cpu=False, measured=True, estimated=False, memory_bytes=141e9
)


def agent(name: str, *devices: Device, **fields: object) -> AgentView:
    base: dict[str, object] = {
        "agent_id": name,
        "name": name,
        "labels": {},
        "engines": frozenset({"llamacpp", "vllm"}),
        "devices": devices or (CPU,),
        "wants_new_run": True,
    }
    return AgentView(**{**base, **fields})  # type: ignore[arg-type]


def group(job: str = "a", **fields: object) -> Group:
    base: dict[str, object] = {
        "key": (job, "m", 0),
        "requirement": Requirement(engine="llamacpp", selector=Selector(), energy="measured"),
        "ready": 10,
        "concurrency": 4,
        "priority": 0,
        "submitted_s": 0.0,
    }
    return Group(**{**base, **fields})  # type: ignore[arg-type]


def requirement(**fields: object) -> Requirement:
    base: dict[str, object] = {"engine": "llamacpp", "selector": Selector(), "energy": "measured"}
    return Requirement(**{**base, **fields})  # type: ignore[arg-type]


def test_a_free_agent_gets_a_new_run_with_its_devices() -> None:
    decided = plan([group()], [agent("box")], now_s=1.0)
    assert decided.leases == (Lease("box", None, ("a", "m", 0), 8, ("cpu",)),)
    assert decided.waiting == {}


def test_measured_energy_is_never_placed_where_nothing_can_measure() -> None:
    decided = plan([group()], [agent("box", GUESSED_CPU)], now_s=1.0)
    assert decided.leases == ()
    assert "no source can measure the energy of its Some CPU" in decided.waiting["a", "m", 0]


def test_an_estimate_is_enough_for_a_job_that_says_so() -> None:
    willing = group(requirement=requirement(energy="estimated-ok"))
    assert plan([willing], [agent("box", GUESSED_CPU)], now_s=1.0).leases


def test_higher_priority_goes_first_and_age_breaks_ties() -> None:
    young, old, urgent = (
        group("young", submitted_s=50.0),
        group("old", submitted_s=10.0),
        group("urgent", priority=1, submitted_s=60.0),
    )
    assert plan([young, old, urgent], [agent("box")], now_s=60.0).leases[0].key[0] == "urgent"
    assert plan([young, old], [agent("box")], now_s=60.0).leases[0].key[0] == "old"


def test_waiting_outweighs_priority_in_the_end() -> None:
    patient, urgent = group("patient", submitted_s=0.0), group("urgent", priority=2, submitted_s=6000.0)
    assert plan([patient, urgent], [agent("box")], now_s=6000.0).leases[0].key[0] == "patient"


def test_the_agent_that_has_the_model_loaded_is_preferred() -> None:
    agents = [agent("cold"), agent("warm", loaded_model="m")]
    decided = plan([group(ready=2, concurrency=2)], agents, now_s=1.0)
    assert [lease.agent_id for lease in decided.leases] == ["warm"]


def test_a_run_that_is_on_gets_more_tasks_before_another_starts() -> None:
    run = Run("r1", ("a", "m", 0), frozenset({"cpu"}))
    busy = agent("busy", runs=(run,), wants_new_run=False, wants_tasks={"r1": 3})
    decided = plan([group(ready=3)], [agent("idle"), busy], now_s=1.0)
    assert decided.leases == (Lease("busy", "r1", ("a", "m", 0), 3, ("cpu",)),)


def test_a_run_without_further_tasks_is_told_to_end() -> None:
    run = Run("r1", ("gone", "m", 0), frozenset({"cpu"}))
    busy = agent("busy", runs=(run,), wants_new_run=False, wants_tasks={"r1": 3})
    decided = plan([], [busy], now_s=1.0)
    assert [(e.run_id, e.reason) for e in decided.ended] == [("r1", "no further task")]


def test_a_run_makes_way_for_a_job_of_higher_priority() -> None:
    run = Run("r1", ("low", "m", 0), frozenset({"cpu"}))
    busy = agent("busy", runs=(run,), wants_new_run=False, wants_tasks={"r1": 8})
    decided = plan([group("low"), group("high", priority=5)], [busy], now_s=1.0)
    assert decided.leases == ()
    assert [e.run_id for e in decided.ended] == ["r1"]
    assert decided.waiting["high", "m", 0] == "every agent that could run it is busy"


def test_a_draining_agent_gets_nothing_and_says_so() -> None:
    decided = plan([group()], [agent("box", draining=True)], now_s=1.0)
    assert decided.leases == ()
    assert decided.waiting["a", "m", 0] == "every agent that could run it is draining"


def test_two_devices_are_leased_together_when_the_model_is_split() -> None:
    split = group(requirement=requirement(engine="vllm", device_count=2))
    decided = plan([split], [agent("one", H200), agent("two", H200, H200_B)], now_s=1.0)
    assert [(x.agent_id, x.device_ids) for x in decided.leases] == [("two", ("GPU-1", "GPU-2"))]


def test_reasons_name_what_is_missing() -> None:
    fleet = [agent("box", GUESSED_CPU)]
    asked = requirement(selector=Selector(vendor="nvidia", name="*H200*"))
    assert why_impossible(asked, fleet) == (
        "no agent can run it on {vendor: nvidia, name: *H200*}: box: it has no device that matches"
        " {vendor: nvidia, name: *H200*}"
    )
    assert "engine 'sglang' is not installed" in why_impossible(requirement(engine="sglang"), fleet)
    assert "no label site=lab-a" in why_impossible(
        requirement(selector=Selector(labels={"site": "lab-a"})), fleet
    )
    assert why_impossible(asked, [agent("gpu", H200)]) == ""


def test_memory_that_is_not_known_does_not_count_as_enough() -> None:
    asked = requirement(selector=Selector(min_memory_gb=80))
    assert why_impossible(asked, [agent("box", CPU)]) != ""
    assert why_impossible(asked, [agent("gpu", H200)]) == ""


devices = st.sampled_from([(CPU,), (H200,), (H200, H200_B), (GUESSED_CPU,)])


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Group], list[AgentView]]:
    groups = [
        group(
            f"job{i}",
            ready=draw(st.integers(1, 30)),
            concurrency=draw(st.integers(1, 8)),
            priority=draw(st.integers(-2, 2)),
            submitted_s=float(draw(st.integers(0, 2000))),
            requirement=requirement(
                energy=draw(st.sampled_from(["measured", "estimated-ok", "off"])),
                device_count=draw(st.integers(1, 2)),
            ),
        )
        for i in range(draw(st.integers(1, 6)))
    ]
    agents = []
    for i in range(draw(st.integers(0, 6))):
        has = draw(devices)
        on = draw(st.booleans())
        key = draw(st.sampled_from(groups)).key
        runs = (Run(f"run{i}", key, frozenset({has[0].device_id})),) if on else ()
        agents.append(
            agent(
                f"agent{i}",
                *has,
                runs=runs,
                wants_new_run=draw(st.booleans()),
                wants_tasks={f"run{i}": draw(st.integers(1, 16))} if on and draw(st.booleans()) else {},
                draining=draw(st.booleans()),
            )
        )
    return groups, agents


@given(fleets())
@settings(max_examples=300, deadline=None)
def test_no_task_and_no_device_is_ever_given_twice(fleet: tuple[list[Group], list[AgentView]]) -> None:
    groups, agents = fleet
    decided = plan(groups, agents, now_s=2000.0)
    for g in groups:
        given_out = sum(lease.count for lease in decided.leases if lease.key == g.key)
        assert given_out <= g.ready
    for a in agents:
        used = [d for run in a.runs for d in run.device_ids]
        for lease in decided.leases:
            assert lease.count > 0
            if lease.agent_id == a.agent_id and lease.run_id is None:
                used += lease.device_ids
        assert len(used) == len(set(used))
        assert not (a.draining and any(lease.agent_id == a.agent_id for lease in decided.leases))
    for g in groups:
        served = any(lease.key == g.key for lease in decided.leases)
        running = any(run.key == g.key for a in agents for run in a.runs)
        assert served or running or decided.waiting[g.key]


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=6), st.integers(2, 40))
@settings(max_examples=50, deadline=None)
def test_no_job_starves_behind_newer_important_ones(priorities: list[int], rounds: int) -> None:
    """One agent, an unimportant job, and a fresh job of any priority after every hour."""
    patient = group("patient", priority=-3, ready=1, submitted_s=0.0)
    served_at = None
    for hour in range(1, rounds + 24):
        fresh = group(f"fresh{hour}", priority=priorities[hour % len(priorities)], submitted_s=hour * 3600.0)
        decided = plan([patient, fresh], [agent("box")], now_s=hour * 3600.0)
        if decided.leases[0].key[0] == "patient":
            served_at = hour
            break
    assert served_at is not None
    assert served_at <= 1 + 6 * 600 / 3600 + 1


def test_an_agent_where_the_engine_never_starts_leaves_the_group_to_others() -> None:
    failing = group(failed_on={"a": "no such module"})
    decided = plan([failing], [agent("a"), agent("b")], now_s=1.0)
    assert [lease.agent_id for lease in decided.leases] == ["b"]
    busy = agent("b", runs=(Run("r", ("x", "m", 0), frozenset({"cpu"})),), wants_new_run=False)
    waiting = plan([failing], [agent("a"), busy], now_s=1.0)
    assert waiting.leases == ()
    assert waiting.waiting == {("a", "m", 0): "every agent that could run it is busy"}
    assert waiting.hopeless == {}


def test_a_group_that_starts_on_no_agent_is_given_up_with_the_reason() -> None:
    failing = group(failed_on={"a": "no such module", "b": "no memory"})
    decided = plan([failing, group("other")], [agent("a"), agent("b")], now_s=1.0)
    assert decided.hopeless == {
        (
            "a",
            "m",
            0,
        ): "the engine failed to start again and again on any of 2 agents, the last of which is b: no memory"
    }
    assert {lease.key[0] for lease in decided.leases} == {"other"}


def test_a_run_that_is_on_keeps_its_group_from_being_given_up() -> None:
    on = agent("b", runs=(Run("r", ("a", "m", 0), frozenset({"cpu"})),), wants_new_run=False)
    failing = group(failed_on={"a": "no such module", "b": "no memory"})
    assert plan([failing], [agent("a"), on], now_s=1.0).hopeless == {}
