"""`harness coordinator run` and `harness coordinator init`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import click
from harness_coordinator.settings import (
    CERTIFICATE_DAYS,
    DEFAULT_LISTEN,
    HEARTBEAT_S,
    LEASE_S,
    CoordinatorSettings,
)

from harness_cli.failure import bad_input, unreachable
from harness_cli.finite_range import FiniteRange
from harness_cli.state_directory import make_state_directory, state_directory, tls_directory


@click.group()
def coordinator() -> None:
    """Run the coordinator; make its certificates."""


@coordinator.command()
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where the coordinator keeps its files.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A further name or address in the certificate, for other TLS clients.",
)
@click.option(
    "--authority-from",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="State directory of another coordinator: serve its fleet with the same authority.",
)
def init(state_dir: Path | None, hosts: tuple[str, ...], authority_from: Path | None) -> None:
    """Make the fleet's certificate authority, which turns TLS on at the next `coordinator run`."""
    from harness_coordinator.authority import Authority, AuthorityError

    folder = tls_directory(make_state_directory(state_dir or state_directory("coordinator")))
    try:
        if authority_from is None:
            authority = Authority.create(folder)
        else:
            authority = Authority.copy(tls_directory(authority_from), folder)
        authority.server_files(hosts)
    except AuthorityError as error:
        raise bad_input(str(error)) from None
    click.echo(f"certificate authority in {folder}; keep ca-key.pem there private and backed up")
    click.echo("next: harness coordinator run --listen 0.0.0.0:7411, then harness token create --role agent")


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
    type=FiniteRange(0.1),
    help="Between agents' heartbeats.",
)
@click.option(
    "--lease-s",
    default=LEASE_S,
    show_default=True,
    type=FiniteRange(0.5),
    help="A task is given back after this silence.",
)
@click.option(
    "--listen-enrolment",
    metavar="HOST:PORT",
    help="Where join tokens are taken, with TLS; default: the port after --listen.",
)
@click.option(
    "--certificate-days",
    default=CERTIFICATE_DAYS,
    show_default=True,
    type=FiniteRange(min=0, min_open=True),
    help="Life of the certificates given to clients; they renew in its last third.",
)
def run(
    database_url: str | None,
    listen: str,
    state_dir: Path | None,
    heartbeat_s: float,
    lease_s: float,
    listen_enrolment: str | None,
    certificate_days: float,
) -> None:
    """Serve agents and people until stopped; with TLS once `harness coordinator init` was run."""
    from harness_coordinator.authority import Authority, AuthorityError
    from harness_coordinator.server import ListenError, Listening, serve
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
        tls_dir=tls_directory(folder) if Authority.exists(tls_directory(folder)) else None,
        listen_enrolment=listen_enrolment,
        certificate_days=certificate_days,
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)

    def ready(listening: Listening) -> None:
        tls = f"TLS, join tokens at {listening.enrolment}" if listening.enrolment else "no TLS"
        click.echo(f"listening on {listening.address}, {tls}, database {shown_url(settings.database_url)}")

    try:
        asyncio.run(serve(settings, on_ready=ready))
    except (ListenError, AuthorityError) as error:
        raise bad_input(str(error)) from None
    except StoreError as error:
        raise unreachable(str(error)) from None


def shown_url(url: str) -> str:
    """Return a database URL without its password."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, user = head.partition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{tail}" if at else url
