"""What judges reply, checked by a schema; prose around the JSON is tolerated, prose instead of it is not."""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, WithJsonSchema

from harness_analysis.datasets.occupations import occupation_named, occupations

R = TypeVar("R", bound=BaseModel)

MAX_PROBLEM_CHARACTERS = 300
_FENCED = re.compile(r"```(?:json)?\s*(\{.*?\})\s*```", re.DOTALL)
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)


class Reply(BaseModel):
    """A judge's reply; keys that were not asked for are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class PairwiseReply(Reply):
    """A comparison of A and B on five levels (profiling paper, appendix B.1)."""

    kind: Literal["objective", "subjective"] = "subjective"
    explanation: str = ""
    verdict: Literal["A>>B", "A>B", "A=B", "B>A", "B>>A"]


class TrueFalseReply(Reply):
    """Whether a response is right."""

    explanation: str = ""
    correct: bool


def _occupation(said: str) -> str:
    name = occupation_named(said)
    if name is None:
        raise ValueError(f"{said[:80]!r} is none of the categories that were listed")
    return name


class OccupationReply(Reply):
    """The occupation that a query belongs to (profiling paper, appendix B.1, table 5)."""

    category: Annotated[
        str, AfterValidator(_occupation), WithJsonSchema({"type": "string", "enum": list(occupations())})
    ]


class MalformedReply(Reply):
    """What is wrong with a query (profiling paper, appendix B.1)."""

    fault: Literal["none", "malformed", "nonsensical", "unintelligible"]


class UnusableReplyError(ValueError):
    """A reply that holds no such object; the message says what is wrong with it."""


def parse_reply(text: str, schema: type[R]) -> R:
    """Return the last JSON object of a reply that fits a schema.

    Raises:
        UnusableReplyError: there is none; the message can be shown to the judge.
    """
    bare = _THOUGHTS.sub("", text)
    problem = "it holds no JSON object"
    for found in reversed([*_objects(bare), *_FENCED.findall(bare)]):
        try:
            return schema.model_validate_json(found)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the object"
            problem = f"`{where}`: {first['msg']}"
    raise UnusableReplyError(problem[:MAX_PROBLEM_CHARACTERS])


def _objects(text: str) -> list[str]:
    """Return the texts of the JSON objects that stand anywhere in a text."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := text.find("{", at)) >= 0:
        try:
            _, end = decoder.raw_decode(text, at)
        except ValueError:
            at += 1
            continue
        found.append(text[at:end])
        at = end
    return found
