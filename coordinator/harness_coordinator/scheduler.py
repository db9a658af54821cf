"""The scheduler: (ready tasks, agents that ask for work, now) -> decisions. No gRPC, no SQL, no clock.

Rules, in this order:

1. Higher priority first, then the older job. Every `AGEING_STEP_S` of waiting counts as one step of priority,
   so that nothing starves behind a stream of more important jobs.
2. A run that is on (its model is loaded) gets more tasks before a new run is started elsewhere, unless a
   group of higher priority waits for its devices.
3. A new run goes to an agent whose devices match and are free, preferring the one that has the model loaded,
   then the one with the fewest devices beyond what is needed. A run has its devices to itself.
4. An agent on which the engine failed to start again and again gets no more of the group; when that is so of every
   agent that could run it, the group is given up.
5. Ready tasks of a group are divided evenly among the agents that ask, never fewer than one batch each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness_coordinator.matching import Device, Match, Requirement, describe, match

AGEING_STEP_S = 600.0
"""Ten minutes of waiting weigh as much as one step of `priority`."""

GroupKey = tuple[str, str, int]
"""(job id, model id, hardware index): tasks that differ only in query and repetition."""


@dataclass(frozen=True, slots=True)
class Group:
    """Ready tasks that one run could execute."""

    key: GroupKey
    requirement: Requirement
    ready: int
    concurrency: int
    priority: int
    submitted_s: float
    failed_on: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why the engine did not start, by the id of each agent that gets no more of this group."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is on, as its agent last reported it."""

    run_id: str
    key: GroupKey
    device_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class AgentView:
    """A live agent and what it asks for."""

    agent_id: str
    name: str
    labels: dict[str, str]
    engines: frozenset[str]
    devices: tuple[Device, ...]
    loaded_model: str = ""
    runs: tuple[Run, ...] = ()
    wants_new_run: bool = False
    wants_tasks: dict[str, int] = field(default_factory=dict[str, int])
    """run id -> number of further tasks asked for."""
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """Give `count` tasks of a group to an agent: to a run that is on, or (run_id None) as a new run."""

    agent_id: str
    run_id: str | None
    key: GroupKey
    count: int
    device_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndRun:
    """Nothing more for this run: it may end when its queue is empty."""

    agent_id: str
    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Decisions, and for each group that got nothing the reason in one sentence."""

    leases: tuple[Lease, ...]
    ended: tuple[EndRun, ...]
    waiting: dict[GroupKey, str]
    hopeless: dict[GroupKey, str] = field(default_factory=dict[GroupKey, str])
    """Groups that no agent of this fleet will ever do, and why."""


def plan(groups: Sequence[Group], agents: Sequence[AgentView], now_s: float) -> Plan:
    """Decide who runs what next.

    Args:
        groups: groups with at least one ready task.
        agents: live agents; those that ask for nothing only matter for the reasons given.
        now_s: the time on the clock of `Group.submitted_s`.
    """
    order = sorted(groups, key=lambda g: (-effective_priority(g, now_s), g.submitted_s, g.key))
    matches = _Matches(agents)
    left = {g.key: g.ready for g in groups}
    leases: list[Lease] = []
    waiting: dict[GroupKey, str] = {}
    hopeless: dict[GroupKey, str] = {}
    free = {a.agent_id: _free_devices(a) for a in agents}
    open_runs = {a.agent_id: a.wants_new_run and not a.draining for a in agents}
    claimed: set[str] = set()
    asking = _asking(agents)
    at_work = [a for a in agents if a.runs and not a.draining]
    running = {run.key for agent in agents for run in agent.runs}

    for group in order:
        leases += _top_up(group, asking.get(group.key, []), left, claimed)
        placed = _start_runs(group, matches, left, free, open_runs)
        leases += placed
        if not placed and left[group.key] > 0 and group.key not in running:
            if reason := matches.why_hopeless(group):
                hopeless[group.key] = reason
                continue
            waiting[group.key] = matches.why_waiting(group)
            claimed |= _claims(group, at_work, matches)

    served = {lease.run_id for lease in leases}
    ended = tuple(
        EndRun(agent.agent_id, run_id, "the agent is draining" if agent.draining else "no further task")
        for agent in agents
        for run_id in agent.wants_tasks
        if run_id not in served
    )
    return Plan(tuple(leases), ended, waiting, hopeless)


def effective_priority(group: Group, now_s: float) -> float:
    """Return the priority with its ageing: one step for each `AGEING_STEP_S` since submission."""
    return group.priority + max(0.0, now_s - group.submitted_s) / AGEING_STEP_S


def _free_devices(agent: AgentView) -> set[str]:
    busy: set[str] = set()
    for run in agent.runs:
        busy |= run.device_ids
    return {d.device_id for d in agent.devices} - busy


def _asking(agents: Sequence[AgentView]) -> dict[GroupKey, list[tuple[AgentView, Run]]]:
    """Return the runs that ask for more tasks, by group."""
    asking: dict[GroupKey, list[tuple[AgentView, Run]]] = {}
    for agent in agents:
        for run in agent.runs:
            if agent.wants_tasks.get(run.run_id, 0) > 0 and not agent.draining:
                asking.setdefault(run.key, []).append((agent, run))
    return asking


def _top_up(
    group: Group, askers: Sequence[tuple[AgentView, Run]], left: dict[GroupKey, int], claimed: set[str]
) -> list[Lease]:
    asking = [(agent, run) for agent, run in askers if run.run_id not in claimed]
    leases: list[Lease] = []
    for position, (agent, run) in enumerate(asking):
        share = _share(left[group.key], len(asking) - position, group.concurrency)
        count = min(agent.wants_tasks[run.run_id], share, left[group.key])
        if count > 0:
            left[group.key] -= count
            leases.append(Lease(agent.agent_id, run.run_id, group.key, count, tuple(sorted(run.device_ids))))
    return leases


def _start_runs(
    group: Group,
    matches: _Matches,
    left: dict[GroupKey, int],
    free: dict[str, set[str]],
    open_runs: dict[str, bool],
) -> list[Lease]:
    candidates: list[tuple[AgentView, list[Device]]] = []
    for agent, found in matches.of(group) if any(open_runs.values()) else ():
        if open_runs[agent.agent_id] and agent.agent_id not in group.failed_on:
            devices = [d for d in found.devices if d.device_id in free[agent.agent_id]]
            if len(devices) >= group.requirement.device_count:
                candidates.append((agent, devices))
    model = group.key[1]
    candidates.sort(key=lambda c: (c[0].loaded_model != model, len(c[1]), c[0].name))
    leases: list[Lease] = []
    for position, (agent, devices) in enumerate(candidates):
        if left[group.key] <= 0:
            break
        count = min(
            left[group.key],
            2 * group.concurrency,
            _share(left[group.key], len(candidates) - position, group.concurrency),
        )
        chosen = tuple(sorted(d.device_id for d in devices[: group.requirement.device_count]))
        left[group.key] -= count
        free[agent.agent_id] -= set(chosen)
        open_runs[agent.agent_id] = False
        leases.append(Lease(agent.agent_id, None, group.key, count, chosen))
    return leases


def _share(ready: int, askers: int, batch: int) -> int:
    return max(math.ceil(ready / max(askers, 1)), min(batch, ready))


def _claims(group: Group, at_work: Sequence[AgentView], matches: _Matches) -> set[str]:
    """Runs whose devices this waiting group would use: they get no more tasks of less important groups."""
    claims: set[str] = set()
    if not at_work:
        return claims
    matching = {agent.agent_id: found for agent, found in matches.of(group)}
    for agent in at_work:
        found = matching.get(agent.agent_id)
        if found is not None:
            wanted = {d.device_id for d in found.devices}
            claims |= {run.run_id for run in agent.runs if run.device_ids & wanted}
    return claims


class _Matches:
    """Which agents can run which group: decided once for each requirement and each kind of machine."""

    def __init__(self, agents: Sequence[AgentView]) -> None:
        self._agents = agents
        # Machines that differ in nothing but their name match alike. Their kinds are compared here once: a thousand
        # agents with their devices are too much to hash for every requirement.
        numbers: dict[object, int] = {}
        self._kinds = [
            numbers.setdefault((a.engines, a.devices, frozenset(a.labels.items())), len(numbers))
            for a in agents
        ]
        self._examples = list(dict(zip(self._kinds, agents, strict=True)).values())
        self._all: dict[str, list[tuple[AgentView, Match]]] = {}
        self._able: dict[str, list[tuple[AgentView, Match]]] = {}
        self._why: dict[str, str] = {}

    def of(self, group: Group) -> list[tuple[AgentView, Match]]:
        need = repr(group.requirement)
        if need not in self._able:
            self._able[need] = [(a, m) for a, m in self._every(group, need) if m.devices]
        return self._able[need]

    def why_waiting(self, group: Group) -> str:
        if not self._agents:
            return "no agent is connected"
        need = repr(group.requirement)
        if need not in self._why:
            self._why[need] = self._explain(group, self._every(group, need))
        return self._why[need]

    def why_hopeless(self, group: Group) -> str:
        """Return why no agent will ever do this group, empty where one may."""
        if not group.failed_on:
            return ""
        able = [agent for agent, _ in self.of(group)]
        if not able or any(agent.agent_id not in group.failed_on for agent in able):
            return ""
        last = able[-1]
        where = (
            last.name if len(able) == 1 else f"any of {len(able)} agents, the last of which is {last.name}"
        )
        return f"the engine failed to start again and again on {where}: {group.failed_on[last.agent_id]}"

    def _explain(self, group: Group, every: Sequence[tuple[AgentView, Match]]) -> str:
        able = [(a, m) for a, m in every if m.devices]
        if able:
            if all(a.draining for a, _ in able):
                return "every agent that could run it is draining"
            return "every agent that could run it is busy"
        reasons: dict[str, list[str]] = {}
        for agent, found in every:
            reasons.setdefault(found.reason, []).append(agent.name)
        reason, names = max(reasons.items(), key=lambda item: len(item[1]))
        who = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        return f"no agent can run it on {describe(group.requirement.selector)}: {who}: {reason}"

    def _every(self, group: Group, need: str) -> list[tuple[AgentView, Match]]:
        if need not in self._all:
            if group.requirement.selector.agent is not None:
                self._all[need] = [(agent, _match(group, agent)) for agent in self._agents]
            else:
                by_kind = [_match(group, example) for example in self._examples]
                self._all[need] = [
                    (agent, by_kind[kind]) for agent, kind in zip(self._agents, self._kinds, strict=True)
                ]
        return self._all[need]


def _match(group: Group, agent: AgentView) -> Match:
    return match(
        group.requirement,
        agent_name=agent.name,
        labels=agent.labels,
        engines=agent.engines,
        devices=agent.devices,
    )


def why_impossible(requirement: Requirement, agents: Sequence[AgentView]) -> str:
    """Return why no agent of this fleet can ever run such tasks, or an empty text when one can."""
    group = Group(("", "", 0), requirement, 1, 1, 0, 0.0)
    found = _Matches(agents)
    if found.of(group) or not agents:
        return ""
    return found.why_waiting(group)
