"""Progress of judging: a bar on a terminal, plain lines elsewhere, with what it has cost so far."""

from __future__ import annotations

import sys
import time
from types import TracebackType

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness_cli.output import console

LINE_EVERY_S = 5.0


class JudgingProgress:
    """Shows how far judging is."""

    def __init__(self, method: str, total: int) -> None:
        self._method, self._total, self._done = method, total, 0
        self._next_line_s = time.monotonic() + LINE_EVERY_S
        self._bar: Progress | None = None

    def __enter__(self) -> JudgingProgress:
        if sys.stderr.isatty():
            parts = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
            self._bar = Progress(TextColumn(self._method), *parts, console=console(stderr=True))
            self._bar.start()
            self._bar.add_task("", total=self._total)
        return self

    def advance(self, count: int, cost: str = "") -> None:
        """Say that so many more were judged."""
        self._done += count
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, description=cost)
        elif time.monotonic() >= self._next_line_s:
            click.echo(f"{self._method}: {self._done}/{self._total} judged {cost}".rstrip(), err=True)
            self._next_line_s = time.monotonic() + LINE_EVERY_S

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
