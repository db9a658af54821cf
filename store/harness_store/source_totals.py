"""What each source of a job used: device total, attributed and unattributed joules."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, and_, select

from harness_store.models import Agent, Run, RunEnergy, Source


@dataclass(frozen=True, slots=True)
class SourceTotal:
    """One source over one run of a job; attributed plus unattributed joules are the device's."""

    run_id: str
    agent: str
    source_id: str
    device_name: str
    role: str
    scope: str
    energy_source: str
    method: str
    attribution: str
    device_joules: float
    device_joules_low: float | None
    device_joules_high: float | None
    attributed_joules: float
    unattributed_joules: float
    coverage: float
    baseline_before_w: float | None
    baseline_after_w: float | None
    alpha: float | None
    alpha_standard_error: float | None
    flags: str
    final: bool

    @property
    def baseline_w(self) -> float | None:
        """Mean of the idle powers before and after, W."""
        known = [w for w in (self.baseline_before_w, self.baseline_after_w) if w is not None]
        return sum(known) / len(known) if known else None


def source_totals(connection: Connection, job_id: str) -> list[SourceTotal]:
    """Return the totals of each source and run of a job, those that the joules of its queries come from first."""
    r = RunEnergy
    query = (
        select(
            r.run_id,
            Agent.name.label("agent"),
            r.source_id,
            Source.device_name,
            r.role,
            r.scope,
            r.energy_source,
            r.method,
            r.attribution,
            r.device_joules,
            r.device_joules_low,
            r.device_joules_high,
            r.attributed_joules,
            r.unattributed_joules,
            r.coverage,
            r.baseline_before_w,
            r.baseline_after_w,
            r.alpha,
            r.alpha_standard_error,
            r.flags,
            r.final,
        )
        .join(Run, Run.run_id == r.run_id)
        .join(Agent, Agent.agent_id == Run.agent_id)
        .join(Source, and_(Source.agent_id == Run.agent_id, Source.source_id == r.source_id))
        .where(Run.job_id == job_id)
        .order_by(r.role.desc(), Agent.name, Run.created_realtime_ns, r.source_id)
    )
    return [SourceTotal(**row._mapping) for row in connection.execute(query)]
