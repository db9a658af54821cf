"""The interpreter that runs an engine, and what is installed there, told without starting it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from harness_backends.engines.errors import EngineUnavailableError
from harness_backends.home_folder import expanded


def find_interpreter(named: str, variable: str) -> str:
    """Return the interpreter that runs an engine.

    Args:
        named: what `engine_args: {python: ...}` names; empty: nothing.
        variable: environment variable of the agent that names the one to use otherwise; where it is not set
            either, the agent's own interpreter is returned.

    Raises:
        EngineUnavailableError: there is no such program.
    """
    where, wanted = "engine_args: `python`", named
    if not named:
        where, wanted = f"the agent's {variable}", os.environ.get(variable, "")
    if not wanted:
        return sys.executable
    path = shutil.which(expanded(wanted))
    if path is None:
        raise EngineUnavailableError(f"{where} names {wanted}, which is no program on this machine.")
    # Engines run in a folder of their run; a virtual environment is found by its unresolved path.
    return str(Path(path).absolute())


def installed_version(interpreter: str, distributions: Iterable[str]) -> str:
    """Return `NAME VERSION` of the first of these distributions that the interpreter has, else an empty text.

    Another interpreter's packages are looked for where virtual environments and installations keep them.
    """
    own = interpreter == sys.executable
    folders = sys.path if own else [str(folder) for folder in _package_folders(Path(interpreter))]
    for name in distributions:
        found = list(importlib.metadata.distributions(name=name, path=folders))
        if found:
            return f"{name} {found[0].version}"
    return ""


def _package_folders(interpreter: Path) -> list[Path]:
    prefixes = {interpreter.parent.parent, interpreter.resolve().parent.parent}
    return [
        folder
        for prefix in prefixes
        for pattern in ("lib*/python3*/site-packages", "lib*/python3*/dist-packages")
        for folder in prefix.glob(pattern)
    ]
