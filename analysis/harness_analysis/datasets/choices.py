"""Questions with choices: lettered options below the question, and the reference a capital letter."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

MAX_CHOICES = 10
"""A to J: what exact match takes for a choice."""


class RowError(Exception):
    """A row that cannot become a query."""

    def __init__(self, column: str, what: str) -> None:
        super().__init__(f"`{column}` {what}")
        self.column = column


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of one question, in the order they are shown, and the labels the file gives them."""

    texts: Sequence[str]
    labels: Sequence[str]

    def below(self, question: str) -> str:
        """Return the question with its lettered choices below it."""
        options = "\n".join(f"{ascii_uppercase[at]}. {text}" for at, text in enumerate(self.texts))
        return f"{question}\n\n{options}"


def read_choices(value: Any, column: str) -> Choices:
    """Return the choices of a row: a list of texts, {text: [...], label: [...]}, or [{text, label}, ...].

    Raises:
        RowError: something else, fewer than two or more than ten, or an empty one.
    """
    labels: list[Any] | None = None
    if isinstance(value, dict):
        labels, value = value.get("label"), value.get("text")
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        labels, value = [item.get("label") for item in value], [item.get("text") for item in value]
    if not isinstance(value, list):
        raise RowError(column, "must be a list of choices")
    texts = ["" if item is None else str(item).strip() for item in value]
    if not 2 <= len(texts) <= MAX_CHOICES:
        raise RowError(column, f"has {len(texts)} choices; 2 to {MAX_CHOICES} can be lettered")
    if not all(texts):
        raise RowError(column, f"has an empty choice at position {texts.index('') + 1}")
    if labels is None:
        labels = list(ascii_uppercase[: len(texts)])
    if not isinstance(labels, list) or len(labels) != len(texts):
        raise RowError(column, "has not one label for each choice")
    return Choices(texts, [str(label) for label in labels])


def shuffled(choices: Choices, question: str) -> Choices:
    """Return the choices in an order that follows from the question, the same at every import."""
    seed = int.from_bytes(hashlib.sha256(question.encode("utf-8", "replace")).digest()[:8], "big")
    order = list(range(len(choices.texts)))
    random.Random(seed).shuffle(order)  # noqa: S311 - an order, no secret
    return Choices([choices.texts[at] for at in order], [choices.labels[at] for at in order])


def letter_of(choices: Choices, answer: Any, form: str, column: str) -> str:
    """Return the letter of the right choice.

    Args:
        choices: as shown.
        answer: what the file says.
        form: `letter` (or label), `index` from 0, `number` from 1, or `choice` (its text).
        column: where the answer stands, for messages.

    Raises:
        RowError: the answer names no choice.
    """
    count = len(choices.texts)
    if form in {"index", "number"}:
        try:
            at = int(answer) - (form == "number")
        except (TypeError, ValueError):
            raise RowError(column, f"must be the position of a choice, not {answer!r}") from None
        if isinstance(answer, float) and answer != int(answer):
            raise RowError(column, f"must be the position of a choice, not {answer!r}")
    else:
        said = str(answer).strip()
        among = list(choices.labels) if form == "letter" else list(choices.texts)
        if among.count(said) != 1:
            times = "none" if said not in among else "several"
            raise RowError(column, f"names {times} of the {count} choices: {said[:60]!r}")
        at = among.index(said)
    if not 0 <= at < count:
        raise RowError(column, f"is {answer!r} and there are {count} choices")
    return ascii_uppercase[at]
