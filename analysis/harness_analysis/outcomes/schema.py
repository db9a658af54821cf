"""Columns of the outcomes table, and the names other people's files give them."""

from __future__ import annotations

import pyarrow as pa

OUTCOMES_SCHEMA = pa.schema(
    [
        ("dataset_id", pa.string()),
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("domain", pa.string()),
        ("model_id", pa.string()),
        ("params_b", pa.float64()),
        ("precision", pa.string()),
        ("hardware", pa.string()),
        ("energy_kind", pa.string()),
        ("correct", pa.float64()),
        ("joules", pa.float64()),
        ("joules_low", pa.float64()),
        ("joules_high", pa.float64()),
        ("watts", pa.float64()),
        ("total_s", pa.float64()),
        ("cost", pa.float64()),
        ("price_per_mtok", pa.float64()),
        ("flops", pa.float64()),
        ("prompt_tokens", pa.float64()),
        ("output_tokens", pa.float64()),
        ("conversation", pa.string()),
        ("turn", pa.float64()),
        ("messages_json", pa.string()),
    ]
)
"""One row per answer, or per (query, model, hardware) with means. `correct` is a verdict or a score in [0, 1], `cost`
is in dollars, `params_b` in billions, `price_per_mtok` in dollars for a million output tokens. `turn` counts from 1
within `conversation`; `messages_json` is the conversation up to the query, as a list of {role, content}. Absent is
null."""

REQUIRED = ("query_id", "model_id", "correct")

ALIASES = {
    "sample_id": "query_id",
    "question_id": "query_id",
    "model": "model_id",
    "model_name": "model_id",
    "score": "correct",
    "performance": "correct",
    "prompt": "query",
    "question": "query",
    "eval_name": "domain",
    "category": "domain",
    "latency_s": "total_s",
    "watts_avg": "watts",
    "conversation_id": "conversation",
    "conversation_hash": "conversation",
}
"""Names in other files -> ours; those of RouterBench's rows among them."""

CONVERSATION_NAMES = ("conversation", *(theirs for theirs, ours in ALIASES.items() if ours == "conversation"))

KEY = ("dataset_id", "query_id", "model_id", "hardware", "energy_kind")

NUMBERS = tuple(field.name for field in OUTCOMES_SCHEMA if field.type == pa.float64())
