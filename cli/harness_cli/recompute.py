"""`harness recompute`: a job's joules made again from the stored samples."""

from __future__ import annotations

import click
from harness_coordinator.energy.measure import ATTRIBUTIONS
from harness_proto.v1 import jobs_pb2

from harness_cli.connection import coordinator_option, database_option, jobs_stub
from harness_cli.failure import bad_input, unreachable
from harness_cli.output import significant

TIMEOUT_S = 3600.0


@click.command()
@click.argument("job", metavar="JOB")
@click.option(
    "--attribution",
    type=click.Choice(ATTRIBUTIONS),
    help="How overlapping queries share; default: as the job asked.",
)
@coordinator_option
@database_option
def recompute(job: str, attribution: str | None, coordinator: str, database_url: str | None) -> None:
    """Make every energy row of JOB again; doing it twice leaves the same rows."""
    if database_url:
        reply = _in_database(database_url, job, attribution)
    else:
        with jobs_stub(coordinator) as stub:
            reply = stub.Recompute(
                jobs_pb2.RecomputeRequest(job_id=job, attribution=attribution or ""), timeout=TIMEOUT_S
            )
    click.echo(
        f"{reply.rows} rows of {reply.runs} runs made again, {significant(reply.device_joules, 6)} J of the devices"
    )
    for note in reply.notes:
        click.echo(f"note: {note}", err=True)


def _in_database(url: str, job: str, attribution: str | None) -> jobs_pb2.RecomputeReply:
    from harness_coordinator.recompute import recompute_job
    from harness_store.database import open_store
    from harness_store.errors import StoreError, UnknownJobError

    try:
        store = open_store(url, create=False)
        try:
            with store.begin() as connection:
                done = recompute_job(connection, job, attribution)
        finally:
            store.close()
    except UnknownJobError as error:
        raise bad_input(str(error)) from None
    except StoreError as error:
        raise unreachable(str(error)) from None
    return jobs_pb2.RecomputeReply(
        runs=done.runs, rows=done.rows, device_joules=done.device_joules, notes=done.notes
    )
