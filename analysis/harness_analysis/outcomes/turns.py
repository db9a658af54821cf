"""Which queries are turns of one conversation, in which order, and what was asked before them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness_analysis.errors import OutcomesError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Turns:
    """Queries as turns.

    Args:
        conversation: of each of the n queries; a query that belongs to none is a conversation of its own.
        number: of the turn in its conversation, from 1, shape (n,); numbers may be missing between two turns.
        asked: all that its user had said, the oldest first and the query itself last.
        prompt_tokens: of each query with each model, NaN where not known, shape (n, m).
        output_tokens: the same of the answers.
    """

    conversation: tuple[str, ...]
    number: IntArray
    asked: tuple[tuple[str, ...], ...]
    prompt_tokens: FloatArray
    output_tokens: FloatArray

    def __len__(self) -> int:
        return len(self.conversation)

    def rows(self, at: IntArray) -> Turns:
        """Return some of the queries."""
        return Turns(
            conversation=tuple(self.conversation[i] for i in at),
            number=self.number[at],
            asked=tuple(self.asked[i] for i in at),
            prompt_tokens=self.prompt_tokens[at],
            output_tokens=self.output_tokens[at],
        )

    def conversations(self) -> list[IntArray]:
        """Return the queries of each conversation in the order of their turns."""
        members: dict[str, list[int]] = defaultdict(list)
        for at in np.argsort(self.number, kind="stable"):
            members[self.conversation[at]].append(int(at))
        return [np.array(at, dtype=np.int64) for at in members.values()]

    def places(self) -> list[tuple[IntArray, IntArray]]:
        """Return all first turns, all second ones and so on, each with the turns before them (of first turns, none)."""
        members = self.conversations()
        found = []
        for place in range(max(map(len, members), default=0)):
            there = [at[max(0, place - 1) : place + 1] for at in members if len(at) > place]
            found.append(
                (
                    np.array([at[-1] for at in there]),
                    np.array([at[0] for at in there if place], dtype=np.int64),
                )
            )
        return found


def read_turns(
    asked: Sequence[dict[str, Any]], prompt_tokens: FloatArray, output_tokens: FloatArray, name: str
) -> Turns | None:
    """Return queries as turns, None where nothing says that any belongs to a conversation.

    A turn is placed by its `conversation` and `turn`. Without `turn` it is as late as its `messages_json` has turns of
    the user. Without `conversation` it follows the query whose user said the same but for the last turn; where several
    go on from one query, the first in the order of ids continues its conversation and the others begin their own.

    Args:
        asked: one row per query: `dataset_id`, `query_id`, `query`, `conversation`, `turn`, `messages_json`.
        prompt_tokens: shape (n, m).
        output_tokens: shape (n, m).
        name: of the outcomes, for messages.

    Raises:
        OutcomesError: messages that are no list of {role, content}; a turn without a number, or two with the same.
    """
    said = [_said(row, name) for row in asked]
    if all(_absent(row["conversation"]) for row in asked) and not any(len(texts) > 1 for texts in said):
        return None
    conversation = ["" if _absent(r["conversation"]) else _within(r, r["conversation"]) for r in asked]
    number = np.array([_number(row, texts, name) for row, texts in zip(asked, said, strict=True)])
    _chain(conversation, said, asked)
    taken: dict[tuple[str, int], str] = {}
    for row, whose, turn in zip(asked, conversation, number.tolist(), strict=True):
        other = taken.setdefault((whose, turn), row["query_id"])
        if other != row["query_id"]:
            raise OutcomesError(
                f"{name}: queries {other} and {row['query_id']} are both turn {turn} of conversation"
                f" {row['conversation']}; number the turns of each conversation from 1 in the column `turn`"
            )
    turns = Turns(tuple(conversation), number, tuple(said), prompt_tokens, output_tokens)
    whole = list(said)
    for members in turns.conversations():
        before: tuple[str, ...] = ()
        for at in members:
            if _absent(asked[at]["messages_json"]):
                whole[at] = (*before, *said[at])
            before = whole[at]
    return Turns(tuple(conversation), number, tuple(whole), prompt_tokens, output_tokens)


def _said(row: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return what the user said up to a query: of its messages where it has some, else its text."""
    if _absent(row["messages_json"]):
        return ("" if _absent(row["query"]) else row["query"],)
    try:
        messages = json.loads(row["messages_json"])
        said = tuple(str(turn["content"]) for turn in messages if turn["role"] == "user")
    except (ValueError, TypeError, KeyError):
        raise OutcomesError(
            f"{name}: query {row['query_id']}: `messages_json` must be a list of {{role, content}} as JSON"
        ) from None
    if not said:
        raise OutcomesError(f"{name}: query {row['query_id']}: `messages_json` has no turn of the user")
    return said


def _number(row: dict[str, Any], said: tuple[str, ...], name: str) -> int:
    turn = row["turn"]
    if not _absent(turn):
        if turn != int(turn) or turn < 0:
            raise OutcomesError(
                f"{name}: query {row['query_id']}: `turn` must be a whole number, not {turn:g}"
            )
        return int(turn)
    if _absent(row["conversation"]) or not _absent(row["messages_json"]):
        return len(said)
    raise OutcomesError(
        f"{name}: query {row['query_id']} belongs to conversation {row['conversation']}, but neither `turn` nor"
        " `messages_json` says where in it; add one of these columns"
    )


def _chain(conversation: list[str], said: Sequence[tuple[str, ...]], asked: Sequence[dict[str, Any]]) -> None:
    """Name the conversation of each query that has no name for it."""
    ends: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for at in sorted((i for i, c in enumerate(conversation) if not c), key=lambda i: len(said[i])):
        row = asked[at]
        before = ends.get((row["dataset_id"] or "", said[at][:-1]))
        conversation[at] = before.pop(0) if before else _within(row, f"from {row['query_id']}")
        ends[row["dataset_id"] or "", said[at]].append(conversation[at])


def _within(row: dict[str, Any], conversation: str) -> str:
    return f"{row['dataset_id'] or ''}\x1f{conversation}"


def _absent(value: Any) -> bool:
    return value is None or value != value  # noqa: PLR0124 - NaN
