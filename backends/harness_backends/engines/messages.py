"""Turn a query into the messages of a chat request."""

from __future__ import annotations

import json


class BadQueryError(ValueError):
    """A query that is no conversation."""


def to_messages(text: str, messages_json: str) -> list[dict[str, object]]:
    """Return the conversation of a query.

    Args:
        text: a single question; used when `messages_json` is empty.
        messages_json: a JSON list of {"role", "content"}, sent as it is.

    Raises:
        BadQueryError: `messages_json` is not such a list, or there is neither.
    """
    if not messages_json:
        if not text:
            raise BadQueryError("The query has neither text nor messages.")
        return [{"role": "user", "content": text}]
    try:
        messages = json.loads(messages_json)
    except ValueError as error:
        raise BadQueryError(f"The query's messages are not JSON: {error}.") from None
    if not isinstance(messages, list) or not messages:
        raise BadQueryError("The query's messages must be a list with at least one message.")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise BadQueryError(f"Message {number} of the query needs a role and a content.")
    return messages
