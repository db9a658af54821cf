"""`harness agent run`, and the group that the other commands of a machine belong to."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import click
from harness_coordinator.settings import DEFAULT_LISTEN

from harness_cli.agent_service import install_command, uninstall_command
from harness_cli.agent_telemetry import doctor, sample
from harness_cli.connection import check_addresses
from harness_cli.failure import bad_input
from harness_cli.finite_range import FiniteRange
from harness_cli.join_token import read_token
from harness_cli.labels import parse_labels
from harness_cli.state_directory import make_state_directory, state_directory

DEFAULT_POLL_HZ = 20.0


@click.group()
def agent() -> None:
    """Run or install an agent on this machine; see what it can measure."""


agent.add_command(doctor)
agent.add_command(sample)
agent.add_command(install_command)
agent.add_command(uninstall_command)


@agent.command()
@click.option(
    "--coordinator",
    envvar="HARNESS_COORDINATOR",
    default=DEFAULT_LISTEN,
    show_default=True,
    metavar="HOST:PORT",
    help="The coordinator to serve; several with commas where they share a database. [env: HARNESS_COORDINATOR]",
)
@click.option("--name", default=None, help="Name in the fleet; default: the host's name.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where the agent keeps its spool.")
@click.option(
    "--hz",
    default=DEFAULT_POLL_HZ,
    show_default=True,
    type=FiniteRange(0.1, 1000),
    help="Polls a second of a source whose own period is not known.",
)
@click.option(
    "--join-token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the join token, for the first start on a network. [env: HARNESS_JOIN_TOKEN holds it instead]",
)
@click.option(
    "--enrolment",
    default="",
    metavar="HOST:PORT",
    help="Where the coordinator takes join tokens; default: the port after --coordinator.",
)
def run(
    coordinator: str,
    name: str | None,
    labels: tuple[str, ...],
    state_dir: Path | None,
    hz: float,
    join_token_file: Path | None,
    enrolment: str,
) -> None:
    """Serve a coordinator until stopped: sample this machine's power and run the engines it leases."""
    from harness_agent.daemon import AgentConfig, AgentError, run_agent

    check_addresses(coordinator)
    folder = make_state_directory(state_dir or state_directory("agent"))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = AgentConfig(
        coordinator=coordinator,
        name=name or socket.gethostname(),
        labels=parse_labels(labels),
        state_dir=folder,
        poll_hz=hz,
        join_token=read_token(join_token_file),
        enrolment=enrolment,
    )
    try:
        code = run_agent(config)
    except AgentError as error:
        raise bad_input(str(error)) from None
    if code:
        raise click.exceptions.Exit(code)
