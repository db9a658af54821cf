"""Query files: JSONL or CSV rows with `id`, `query` and, where known, `reference` and `domain`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_QUERY_CHARACTERS = 1_000_000
"""A row above this is a mistake in the file: the longest context windows hold about as much."""


class QueryFileError(Exception):
    """A row that cannot be used; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class QueryRow:
    """One query as it will be stored."""

    query_id: str
    text: str
    messages_json: str
    reference: str | None
    domain: str
    extra_json: str


def read_query_file(path: Path, limit: int | None = None) -> list[QueryRow]:
    """Read the first `limit` queries (all when None) of a .jsonl or .csv file.

    Raises:
        QueryFileError: the file is absent or empty, a row is not an object, lacks a query, or repeats an id.
    """
    if path.suffix.lower() not in {".jsonl", ".ndjson", ".csv"}:
        raise QueryFileError(f"{path}: queries are read from .jsonl or .csv files")
    rows: list[QueryRow] = []
    seen: dict[str, int] = {}
    try:
        for line, record in _records(path):
            if limit is not None and len(rows) >= limit:
                break
            row = _row(path, line, record)
            if row.query_id in seen:
                raise QueryFileError(
                    f"{path} line {line}: the id {row.query_id!r} is also on line {seen[row.query_id]}"
                )
            seen[row.query_id] = line
            rows.append(row)
    except FileNotFoundError:
        raise QueryFileError(f"{path}: there is no such query file") from None
    except UnicodeDecodeError as error:
        raise QueryFileError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise QueryFileError(f"{path}: cannot be read: {error.strerror}") from None
    if not rows:
        raise QueryFileError(f"{path}: holds no queries")
    return rows


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if "query" not in (reader.fieldnames or []) and "messages" not in (reader.fieldnames or []):
                raise QueryFileError(f"{path} line 1: a column named `query` is needed")
            for record in reader:
                yield reader.line_num, {k: v for k, v in record.items() if k and v not in (None, "")}
        return
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                yield line, json.loads(text)
            except json.JSONDecodeError as error:
                raise QueryFileError(f"{path} line {line}: not valid JSON: {error.msg}") from None


def _row(path: Path, line: int, record: Any) -> QueryRow:
    def wrong(what: str) -> QueryFileError:
        return QueryFileError(f"{path} line {line}: {what}")

    if not isinstance(record, dict):
        raise wrong('each line must be a JSON object like {"id": "q1", "query": "..."}')
    fields: dict[str, Any] = dict(record)
    query_id = str(fields.pop("id", "") or f"line-{line}")
    text = fields.pop("query", None)
    messages = fields.pop("messages", None)
    if isinstance(messages, str):
        try:
            messages = json.loads(messages)
        except json.JSONDecodeError:
            raise wrong("`messages` must be a JSON list of {role, content}") from None
    if messages is not None:
        fine = isinstance(messages, list) and all(
            isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
            for m in messages
        )
        if not fine or not messages:
            raise wrong("`messages` must be a list of {role, content}")
        text = text if isinstance(text, str) else messages[-1]["content"]
    if not isinstance(text, str) or not text.strip():
        raise wrong("`query` must be a text that is not empty")
    if len(text) > MAX_QUERY_CHARACTERS:
        raise wrong(f"`query` has {len(text):,} characters; at most {MAX_QUERY_CHARACTERS:,} are taken")
    reference = fields.pop("reference", None)
    return QueryRow(
        query_id=query_id,
        text=text,
        messages_json=json.dumps(messages) if messages is not None else "",
        reference=None if reference is None or str(reference).strip() == "" else str(reference),
        domain=str(fields.pop("domain", "") or ""),
        extra_json=json.dumps(fields, default=str) if fields else "",
    )
