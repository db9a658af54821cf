"""Exact match: is an answer the expected one, but for case, punctuation, articles and the words around it?"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation

BETWEEN_REFERENCES = " | "
"""Separates answers of which each is accepted."""

YES_OR_NO = frozenset({"yes", "no", "true", "false"})

# 1,234.5  12  .5  -3  1e5; a sign counts only where no word or number stands before it (not in "7-5" or "A-1").
_NUMBER = re.compile(
    r"(?<![\w.])(?:(?<![\d)])[-−])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-+]?\d+)?(?![\w])"
)
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_MARKED = re.compile(r"(?:\banswer\s*(?:is|:|=)\s*:?|####)\s*([^\n]+)", re.IGNORECASE)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_BEFORE_NUMBER = re.compile(r"^[$€£\s]+")
_AFTER_NUMBER = re.compile(r"[%\s.°]+$")
_SIGN = re.compile(r"^[-−]?\s*[$€£]?")
_CHOICE = re.compile(r"[A-J]")
_CHOICES_IN_TEXT = (
    re.compile(r"^\W*([A-J])\W*$", re.IGNORECASE),
    re.compile(r"^\W*([A-J])\s*[.):,]"),
    re.compile(r"\b(?:option|choice|answer)\s*(?:is|:|=)?\s*\(?([A-J])\b(?!\s+[a-z])", re.IGNORECASE),
    re.compile(r"\(([A-J])\)"),
    re.compile(r"\b([B-HJ])\b(?!')"),
)


def exact_match(response: str, reference: str | None) -> bool | None:
    """Judge an answer.

    A reference that is a number is compared with the last number of the answer, by value: 1,234 is $1234.00.
    A single capital letter from A to J is a choice: the answer may give it as "B", "(B)", "B. Paris" or "The
    answer is B". For yes, no, true and false the first such word counts. Anything else must be the whole answer,
    or what follows "the answer is", but for case, punctuation, articles and white space.

    Args:
        response: what the model said.
        reference: the expected answer; several accepted ones are separated by " | ".

    Returns:
        None where there is no reference to judge by.
    """
    if reference is None or not reference.strip():
        return None
    return any(_matches(response, one.strip()) for one in reference.split(BETWEEN_REFERENCES) if one.strip())


def normalised(text: str) -> str:
    """Return text in lower case without accents of form, punctuation, articles and double spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = "".join(" " if unicodedata.category(c)[0] in "PSZC" else c for c in folded)
    without_articles = " ".join(_ARTICLES.sub(" ", bare).split())
    # "A" and "The" may be the answer themselves.
    return without_articles or " ".join(bare.split())


def last_number(text: str) -> Decimal | None:
    """Return the value of the last number in a text: boxed or after #### where there is such, else anywhere."""
    # Most texts have neither mark: to look for one is a tenth of searching for its pattern.
    boxed = _BOXED.findall(text)[-1:] if "\\boxed{" in text else []
    hashed = [part.strip().split("\n")[0] for part in text.rsplit("####", 1)[1:]] if "####" in text else []
    for part in (*boxed, *hashed, text):
        found = _NUMBER.findall(part)
        if found:
            return _value(found[-1])
    return None


def number_of(text: str) -> Decimal | None:
    """Return the value of a text that is a number and nothing else, but for $, %, and thousands separators."""
    if text.isascii() and text.isdecimal():
        return _value(text)
    bare = _AFTER_NUMBER.sub("", _BEFORE_NUMBER.sub("", text.strip().removeprefix("+")))
    negative = bare.startswith(("-", "−"))
    bare = _SIGN.sub("", bare)
    if not _NUMBER.fullmatch(bare):
        return None
    value = _value(bare)
    return -value if negative and value is not None else value


def chosen_letter(response: str) -> str | None:
    """Return the option from A to J that an answer picks, None where it picks none."""
    text = re.sub(r"[*_`]", "", response).strip()
    for part in (*_BOXED.findall(text)[-1:], *_MARKED.findall(text)[-1:], text):
        for pattern in _CHOICES_IN_TEXT[:2] if part is not text else _CHOICES_IN_TEXT:
            found = pattern.findall(part)
            if found:
                return found[-1].upper()
    return None


def _matches(response: str, reference: str) -> bool:
    expected = number_of(reference)
    if expected is not None:
        return last_number(response) == expected
    if _CHOICE.fullmatch(reference):
        return chosen_letter(response) == reference
    wanted = normalised(reference)
    if wanted in YES_OR_NO:
        return next((word for word in normalised(response).split() if word in YES_OR_NO), None) == wanted
    said = [response, *_BOXED.findall(response)[-1:], *_MARKED.findall(response)[-1:]]
    return any(normalised(text) == wanted for text in said)


def _value(text: str) -> Decimal | None:
    try:
        return Decimal(text.replace(",", "").replace("−", "-"))
    except InvalidOperation:
        return None
