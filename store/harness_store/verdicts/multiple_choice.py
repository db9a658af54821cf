"""Multiple choice: does an answer pick the expected option?"""

from __future__ import annotations

import re

from harness_store.verdicts.exact_match import BETWEEN_REFERENCES, chosen_letter, normalised

_EXPECTED = re.compile(r"^\W*([A-J])(?:\W*$|\s*[.):,]\s*(.+)$)", re.DOTALL)


def multiple_choice(response: str, reference: str | None) -> bool | None:
    """Judge an answer to a question with lettered options from A to J.

    The answer may give the letter in any form that `exact_match` knows, or, where the reference carries the option's
    text too ("B. Paris"), that text alone. An answer that picks no option is wrong.

    Args:
        response: what the model said.
        reference: the expected letter, alone or with its text; several accepted ones are separated by " | ".

    Returns:
        None where the reference names no option.
    """
    expected = [_EXPECTED.match(one.strip()) for one in (reference or "").split(BETWEEN_REFERENCES)]
    options = [(m.group(1), m.group(2)) for m in expected if m is not None]
    if not options:
        return None
    said = chosen_letter(response)
    whole = normalised(response)
    return any(said == letter or (text and normalised(text) == whole) for letter, text in options)
