"""What a judge of queries must offer to `clean`: anything callable with texts, a language model or not."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol, cast

from harness_analysis.errors import DatasetError

JUDGED_TOGETHER = 256
"""Texts handed to a judge in one call; how many of them it asks about at once is its own business. A judge for which
each call is a job of its own names its own number as its attribute `together`."""


class QueryJudge(Protocol):
    """Tells which queries are malformed, nonsensical or unintelligible (TrafficBench, appendix B.1)."""

    def __call__(self, prompts: Sequence[str], /) -> Sequence[str | None]:
        """Return for each prompt why it should go, None where it may stay."""
        ...


def load_judge(name: str) -> QueryJudge:
    """Return the callable that `MODULE:NAME` names.

    Raises:
        DatasetError: there is none.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise DatasetError(f"a judge is named MODULE:CALLABLE, not {name!r}")
    try:
        judge: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise DatasetError(f"the judge {name} cannot be loaded: {error}") from None
    if not callable(judge):
        raise DatasetError(f"the judge {name} cannot be called")
    return cast(QueryJudge, judge)
