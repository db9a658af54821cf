"""The domains that queries are labelled with by occupation; their names lie in `occupations.yaml`."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml


@lru_cache(maxsize=1)
def occupations() -> tuple[str, ...]:
    """Return the 22 categories, and last the name of none of them (profiling paper, appendix B.1, tables 5 and 6)."""
    text = files("harness_analysis.datasets").joinpath("occupations.yaml").read_text(encoding="utf-8")
    # As text: `None` is a name here, and YAML has other words for null.
    data: dict[str, Any] = yaml.load(text, yaml.BaseLoader)  # noqa: S506 - builds nothing but text
    return (*data["categories"], data["no_category"])


def occupation_named(said: str) -> str | None:
    """Return the category that a text names, whatever its case, white space and last full stop; None if it is none."""
    return _by_plain_name().get(_plain(said))


@lru_cache(maxsize=1)
def _by_plain_name() -> dict[str, str]:
    return {_plain(name): name for name in occupations()}


def _plain(name: str) -> str:
    return " ".join(name.casefold().split()).rstrip(".")
