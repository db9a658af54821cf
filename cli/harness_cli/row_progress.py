"""Progress over rows: a bar or a counter on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness_cli.output import console

LINE_EVERY_ROWS = 100_000


@contextlib.contextmanager
def row_progress(
    total: int | None = None, line_every_rows: int = LINE_EVERY_ROWS
) -> Iterator[Callable[[str, int], None]]:
    """Give a function that is told what was done to how many more rows.

    Args:
        total: rows that each step goes over, None where nobody knows.
        line_every_rows: between plain lines.
    """
    if not sys.stderr.isatty():
        yield _Lines(line_every_rows).advance
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True)) as progress:
        bars: dict[str, object] = {}

        def advance(step: str, rows: int) -> None:
            if step not in bars:
                bars[step] = progress.add_task(step, total=total)
            progress.advance(bars[step], rows)  # pyright: ignore[reportArgumentType]

        yield advance


class _Lines:
    def __init__(self, every: int) -> None:
        self._every = every
        self._rows: dict[str, int] = {}

    def advance(self, step: str, rows: int) -> None:
        before = self._rows.get(step, 0)
        self._rows[step] = before + rows
        if self._rows[step] // self._every > before // self._every:
            click.echo(f"{step}: {self._rows[step]:,} rows", err=True)
