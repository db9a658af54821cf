"""`harness agent install` and `uninstall`: the agent as a service of this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from harness_agent.errors import AgentError
from harness_agent.installation import Settings, install, plan_installation, uninstall

from harness_cli.connection import check_addresses
from harness_cli.failure import unreachable
from harness_cli.join_token import read_token
from harness_cli.labels import parse_labels

DEFAULT_USER = "joule-harness"


@click.command("install")
@click.option("--coordinator", envvar="HARNESS_COORDINATOR", required=True, metavar="HOST:PORT")
@click.option("--name", default="", help="Name in the fleet; default: the host's name.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@click.option(
    "--join-token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="For the first start.",
)
@click.option("--enrolment", default="", metavar="HOST:PORT", help="Default: the port after --coordinator.")
@click.option(
    "--user",
    default=DEFAULT_USER,
    show_default=True,
    help="Account of the service on Linux; made when absent.",
)
@click.option("--dry-run", is_flag=True, help="Print the files and commands, and do nothing.")
def install_command(
    coordinator: str,
    name: str,
    labels: tuple[str, ...],
    join_token_file: Path | None,
    enrolment: str,
    user: str,
    dry_run: bool,
) -> None:
    """Install the agent as a systemd service (Linux) or launchd daemon (macOS) and start it."""
    check_addresses(coordinator)
    parse_labels(labels)
    token = read_token(join_token_file)
    settings = Settings(
        coordinator, user, name, labels, enrolment, "(the join token)" if dry_run and token else token
    )
    try:
        plan = plan_installation(settings)
        if dry_run:
            for file in plan.files:
                click.echo(f"--- {file.path} (mode {file.mode:o})\n{file.text}")
            for command in plan.commands:
                click.echo(f"$ {shlex.join(command)}")
            return
        install(plan)
    except AgentError as error:
        raise unreachable(str(error)) from None
    click.echo("installed and started; `harness agent doctor` looks at it, `harness agents` lists it")


@click.command("uninstall")
def uninstall_command() -> None:
    """Stop the service and remove its files; the agent's identity and what it has not yet sent stay."""
    try:
        gone = uninstall()
    except AgentError as error:
        raise unreachable(str(error)) from None
    click.echo("\n".join(f"removed {path}" for path in gone) if gone else "no service was installed")
