"""Text models without their libraries' own bars and remarks."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Switch the bars and remarks of transformers and sentence-transformers off inside."""
    hub: Any = importlib.import_module("transformers")
    had_bars, level = hub.utils.logging.is_progress_bar_enabled(), hub.utils.logging.get_verbosity()
    sentences = logging.getLogger("sentence_transformers")
    had_level = sentences.level
    hub.utils.logging.disable_progress_bar()
    hub.utils.logging.set_verbosity_error()
    sentences.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hub.utils.logging.set_verbosity(level)
        sentences.setLevel(had_level)
        if had_bars:
            hub.utils.logging.enable_progress_bar()
