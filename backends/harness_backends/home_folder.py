"""`~` in a path, for users who may have no home directory, as in many containers."""

from __future__ import annotations

from pathlib import Path


def expanded(path: str | Path) -> Path:
    """Return a path with `~` expanded, or as it is where this user has no home directory: nothing is found there."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
