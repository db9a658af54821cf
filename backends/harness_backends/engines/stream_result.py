"""What one streamed answer was, and what can go wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class FailureKind(StrEnum):
    """Why a query has no complete answer."""

    CONNECT = "connect"
    """Nobody answered, or the connection broke before the answer began."""
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate-limited"
    """HTTP 429."""
    REFUSED = "refused"
    """HTTP 4xx: the same request would be refused again."""
    SERVER = "server"
    """HTTP 5xx, or an error inside the stream."""
    CUT = "cut"
    """The stream ended before the answer was finished."""
    MALFORMED = "malformed"
    """The stream held something that is no completion chunk."""


_RETRYABLE = frozenset(FailureKind) - {FailureKind.REFUSED}


@dataclass(frozen=True, slots=True)
class StreamFailure:
    """Why a query failed, in one sentence."""

    kind: FailureKind
    message: str
    retry_after_s: float | None = None

    @property
    def retryable(self) -> bool:
        """Whether asking again makes sense."""
        return self.kind in _RETRYABLE


@dataclass(frozen=True, slots=True)
class StreamResult:
    """One answered or failed query; times are CLOCK_MONOTONIC, ns; None is unknown."""

    start_ns: int
    end_ns: int
    first_token_ns: int | None = None
    chunk_ns: list[int] = field(default_factory=list[int])
    """Arrival of every chunk that carried text or reasoning."""
    text: str = ""
    reasoning: str = ""
    finish_reason: str = ""
    prompt_tokens: int | None = None
    """Token counts come from the engine's usage record alone."""
    output_tokens: int | None = None
    cached_tokens: int | None = None
    engine_prefill_s: float | None = None
    engine_decode_s: float | None = None
    failure: StreamFailure | None = None
    warnings: tuple[str, ...] = ()
    """What the engine said that cannot be true, for example a usage record without output tokens."""
