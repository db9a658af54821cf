"""Options of routers that train a text model, and how far their training is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness_cli.finite_range import FiniteRange
from harness_cli.output import console

if TYPE_CHECKING:
    from harness_analysis.routing.catalogue import Tuning

F = TypeVar("F", bound=Callable[..., Any])


def tuning_options(command: F) -> F:
    """Add what changes the training of encoders and decoders; other routers ignore it."""
    for option in (
        click.option("--batch", type=click.IntRange(min=1), help="Of encoders and decoders. Default: 64."),
        click.option(
            "--learning-rate",
            type=FiniteRange(min=0, min_open=True),
            help="Of encoders and decoders. Default: 5e-6.",
        ),
        click.option(
            "--epochs", type=click.IntRange(min=1), help="Of encoders (default: 10) and decoders (5)."
        ),
    ):
        command = option(command)
    return command


@contextlib.contextmanager
def tuning_from(epochs: int | None, learning_rate: float | None, batch: int | None) -> Iterator[Tuning]:
    """Return what the options ask; inside, training shows a bar on a terminal and a line per epoch elsewhere."""
    with tuning_and_turns(epochs, learning_rate, batch) as (tuning, _):
        yield tuning


@contextlib.contextmanager
def turns_shown(turns: int) -> Iterator[Callable[[str], None]]:
    """Return a function that is told what begins: a bar on a terminal, a line each elsewhere."""
    with tuning_and_turns(None, None, None, turns) as (_, begin):
        yield begin


@contextlib.contextmanager
def tuning_and_turns(
    epochs: int | None, learning_rate: float | None, batch: int | None, turns: int | None = None
) -> Iterator[tuple[Tuning, Callable[[str], None]]]:
    """Return what the options ask, and a function that is told what begins: a router, or what follows the last one.

    Inside, a terminal shows one bar over the turns, with the time that has passed, and one over the steps of a router
    that trains; elsewhere each turn and each epoch is a line.

    Args:
        epochs: as asked.
        learning_rate: as asked.
        batch: as asked.
        turns: how many there will be; None where nobody knows.
    """
    from harness_analysis.routing.catalogue import Tuning

    if not sys.stderr.isatty():
        shown = ""

        def say(_done: int, _total: int, note: str) -> None:
            nonlocal shown
            if note and note != shown:
                click.echo(f"  {note}", err=True)
            shown = note

        yield Tuning(epochs, learning_rate, batch, say), lambda what: click.echo(f"{what} ...", err=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        bars: dict[str, Any] = {}

        def move(done: int, total: int, note: str) -> None:
            if "steps" not in bars:
                bars["steps"] = progress.add_task(note, total=total)
            progress.update(bars["steps"], completed=done, total=total, description=f"  {note}", visible=True)

        def begin(what: str) -> None:
            if "turns" not in bars:
                bars["turns"] = progress.add_task(what, total=turns)
                progress.update(bars["turns"], description=what)
                return
            progress.update(bars["turns"], advance=1, description=what)
            if "steps" in bars:
                progress.remove_task(bars.pop("steps"))

        yield Tuning(epochs, learning_rate, batch, move), begin
