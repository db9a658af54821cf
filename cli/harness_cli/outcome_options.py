"""Options and failures that every command about outcomes shares."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness_cli.failure import bad_input, unreachable
from harness_cli.output_file import OutputFile

if TYPE_CHECKING:
    from harness_analysis.outcomes import Outcomes

F = TypeVar("F", bound=Callable[..., Any])


def outcome_options(command: F) -> F:
    """Add the argument OUTCOMES and what chooses rows of it, passed on as `**source`."""
    for option in (
        click.option(
            "--energy", type=click.Choice(["measured", "estimated"]), help="Only answers with this energy."
        ),
        click.option(
            "--hardware", multiple=True, metavar="NAME", help="Only this hardware; patterns and repeats."
        ),
        click.option(
            "--models", multiple=True, metavar="ID", help="Only these models; patterns and repeats."
        ),
        click.option("--job", metavar="ID", help="Of a database: this job's answers only."),
        click.argument("outcomes", metavar="OUTCOMES"),
    ):
        command = option(command)
    return command


def cost_option(command: F) -> F:
    """Add `--cost`."""
    units = ("params", "tokens", "latency", "dollars", "price", "joules", "flops")
    return click.option(
        "--cost",
        "unit",
        type=click.Choice(units),
        default="params",
        show_default=True,
        help="What a query costs: the axis of budgets.",
    )(command)


table_file_option = click.option(
    "-o",
    "--output",
    type=OutputFile(),
    help="Write the table as .csv, .json or .parquet.",
)


def output_options(command: F) -> F:
    """Add `-o` and `--plot`."""
    plot = click.option("--plot", type=OutputFile(), help="Write the figure as .png, .svg, .pdf or .html.")
    return table_file_option(plot(command))


def open_source(
    outcomes: str, *, job: str | None, models: tuple[str, ...], hardware: tuple[str, ...], energy: str | None
) -> Outcomes:
    """Open OUTCOMES as the options ask."""
    from harness_analysis.outcomes import open_outcomes

    opened = open_outcomes(outcomes, job=job)
    return opened.select(models=models or None, hardware=hardware or None, energy=energy)


@contextlib.contextmanager
def plain_failures() -> Iterator[None]:
    """Turn what the analysis refuses into a sentence and an exit code."""
    from harness_analysis.errors import AnalysisError
    from harness_store.errors import StoreError

    try:
        yield
    except AnalysisError as error:
        raise bad_input(str(error)) from None
    except StoreError as error:
        raise unreachable(str(error)) from None


def say_left_out(notes: Iterable[str]) -> None:
    """Say on standard error which outcomes do not count, and why."""
    for note in notes:
        click.echo(f"Left out: {note}", err=True)


def check_figure(plot: Path | None) -> None:
    """Refuse a figure whose kind is not known, or that has no folder to lie in, before any work is done."""
    if plot is None:
        return
    if plot.suffix.lower() not in {".png", ".svg", ".pdf", ".html"}:
        raise bad_input(f"--plot {plot}: the file name must end in .png, .svg, .pdf or .html")
    if not plot.absolute().parent.is_dir():
        raise bad_input(f"--plot {plot}: there is no folder {plot.parent}")
