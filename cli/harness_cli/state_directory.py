"""Where a daemon keeps its files."""

from __future__ import annotations

import os
from pathlib import Path

from harness_cli.failure import bad_input


def state_directory(component: str) -> Path:
    """Return the default state directory of `agent` or `coordinator`, by the XDG rules."""
    base = os.environ.get("XDG_STATE_HOME")
    root = Path(base) if base else home_directory("give --state-dir") / ".local" / "state"
    return root / "joule-harness" / component


def home_directory(instead: str) -> Path:
    """Return this user's home directory.

    Args:
        instead: what names the folder where there is none, for the sentence that says so.

    Raises:
        Failure: HOME is not set and the system knows no user of this number, as in many containers.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise bad_input(f"this user has no home directory here; set HOME, or {instead}") from None


def make_state_directory(folder: Path) -> Path:
    """Create a state directory that only its owner reads; refuse one that cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise bad_input(f"--state-dir {folder}: cannot be created: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise bad_input(f"--state-dir {folder}: cannot be written to")
    return folder


def tls_directory(state_dir: Path) -> Path:
    """Return the folder of keys and certificates below a state directory."""
    return state_dir / "tls"


def own_database(database_url: str | None, state_dir: Path | None) -> str:
    """Return the database that an administrator's command works on: the one named, or the coordinator's default."""
    return database_url or f"sqlite:///{(state_dir or state_directory('coordinator')) / 'harness.db'}"
