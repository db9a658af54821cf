"""Judgements: what judges answered, kept by the hash of what they were asked, so that nothing is paid twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, bindparam, select

from harness_store.models import Judgement
from harness_store.rows import absent_to_none, chunks, insert_absent, table_of

CHUNK_IDS = 500


@dataclass(frozen=True, slots=True)
class JudgementRow:
    """One answer of a judge as it came."""

    content_hash: str
    judge: str
    model: str
    form: str
    presented: str
    raw: str
    prompt_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    seconds: float | None
    answered_realtime_ns: int


def find(connection: Connection, hashes: Sequence[str]) -> dict[str, JudgementRow]:
    """Return what is kept of these questions, by their hash."""
    found: dict[str, JudgementRow] = {}
    for chunk in chunks(hashes, CHUNK_IDS):
        for row in connection.execute(_FOUND, {"b_hashes": chunk}):
            found[row.content_hash] = JudgementRow(**row._mapping)
    return found


def keep(connection: Connection, rows: Sequence[JudgementRow]) -> int:
    """Keep answers; one that is there already stays as it is. Return how many were new."""
    return sum(
        insert_absent(connection, Judgement, {k: absent_to_none(v) for k, v in asdict(row).items()})
        for row in rows
    )


_FOUND = select(*table_of(Judgement).columns).where(
    Judgement.content_hash.in_(bindparam("b_hashes", expanding=True))
)
