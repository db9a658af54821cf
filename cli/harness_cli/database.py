"""Reading a database directly, for the commands that take `--db`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from harness_cli.failure import bad_input, unreachable

T = TypeVar("T")


def read_database(url: str, read: Callable[[Any], T]) -> T:
    """Return `read(connection)` on a read-only connection.

    Raises:
        Failure: the database cannot be opened (exit code 3), or does not hold what was asked for (2).
    """
    from harness_store.database import open_store
    from harness_store.errors import StoreError, UnknownJobError

    try:
        store = open_store(url, create=False)
        try:
            with store.read() as connection:
                return read(connection)
        finally:
            store.close()
    except UnknownJobError as error:
        raise bad_input(str(error)) from None
    except StoreError as error:
        raise unreachable(str(error)) from None
