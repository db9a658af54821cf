"""Recorded traces: when each query of a real service came, and how long its prompt and answer were.

Read are Azure's public LLM inference traces (TIMESTAMP, ContextTokens, GeneratedTokens), Mooncake's (timestamp in ms,
input_length, output_length), and any CSV or JSONL with arrival_s, prompt_tokens and output_tokens.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from harness_coordinator.query_file import QueryRow

ARRIVAL_S = "arrival_s"
PROMPT_TOKENS = "prompt_tokens"
OUTPUT_TOKENS = "output_tokens"

_TEXT = "the river bends north and we follow it past old stone walls while small birds call from tall grass"
_WORDS = _TEXT.split()


class TraceFileError(Exception):
    """A trace that cannot be played; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One recorded query."""

    arrival_s: float
    """Seconds after the first one."""
    prompt_tokens: int
    output_tokens: int


def read_trace(path: Path, limit: int | None = None) -> list[Arrival]:
    """Read the first `limit` arrivals (all when None) of a trace, in the order of their times.

    Raises:
        TraceFileError: the file is absent or empty, or a line has no time or token counts.
    """
    found: list[Arrival] = []
    try:
        for line, record in islice(_records(path), limit):
            found.append(_arrival(path, line, record))
    except FileNotFoundError:
        raise TraceFileError(f"{path}: there is no such trace file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TraceFileError(f"{path}: cannot be read: {error}") from None
    if not found:
        raise TraceFileError(f"{path}: holds no arrivals")
    found.sort(key=lambda arrival: arrival.arrival_s)
    first_s = found[0].arrival_s
    return [replace(arrival, arrival_s=arrival.arrival_s - first_s) for arrival in found]


def queries_of_trace(trace: Sequence[Arrival]) -> list[QueryRow]:
    """Make up one query for each arrival, about as many tokens long as the recorded prompt.

    A common English word is one token in most vocabularies; the number that is stored is the engine's own count.
    Each prompt begins with its own number, so that no two share a prefix that an engine could reuse.
    """
    return [
        QueryRow(
            query_id=f"arrival-{number}",
            text=" ".join(
                [f"{number}:", *(_WORDS[i % len(_WORDS)] for i in range(max(1, arrival.prompt_tokens - 3)))]
            ),
            messages_json="",
            reference=None,
            domain="",
            extra_json=_extra("", arrival),
        )
        for number, arrival in enumerate(trace)
    ]


def with_arrivals(rows: Sequence[QueryRow], trace: Sequence[Arrival], origin: str) -> list[QueryRow]:
    """Give the n-th query the n-th arrival of the trace.

    Raises:
        TraceFileError: the trace is shorter than the queries.
    """
    if len(trace) < len(rows):
        raise TraceFileError(
            f"{origin}: holds {len(trace)} arrivals and there are {len(rows)} queries;"
            f" take fewer with `dataset: {{limit: {len(trace)}}}`"
        )
    return [
        replace(row, extra_json=_extra(row.extra_json, arrival))
        for row, arrival in zip(rows, trace, strict=False)
    ]


def _extra(extra_json: str, arrival: Arrival) -> str:
    fields: dict[str, Any] = json.loads(extra_json) if extra_json else {}
    fields[ARRIVAL_S] = arrival.arrival_s
    fields["recorded_prompt_tokens"] = arrival.prompt_tokens
    fields[OUTPUT_TOKENS] = arrival.output_tokens
    return json.dumps(fields)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for record in reader:
                yield reader.line_num, {k: v for k, v in record.items() if k}
        return
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except json.JSONDecodeError as error:
                raise TraceFileError(f"{path} line {line}: not valid JSON: {error.msg}") from None
            if not isinstance(record, dict):
                raise TraceFileError(f"{path} line {line}: each line must be a JSON object")
            yield line, record


def _arrival(path: Path, line: int, record: dict[str, Any]) -> Arrival:
    try:
        if "TIMESTAMP" in record:
            at_s = _timestamp_s(str(record["TIMESTAMP"]))
            return Arrival(at_s, _count(record["ContextTokens"]), _count(record["GeneratedTokens"]))
        if "input_length" in record:
            at_s = float(record["timestamp"]) / 1000.0
            return Arrival(at_s, _count(record["input_length"]), _count(record["output_length"]))
        return Arrival(float(record[ARRIVAL_S]), _count(record[PROMPT_TOKENS]), _count(record[OUTPUT_TOKENS]))
    except KeyError as missing:
        raise TraceFileError(
            f"{path} line {line}: there is no {missing}; a trace has arrival_s, prompt_tokens and output_tokens"
        ) from None
    except (TypeError, ValueError) as error:
        raise TraceFileError(f"{path} line {line}: {error}") from None


def _timestamp_s(text: str) -> float:
    # Azure writes seven decimals, one more than datetime takes.
    whole, _, decimals = text.partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{decimals or 0}")


def _count(value: object) -> int:
    number = int(str(value))
    if number < 0:
        raise ValueError(f"{number} is no number of tokens")
    return number
