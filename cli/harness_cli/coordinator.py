"""`harness coordinator run`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click
from harness_coordinator.settings import DEFAULT_LISTEN, HEARTBEAT_S, LEASE_S, CoordinatorSettings

from harness_cli.failure import bad_input, unreachable
from harness_cli.state_directory import make_state_directory, state_directory


@click.group()
def coordinator() -> None:
    """Run the coordinator."""


@coordinator.command()
@click.option(
    "--db",
    "database_url",
    envvar="HARNESS_DB",
    metavar="URL",
    help="sqlite:///FILE or postgresql://...; default: harness.db in the state directory. [env: HARNESS_DB]",
)
@click.option(
    "--listen", default=DEFAULT_LISTEN, show_default=True, metavar="HOST:PORT", help="Port 0: any free one."
)
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where the coordinator keeps its files.")
@click.option(
    "--heartbeat-s",
    default=HEARTBEAT_S,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Between agents' heartbeats.",
)
@click.option(
    "--lease-s",
    default=LEASE_S,
    show_default=True,
    type=click.FloatRange(0.5),
    help="A task is given back after this silence.",
)
def run(
    database_url: str | None, listen: str, state_dir: Path | None, heartbeat_s: float, lease_s: float
) -> None:
    """Serve agents and people until stopped."""
    from harness_coordinator.server import ListenError, serve
    from harness_store.errors import StoreError

    if lease_s < 2 * heartbeat_s:
        raise bad_input(f"--lease-s {lease_s:g} must be at least twice --heartbeat-s {heartbeat_s:g}")
    folder = make_state_directory(state_dir or state_directory("coordinator"))
    settings = CoordinatorSettings(
        database_url=database_url or f"sqlite:///{folder / 'harness.db'}",
        listen=listen,
        state_dir=folder,
        heartbeat_s=heartbeat_s,
        lease_s=lease_s,
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)

    def ready(address: str) -> None:
        click.echo(f"listening on {address}, database {settings.database_url}")

    try:
        asyncio.run(serve(settings, on_ready=ready))
    except ListenError as error:
        raise bad_input(str(error)) from None
    except StoreError as error:
        raise unreachable(str(error)) from None
