"""The file that a command writes: a new file, or an older one that the new one takes the place of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


class OutputFile(click.Path):
    """A path to write to. Files are written whole and then renamed, which would replace a device by a file."""

    def __init__(self, *, dir_okay: bool = False) -> None:
        """Take a file's name, or with `dir_okay` a folder's too."""
        super().__init__(dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or refuse one without a name and one of a device or pipe."""
        if not str(value):
            self.fail("the name is empty.", param, ctx)
        path = Path(value)
        try:
            special = path.exists() and not path.is_file() and not path.is_dir()
        except OSError:  # the command says why it cannot be written
            special = False
        if special:
            self.fail(f"{path} is a device or a pipe; name a file.", param, ctx)
        return super().convert(value, param, ctx)
