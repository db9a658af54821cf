"""What decoders are asked, and the words whose likelihood is the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

YES = " Yes"
NO = " No"

MULTICLASS_INSTRUCTION = (
    "Name the smallest model that answers the query correctly. Models, from the smallest to the largest:"
    " {models}.\nQuery: "
)
MULTICLASS_QUESTION = "\nSmallest correct model:"
BINARY_INSTRUCTION = "Say whether a model answers the query correctly.\nQuery: "
BINARY_QUESTION = "\nModel: {model}\nDoes this model answer the query correctly?"


@dataclass(frozen=True, slots=True)
class Ending:
    """What follows the query: a question that is read, and an answer whose likelihood counts."""

    question: str
    answer: str


def multiclass_endings(models: Sequence[str]) -> list[Ending]:
    """Return one ending per model; the line's end closes a name, so that no name is the beginning of another."""
    return [Ending(MULTICLASS_QUESTION, f" {model}\n") for model in models]


def binary_endings(models: Sequence[str], answer: str = YES) -> list[Ending]:
    """Return one ending per model, all with the same answer."""
    return [Ending(BINARY_QUESTION.format(model=model), answer) for model in models]
