"""Late samples: runs whose joules were computed without all samples, and what has arrived for them since."""

from __future__ import annotations

import json

from sqlalchemy import Connection, func, select, update

from harness_store.models import Run, RunEnergy, SampleSegment

COMPUTED = ("final", "failed")


def reopen_where_samples_arrived(connection: Connection, *, now_ns: int, quiet_ns: int) -> list[str]:
    """Mark runs to be computed again for which samples arrived after their joules were computed.

    Only runs that were computed with something missing are looked at (their `energy_reason` says what), and only
    once nothing more has arrived for `quiet_ns`: a spool that is replayed leads to one recomputation, not to many.

    Args:
        connection: in a transaction.
        now_ns: realtime.
        quiet_ns: how long nothing must have arrived.

    Returns:
        The runs that are pending again.
    """
    reopened: list[str] = []
    incomplete = select(
        Run.run_id, Run.agent_id, Run.boot_id, Run.clock_id, Run.start_ns, Run.end_ns, Run.source_ids_json,
        Run.host_source_ids_json, Run.over_realtime_ns,
    ).where(Run.energy_state.in_(COMPUTED), Run.energy_reason.is_not(None), Run.start_ns.is_not(None))  # fmt: skip
    for run in connection.execute(incomplete).all():
        computed_ns = connection.execute(
            select(func.max(RunEnergy.computed_realtime_ns)).where(RunEnergy.run_id == run.run_id)
        ).scalar()
        since_ns = max(computed_ns or 0, run.over_realtime_ns or 0)
        sources = json.loads(run.source_ids_json or "[]") + json.loads(run.host_source_ids_json or "[]")
        arrived = select(func.max(SampleSegment.stored_realtime_ns)).where(
            SampleSegment.agent_id == run.agent_id,
            SampleSegment.source_id.in_(sources),
            SampleSegment.clock_id == run.clock_id,
            SampleSegment.end_ns >= run.start_ns,
            SampleSegment.stored_realtime_ns > since_ns,
        )
        if run.end_ns is not None:
            arrived = arrived.where(SampleSegment.start_ns <= run.end_ns)
        else:
            # Its agent was killed: the run ends with that process, and what the next one samples is none of it.
            arrived = arrived.where(SampleSegment.boot_id == run.boot_id)
        newest_ns = connection.execute(arrived).scalar()
        if newest_ns is not None and newest_ns < now_ns - quiet_ns:
            connection.execute(
                update(Run).where(Run.run_id == run.run_id).values(energy_state="pending", energy_reason=None)
            )
            reopened.append(run.run_id)
    return reopened
