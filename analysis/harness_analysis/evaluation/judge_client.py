"""Asking a judge: one prompt in, one object that fits a schema out, or the reason why there is none."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from harness_analysis.errors import AnalysisError
from harness_analysis.evaluation.budget import Budget
from harness_analysis.evaluation.chat_endpoint import ChatEndpoint, ChatReply, NoReplyError
from harness_analysis.evaluation.judge_settings import JudgeSettings
from harness_analysis.evaluation.prompts import correction_prompt
from harness_analysis.evaluation.replies import UnusableReplyError, parse_reply

R = TypeVar("R", bound=BaseModel)
Message = dict[str, str]

TEMPLATE_TOKENS = 256
"""What a chat template and a schema may add to a prompt; a token is at least one byte of text."""


class MissingKeyError(AnalysisError):
    """The environment variable with the judge's key is not set."""


@dataclass(frozen=True, slots=True)
class KeptReply:
    """A judge's reply with what it cost, as a cache keeps it."""

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


class ReplyCache(Protocol):
    """Where replies are kept, by the hash of what was asked. Called from several threads."""

    def find(self, content_hash: str) -> KeptReply | None:
        """Return what is kept, None where nothing is."""
        ...

    def keep(self, reply: KeptReply) -> None:
        """Keep a reply durably before it is used."""
        ...


class MemoryCache:
    """A cache that ends with the process."""

    def __init__(self) -> None:
        self._kept: dict[str, KeptReply] = {}

    def find(self, content_hash: str) -> KeptReply | None:
        """Return what is kept, None where nothing is."""
        return self._kept.get(content_hash)

    def keep(self, reply: KeptReply) -> None:
        """Keep a reply."""
        self._kept.setdefault(reply.content_hash, reply)


@dataclass(frozen=True, slots=True)
class Answered(Generic[R]):
    """A usable reply. `new` asks were paid for now, the others come from the cache."""

    value: R
    new: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Undecided:
    """Why a judge gave no usable reply."""

    reason: str
    new: int = 0
    cost_usd: float = 0.0


class JudgeClient:
    """A judge behind an OpenAI-compatible endpoint. Thread-safe."""

    def __init__(self, settings: JudgeSettings, cache: ReplyCache, budget: Budget | None = None) -> None:
        """Prepare to ask.

        Raises:
            MissingKeyError: the key's environment variable is not set.
        """
        key = os.environ.get(settings.key_env, "") if settings.key_env else ""
        if settings.key_env and not key:
            raise MissingKeyError(
                f"judge {settings.name}: the environment variable {settings.key_env} is not set"
            )
        self._settings = settings
        self._cache = cache
        self._budget = budget or Budget()
        self._endpoint = ChatEndpoint(settings, key)

    def __enter__(self) -> JudgeClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._endpoint.close()

    def ask(
        self, prompt: str, schema: type[R], *, form: str = "", presented: str = ""
    ) -> Answered[R] | Undecided:
        """Ask for an object; a reply that is none is answered once with what was wrong.

        Args:
            prompt: the whole question.
            schema: a pydantic model that the reply must fit.
            form: what kind of question it is, for the record.
            presented: in which order two texts are shown, for the record.

        Raises:
            BudgetSpentError: the ask could exceed the budget; nothing was sent.
            JudgeRefusedError: the endpoint does not admit the caller or does not know the model.
        """
        messages: list[Message] = [{"role": "user", "content": prompt}]
        new, cost_usd, problem = 0, 0.0, ""
        for _ in range(2):
            try:
                reply, is_new = self._reply(messages, schema, form, presented)
            except NoReplyError as error:
                return Undecided(str(error), new, cost_usd)
            new += is_new
            cost_usd += (reply.cost_usd or 0.0) if is_new else 0.0
            try:
                return Answered(parse_reply(reply.raw, schema), new, cost_usd)
            except UnusableReplyError as error:
                problem = str(error)
            messages += [
                {"role": "assistant", "content": reply.raw},
                {"role": "user", "content": correction_prompt(problem)},
            ]
        return Undecided(f"no usable reply after asking twice: {problem}", new, cost_usd)

    def _reply(
        self, messages: Sequence[Message], schema: type[BaseModel], form: str, presented: str
    ) -> tuple[KeptReply, bool]:
        content_hash = self.content_hash(messages, schema)
        there = self._cache.find(content_hash)
        if there is not None:
            return there, False
        bound_usd = self._bound_usd(messages)
        self._budget.hold(bound_usd)
        reply: ChatReply | None = None
        cost_usd: float | None = None
        try:
            reply = self._endpoint.complete(messages, schema)
            cost_usd = self._cost_usd(reply)
        finally:
            self._budget.settle(bound_usd, cost_usd)
        kept = KeptReply(
            content_hash=content_hash,
            judge=self._settings.name,
            model=self._settings.model or "",
            form=form,
            presented=presented,
            raw=reply.text,
            prompt_tokens=reply.prompt_tokens,
            output_tokens=reply.output_tokens,
            cost_usd=cost_usd,
            seconds=reply.seconds,
            answered_realtime_ns=time.time_ns(),
        )
        self._cache.keep(kept)
        return kept, True

    def content_hash(self, messages: Sequence[Message], schema: type[BaseModel]) -> str:
        """Return the hash of all that decides a reply: endpoint, model, messages, settings, schema."""
        asked: dict[str, Any] = {
            "base_url": self._settings.base_url,
            "model": self._settings.model,
            "messages": list(messages),
            "temperature": self._settings.temperature,
            "max_output_tokens": self._settings.max_output_tokens,
            "schema": schema.model_json_schema(),
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()

    def _bound_usd(self, messages: Sequence[Message]) -> float:
        price = self._settings.price
        if price is None:
            return 0.0
        prompt_tokens = TEMPLATE_TOKENS + sum(len(m["content"].encode("utf-8", "replace")) for m in messages)
        output_tokens = self._settings.max_output_tokens
        return (prompt_tokens * price.input_per_mtok + output_tokens * price.output_per_mtok) / 1e6

    def _cost_usd(self, reply: ChatReply) -> float | None:
        price = self._settings.price
        if price is None or reply.prompt_tokens is None or reply.output_tokens is None:
            return None
        return (
            reply.prompt_tokens * price.input_per_mtok + reply.output_tokens * price.output_per_mtok
        ) / 1e6
