"""One record as a query, by a mapping."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping as AnyMapping
from typing import Any

from harness_store.datasets import QueryRow
from harness_store.prompts import content_hash, prompt_text

from harness_analysis.datasets.choices import Choices, RowError, letter_of, read_choices, shuffled
from harness_analysis.datasets.mapping import Mapping, nearest

MAX_QUERY_CHARACTERS = 1_000_000
"""A query above this is a mistake in the file: the longest context windows hold about as much."""

EXTRA = "extra"
"""The column of an export that holds all kept columns as one JSON text."""

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w.]*)\}")
_AFTER_HASHES = re.compile(r"####\s*([^\n]+?)\s*$")
_YES, _NO = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})
_ABSENT = object()


def map_records(
    mapping: Mapping, record: AnyMapping[str, Any], *, number: int, origin: str
) -> list[QueryRow]:
    """Return a record as queries: one, or with `turns: each` one for each turn of the user; see `map_record`."""
    if mapping.turns != "each":
        return [map_record(mapping, record, number=number, origin=origin)]
    turns = conversation(mapping, record)
    ends = [at for at, turn in enumerate(turns) if turn["role"] == "user"]
    return [
        map_record(mapping, record, number=number + before, origin=origin, asked=turns[: end + 1])
        for before, end in enumerate(ends)
    ]


def conversation(mapping: Mapping, record: AnyMapping[str, Any]) -> list[dict[str, str]]:
    """Return the turns of a record up to the last one of the user.

    Raises:
        RowError: there are none, or they are no conversation.
    """
    turns = _conversation(mapping, _Fields(mapping, record))
    if turns is None:
        raise RowError(mapping.messages or "messages", "is empty")
    return turns


def map_record(
    mapping: Mapping,
    record: AnyMapping[str, Any],
    *,
    number: int,
    origin: str,
    asked: list[dict[str, str]] | None = None,
) -> QueryRow:
    """Return a record as a query.

    Args:
        mapping: which columns hold what.
        record: one record of a file.
        number: of the query in its dataset, from 1; its ordinal and, where the file has no ids, its id.
        origin: name of the set, unless the mapping or the record has one.
        asked: the first turns of its conversation, up to the one that is asked; by default as the mapping says.

    Raises:
        RowError: a column is missing, empty or of the wrong kind.
    """
    fields = _Fields(mapping, record)
    origin = fields.text(mapping.origin_column) or mapping.origin or origin
    messages = asked or _conversation(mapping, fields)
    # A column of the file may count all turns of the conversation: of one turn, its own number is kept instead.
    own_turn = sum(turn["role"] == "user" for turn in messages or ()) if mapping.turns != "all" else 0
    question = _question(mapping, fields, messages)
    choices = _choices(mapping, fields, question)
    if messages is not None and len(messages) > 1 and (choices is not None or mapping.instruction):
        raise RowError(
            mapping.messages or "", "is a conversation, into which no choices or instruction can be put"
        )
    reference = _reference(mapping, fields, choices)
    text = choices.below(question) if choices is not None else question
    if mapping.instruction:
        text = f"{text}\n\n{mapping.instruction}"
    text = encodable(text)
    if messages is not None and [turn["content"] for turn in messages] == [question]:
        messages = None  # the same as asking its text, and cleaned, counted and hashed as such
    messages_json = encodable(json.dumps(messages, ensure_ascii=False)) if messages is not None else None
    whole = prompt_text(text, messages_json)
    if len(whole) > MAX_QUERY_CHARACTERS:
        column = mapping.messages if messages is not None else mapping.query
        raise RowError(
            column or "template", f"has {len(whole):,} characters; at most {MAX_QUERY_CHARACTERS:,} are taken"
        )
    named = fields.text(mapping.id)
    return QueryRow(
        query_id=(f"{named}-{own_turn}" if asked else named) if named else f"{origin}-{number}",
        ordinal=number - 1,
        text=text,
        messages_json=messages_json,
        reference=reference,
        domain=fields.text(mapping.domain),
        extra_json=fields.kept_json({"turn": own_turn} if own_turn else {}),
        origin=origin,
        licence=fields.text(mapping.licence_column) or mapping.licence,
        content_hash=content_hash(whole),
    )


def encodable(text: str) -> str:
    """Return a text in which halves of surrogate pairs, which no encoding has, are the replacement character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class _Fields:
    """A record whose columns are named by paths."""

    def __init__(self, mapping: Mapping, record: AnyMapping[str, Any]) -> None:
        self._mapping = mapping
        self._record = record

    def get(self, path: str) -> Any:
        """Return what is at a path; None for a null, or for an optional column that is not there."""
        value: Any = self._record.get(path, _ABSENT)
        if value is _ABSENT and "." in path:
            value = self._record
            for part in path.split("."):
                value = _inside(value, part)
        if value is _ABSENT:
            if path in self._mapping.optional:
                return None
            raise RowError(path, f"is missing{nearest(path, self._record)}")
        return value

    def has(self, path: str | None) -> bool:
        """Return whether the record has a column of the name, empty or not."""
        return path is not None and path.partition(".")[0] in self._record

    def nearest(self, path: str) -> str:
        """Return what else the record has, for a message."""
        return nearest(path, self._record)

    def text(self, path: str | None) -> str | None:
        """Return what is at a path as a text, None for nothing and for white space."""
        value = None if path is None else self.get(path)
        if value is None:
            return None
        if isinstance(value, dict | list):
            raise RowError(path or "", f"must be a text, not {type(value).__name__}")
        return encodable(str(value).strip()) or None

    def kept_json(self, more: AnyMapping[str, Any]) -> str | None:
        """Return the columns that are kept beside the query, and some more, as JSON."""
        keep = self._mapping.keep
        if keep is None:
            used = {path.partition(".")[0] for path in self._mapping.columns()}
            kept = {name: value for name, value in self._record.items() if name not in used}
        else:
            kept = {name: self._record[name] for name in keep if name in self._record}
        kept = {name: value for name, value in {**_unpacked(kept), **more}.items() if value is not None}
        return encodable(json.dumps(kept, default=str, ensure_ascii=False)) if kept else None


