"""How commands fail: one plain sentence on stderr and the exit code that says what kind of failure it is."""

from __future__ import annotations

import click

EXIT_WORK_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_UNREACHABLE = 3


class Failure(click.ClickException):
    """A failure with a sentence for people; shown without a traceback."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def work_failed(message: str) -> Failure:
    """Return the failure of work that was asked for correctly (exit code 1)."""
    return Failure(message, EXIT_WORK_FAILED)


def bad_input(message: str) -> Failure:
    """Return the failure of a wrong command, file or field (exit code 2)."""
    return Failure(message, EXIT_BAD_INPUT)


def unreachable(message: str) -> Failure:
    """Return the failure to reach, or to be admitted by, a coordinator or a database (exit code 3)."""
    return Failure(message, EXIT_UNREACHABLE)
