"""The judges' prompts, written in this project's words after the profiling paper's appendix B.1; texts lie in files."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from harness_analysis.datasets.occupations import occupations
from harness_analysis.evaluation.replies import PairwiseReply, Reply, TrueFalseReply

Form = Literal["pairwise", "true_false"]
FORMS: tuple[Form, ...] = ("pairwise", "true_false")
SCHEMAS: dict[Form, type[Reply]] = {"pairwise": PairwiseReply, "true_false": TrueFalseReply}
ANSWER_FIRST, REFERENCE_FIRST = "answer-first", "reference-first"
"""Which of the two a judge is shown as A."""


def pairwise_prompt(question: str, answer: str, reference: str, presented: str) -> str:
    """Return the comparison of an answer with a reference answer, in one of the two orders."""
    first, second = (answer, reference) if presented == ANSWER_FIRST else (reference, answer)
    return _filled("pairwise", question=question, first=first, second=second)


def true_false_prompt(question: str, response: str, reference: str) -> str:
    """Return the question whether a response is right by a reference."""
    return _filled("true_false", question=question, response=response, reference=reference)


def occupation_prompt(query: str) -> str:
    """Return the question for the occupation that a query belongs to."""
    return _filled("occupation", query=query, categories="\n".join(f"- {name}" for name in occupations()))


def malformed_prompt(query: str) -> str:
    """Return the question whether a query is malformed, nonsensical or unintelligible."""
    return _filled("malformed", query=query)


def correction_prompt(problem: str) -> str:
    """Return the one more ask after a reply that could not be used."""
    return _filled("correction", problem=problem)


def question_text(query: str, messages_json: str | None) -> str:
    """Return what the user asked: the query, or the conversation with who said what."""
    if not messages_json:
        return query
    return "\n\n".join(f"[{m['role']}]\n{m['content']}" for m in json.loads(messages_json))


def _filled(name: str, **values: str) -> str:
    # In one pass: braces inside an answer are text, never a place to fill.
    pattern = re.compile("|".join(re.escape("{" + key + "}") for key in values))
    return pattern.sub(lambda found: values[found.group()[1:-1]], _text(name)).strip()


@lru_cache(maxsize=8)
def _text(name: str) -> str:
    return (
        files("harness_analysis.evaluation").joinpath(f"prompt_files/{name}.txt").read_text(encoding="utf-8")
    )
