"""Options of every command that asks judges."""

from __future__ import annotations

from pathlib import Path

import click

from harness_cli.finite_range import FiniteRange

judges_option = click.option(
    "--judges",
    "judges_file",
    type=click.Path(path_type=Path),
    envvar="HARNESS_JUDGES",
    default=Path("judges.yaml"),
    show_default=True,
    help="The file that says who the judges are. [env: HARNESS_JUDGES]",
)
budget_option = click.option(
    "--budget",
    "budget_usd",
    type=FiniteRange(min=0),
    metavar="USD",
    help="Spend at most this on judges.",
)
