"""Where a join token is read from: never an argument, which every user of the machine could see."""

from __future__ import annotations

import os
from pathlib import Path

from harness_cli.failure import bad_input

VARIABLE = "HARNESS_JOIN_TOKEN"


def read_token(file: Path | None) -> str:
    """Return the token of a file or of the environment, empty where there is none.

    Raises:
        Failure: the file is empty or cannot be read.
    """
    if file is None:
        return os.environ.get(VARIABLE, "").strip()
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise bad_input(f"--join-token-file {file}: cannot be read: {error}") from None
    if not token:
        raise bad_input(f"--join-token-file {file}: is empty; `harness token create` prints a token")
    return token
