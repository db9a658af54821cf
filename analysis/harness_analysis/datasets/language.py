"""Is a query English? py3langid answers offline; what has too little text to tell is kept."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from harness_analysis.errors import DatasetError

ENGLISH = "en"
MAX_CHARACTERS = 2_000
"""Looked at: more does not change the answer and costs 0.2 us a character."""

LIKELY = 0.3
"""Probability that another language needs. Related languages share that of a short text: 0.38 Spanish and 0.32
Galician is not English."""

UNLIKELY = 0.01
"""Probability that English must lie below besides: of "Same question?" French has 0.30 and English 0.08."""


def foreign_language(text: str) -> str | None:
    """Return the code of the language a text is in, None where it is English or cannot be told.

    Raises:
        DatasetError: py3langid is not installed.
    """
    ranked = _identifier().rank(text[:MAX_CHARACTERS])
    language, probability = ranked[0]
    if probability < LIKELY or dict(ranked)[ENGLISH] >= UNLIKELY:
        return None
    return language


@cache
def _identifier() -> Any:
    try:
        langid = importlib.import_module("py3langid.langid")
    except ImportError:
        raise DatasetError(
            "telling languages apart needs py3langid: pip install 'joule-harness[analysis]', or leave the step"
            " out with --skip english"
        ) from None
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
