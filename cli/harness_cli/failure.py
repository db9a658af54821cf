"""How commands fail: one plain sentence on stderr and the exit code that says what kind of failure it is."""

from __future__ import annotations

import click

EXIT_WORK_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_UNREACHABLE = 3


class Failure(click.ClickException):
    """A failure with a sentence for people; shown without a traceback. This one: the work failed."""

    exit_code = EXIT_WORK_FAILED


class BadInput(Failure):
    """A wrong command, file or field."""

    exit_code = EXIT_BAD_INPUT


class Unreachable(Failure):
    """A coordinator or a database cannot be reached, or does not admit the caller."""

    exit_code = EXIT_UNREACHABLE


def work_failed(message: str) -> Failure:
    """Return the failure of work that was asked for correctly (exit code 1)."""
    return Failure(message)


def bad_input(message: str) -> Failure:
    """Return the failure of a wrong command, file or field (exit code 2)."""
    return BadInput(message)


def unreachable(message: str) -> Failure:
    """Return the failure to reach, or to be admitted by, a coordinator or a database (exit code 3)."""
    return Unreachable(message)
