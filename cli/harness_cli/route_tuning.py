"""Options of routers that train a text model, and how far their training is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness_cli.output import console

if TYPE_CHECKING:
    from harness_analysis.routing.catalogue import Tuning

F = TypeVar("F", bound=Callable[..., Any])


def tuning_options(command: F) -> F:
    """Add what changes the training of encoders and decoders; other routers ignore it."""
    for option in (
        click.option("--batch", type=click.IntRange(min=1), help="Of encoders and decoders. Default: 64."),
        click.option("--learning-rate", type=float, help="Of encoders and decoders. Default: 5e-6."),
        click.option(
            "--epochs", type=click.IntRange(min=1), help="Of encoders (default: 10) and decoders (5)."
        ),
    ):
        command = option(command)
    return command


@contextlib.contextmanager
def tuning_from(epochs: int | None, learning_rate: float | None, batch: int | None) -> Iterator[Tuning]:
    """Return what the options ask; inside, training shows a bar on a terminal and a line per epoch elsewhere."""
    from harness_analysis.routing.catalogue import Tuning

    if not sys.stderr.isatty():
        shown = ""

        def say(_done: int, _total: int, note: str) -> None:
            nonlocal shown
            if note and note != shown:
                click.echo(f"  {note}", err=True)
            shown = note

        yield Tuning(epochs, learning_rate, batch, say)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        bar: Any = None

        def move(done: int, total: int, note: str) -> None:
            nonlocal bar
            if bar is None:
                bar = progress.add_task(note, total=total)
            progress.update(bar, completed=done, total=total, description=note)

        yield Tuning(epochs, learning_rate, batch, move)