def _unpacked(kept: dict[str, Any]) -> dict[str, Any]:
    """Return kept columns with those that a CSV, Parquet or Arrow export put into its one column `extra`."""
    packed = kept.get(EXTRA)
    if not isinstance(packed, str) or not packed.startswith("{"):
        return kept
    try:
        inside: dict[str, Any] = json.loads(packed)
    except json.JSONDecodeError:
        return kept
    return {**{name: value for name, value in kept.items() if name != EXTRA}, **inside}


def _inside(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part, _ABSENT)
    if isinstance(value, list) and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    return _ABSENT


def _conversation(mapping: Mapping, fields: _Fields) -> list[dict[str, str]] | None:
    """Return the turns that are asked: up to the last one of the user, or the first of the user alone."""
    if mapping.messages is None:
        return None
    column = mapping.messages
    value = fields.get(column)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise RowError(column, "must be a list of {role, content}, as JSON") from None
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise RowError(column, "must be a list of {role, content} with at least one turn")
    turns: list[dict[str, str]] = []
    for number, turn in enumerate(value, start=1):
        role = turn.get("role") if isinstance(turn, dict) else None
        content = turn.get("content") if isinstance(turn, dict) else None
        if role not in ROLES:
            raise RowError(column, f"turn {number}: the role must be one of {', '.join(sorted(ROLES))}")
        if not isinstance(content, str):
            raise RowError(column, f"turn {number}: the content must be a text")
        turns.append({"role": role, "content": content})
    asked = [at for at, turn in enumerate(turns) if turn["role"] == "user"]
    if not asked:
        raise RowError(column, "has no turn of the user")
    if mapping.turns == "first":
        return [turns[asked[0]]]
    return turns[: asked[-1] + 1]


def _question(mapping: Mapping, fields: _Fields, messages: list[dict[str, str]] | None) -> str:
    if mapping.template is not None:
        question = _PLACEHOLDER.sub(lambda found: fields.text(found[1]) or "", mapping.template)
        column = "template"
    else:
        column = mapping.query or mapping.messages or ""
        value = fields.get(mapping.query) if mapping.query is not None else None
        if value is None and messages is not None:
            value = messages[-1]["content"]
        if value is not None and not isinstance(value, str):
            raise RowError(column, f"must be a text, not {type(value).__name__}")
        question = value or ""
    if not question.strip():
        if mapping.template is None and not fields.has(mapping.query) and not fields.has(mapping.messages):
            raise RowError(column, f"is missing{fields.nearest(column)}")
        raise RowError(column, "is empty")
    return question


def _choices(mapping: Mapping, fields: _Fields, question: str) -> Choices | None:
    if mapping.choices is None:
        return None
    if isinstance(mapping.choices, str):
        choices = read_choices(fields.get(mapping.choices), mapping.choices)
    else:
        choices = read_choices([fields.get(name) for name in mapping.choices], mapping.choices[0])
    return shuffled(choices, question) if mapping.shuffle else choices


def _reference(mapping: Mapping, fields: _Fields, choices: Choices | None) -> str | None:
    column = mapping.reference
    if column is None:
        return None
    value = fields.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if choices is not None and mapping.answer in {"letter", "index", "number", "choice"}:
        return letter_of(choices, value, mapping.answer, column)
    if mapping.answer == "yes-no":
        said = str(value).strip().lower()
        if said not in _YES | _NO:
            raise RowError(column, f"must be true or false, not {str(value)[:60]!r}")
        return "yes" if said in _YES else "no"
    text = fields.text(column)
    if mapping.answer == "after-hashes":
        found = _AFTER_HASHES.search(text or "")
        if found is None:
            raise RowError(column, "has no answer after ####")
        return found[1]
    return text
