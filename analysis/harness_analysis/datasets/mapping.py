"""How the columns of a file become queries: a small YAML, shipped for well-known sets or written by the user."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness_analysis.errors import DatasetError

AnswerForm = Literal["text", "letter", "index", "number", "choice", "after-hashes", "yes-no"]

PLAIN = "plain"
"""The mapping of files that have our own names already: id, query, messages, reference, domain."""

_PACKAGE = "harness_analysis.datasets"
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w.]*)\}")


class Mapping(BaseModel):
    """Which columns hold what. A column may be a path: `choices.text`, `conversation.0.language`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: str | None = None
    """Column with the question."""
    template: str | None = None
    """The question made of several columns: `{passage}\\n\\n{question}`."""
    messages: str | None = None
    """Column with a conversation: a list of {role, content}."""
    turns: Literal["all", "first", "each"] = "all"
    """Of a conversation: all up to its last user turn, its first user turn alone, or each user turn as a query of its
    own with all that was said before it."""
    choices: str | list[str] | None = None
    """Column with the choices (a list of texts, or {text, label}), or one column for each choice."""
    shuffle: bool = False
    """Choices in an order of chance that follows from the question: for sets whose right answer is always first."""
    instruction: str = ""
    """Last line of the question."""
    reference: str | None = None
    """Column with the expected answer."""
    answer: AnswerForm = "text"
    """What stands in `reference`: the text itself; of choices the letter or label, the index from 0, the number
    from 1, or the text of the right one; what follows ####; or a truth value that becomes yes or no."""
    id: str | None = None
    domain: str | None = None
    origin: str | None = None
    """Name of the set, kept with each row; a file's name when it is not given."""
    origin_column: str | None = None
    licence: str | None = None
    licence_column: str | None = None
    keep: list[str] | None = None
    """Further columns that are kept; all that are not used when not given."""
    optional: list[str] = Field(default_factory=list)
    """Columns of the above that a file may lack."""
    about: str = ""
    """What people should know of the set."""
    hub: str | None = None
    """Where the set is on the Hugging Face hub: `owner/name` or `owner/name:configuration`."""

    @model_validator(mode="after")
    def _complete(self) -> Mapping:
        asked = [self.query, self.template, self.messages]
        if sum(part is not None for part in asked) == 0:
            raise ValueError("name the column with the question: `query`, `template` or `messages`")
        if self.query is not None and self.template is not None:
            raise ValueError("give `query` or `template`, not both")
        of_choices = self.answer in {"letter", "index", "number", "choice"}
        if of_choices and self.choices is None and self.answer != "letter":
            raise ValueError(f"`answer: {self.answer}` needs `choices`")
        if self.shuffle and self.answer != "choice":
            raise ValueError("`shuffle` needs `answer: choice`, the text of the right one")
        if self.turns == "each" and self.messages is None:
            raise ValueError("`turns: each` needs `messages`, the column with the conversation")
        if self.turns == "each" and (self.query is not None or self.reference is not None):
            raise ValueError(
                "`turns: each` asks every turn; a `query` or a `reference` belongs to one of them"
            )
        return self

    def columns(self) -> list[str]:
        """Return the columns that every row must have, as paths."""
        choices = [self.choices] if isinstance(self.choices, str) else self.choices or []
        named = [self.query, self.messages, self.reference, self.id, self.domain, self.origin_column]
        return [
            *(name for name in (*named, self.licence_column) if name is not None),
            *choices,
            *(_PLACEHOLDER.findall(self.template) if self.template else ()),
        ]


def shipped_mappings() -> list[str]:
    """Return the names of the mappings that come with this package."""
    folder = resources.files(_PACKAGE) / "mappings"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_mapping(name: str) -> Mapping:
    """Return a shipped mapping by name, or one from a YAML file.

    Raises:
        DatasetError: no such mapping or file, or a key that is not known.
    """
    if name in shipped_mappings():
        text = (resources.files(_PACKAGE) / "mappings" / f"{name}.yaml").read_text(encoding="utf-8")
        return _parse(text, f"mapping {name}")
    path = Path(name)
    if path.suffix.lower() not in {".yaml", ".yml"}:
        raise DatasetError(
            f"no mapping is named {name!r}{nearest(name, shipped_mappings())}, or name a .yaml file"
        )
    try:
        return _parse(path.read_text(encoding="utf-8"), name)
    except FileNotFoundError:
        raise DatasetError(f"{name}: there is no such mapping file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{name}: cannot be read: {error}") from None


def adapted(mapping: Mapping, changes: dict[str, Any], origin: str = "the mapping") -> Mapping:
    """Return a mapping with fields replaced by those of `changes` that are not None.

    Raises:
        DatasetError: an unknown field, or fields that do not go together.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    fields = mapping.model_dump()
    if "query" in given:
        fields["template"] = None
    if "template" in given:
        fields["query"] = None
    return _validated({**fields, **given}, origin)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` for the nearest known word, or the list of them."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean `{near[0]}`?"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"; known are {shown}" if names else ""


def _parse(text: str, origin: str) -> Mapping:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise DatasetError(f"{origin}:{line} {getattr(error, 'problem', None) or 'not valid YAML'}") from None
    if not isinstance(data, dict):
        raise DatasetError(f"{origin}: a mapping file has keys such as query, reference, domain")
    return _validated(data, origin)


def _validated(data: dict[str, Any], origin: str) -> Mapping:
    try:
        return Mapping.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise DatasetError(
                f"{origin}: unknown key `{where}`{nearest(where, Mapping.model_fields)}"
            ) from None
        message = re.sub(r"^Value error, ", "", first["msg"])
        raise DatasetError(f"{origin}: `{where}`: {message}" if where else f"{origin}: {message}") from None
