"""`harness login`: a certificate for the person at this terminal."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

import click
from harness_agent.enrolment import enrol
from harness_agent.errors import EnrolmentError

from harness_cli.connection import coordinator_option, credentials_folder
from harness_cli.failure import bad_input, unreachable
from harness_cli.join_token import read_token


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise bad_input("this user has no name on this machine; give --name") from None


@click.command()
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the join token; default: asked for, or read from a pipe. [env: HARNESS_JOIN_TOKEN is the token]",
)
@click.option("--name", default=_user_name, help="Your name in the fleet; default: your user name here.")
@click.option(
    "--enrolment",
    metavar="HOST:PORT",
    help="Where the coordinator takes join tokens; default: the port after --coordinator.",
)
@coordinator_option
def login(token_file: Path | None, name: str, enrolment: str | None, coordinator: str) -> None:
    """Turn a join token into your certificate for a coordinator, used by every later command."""
    host, _, port = coordinator.rpartition(":")
    if not port.isdigit():
        raise bad_input(f"--coordinator takes HOST:PORT, not {coordinator!r}")
    token = read_token(token_file) or _asked_token()
    folder = credentials_folder(coordinator)
    try:
        kept = enrol(folder, enrolment or f"{host}:{int(port) + 1}", token, name=name)
    except EnrolmentError as error:
        raise unreachable(str(error)) from None
    click.echo(f"certificate for {coordinator} in {folder}, valid until {kept.ends:%Y-%m-%d %H:%M} UTC")


def _asked_token() -> str:
    """Ask for the token at a terminal; elsewhere it is the first line of standard input.

    Raises:
        Failure: nothing came.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        return click.prompt("join token", hide_input=True, err=True)
    token = "" if sys.stdin is None else sys.stdin.readline().strip()
    if not token:
        raise bad_input("no join token came on standard input; give --token-file, or HARNESS_JOIN_TOKEN")
    return token
