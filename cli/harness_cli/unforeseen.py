"""What a failure that no command foresaw means to the person at the terminal."""

from __future__ import annotations

import errno

from harness_cli.failure import Failure, bad_input, unreachable, work_failed

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE}
"""What is no fault of the path that was named."""


def explain_unforeseen(error: Exception) -> Failure | None:
    """Return the failure of a full disk, a path that cannot be used, a locked or a damaged database, or None."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in _NO_ROOM:
            return work_failed(f"{where}{error.strerror}; what was being written is not whole")
        if where:
            return bad_input(f"{where}cannot be used: {error.strerror}")
    if isinstance(error, MemoryError):
        return work_failed("There is not enough memory for this")
    cause = _database_cause(error)
    if "database is locked" in cause:
        return unreachable("The database is locked by another program; try again when that one has finished")
    return unreachable(f"The database cannot be used: {cause}") if cause else None


def _database_cause(error: Exception) -> str:
    try:
        from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
    except ModuleNotFoundError:
        return ""
    if isinstance(error, SQLAlchemyError):
        original = getattr(error, "orig", None)
        damaged = "malformed" in str(original) or "readonly" in str(original)
        if damaged or isinstance(error, OperationalError | InterfaceError):
            return " ".join(str(original).split())
    return ""
