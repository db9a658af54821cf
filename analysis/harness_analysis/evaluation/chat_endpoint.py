"""An OpenAI-compatible endpoint: one completion, asked again after 429, 5xx, time-outs and cut connections."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import BaseModel

from harness_analysis.errors import AnalysisError
from harness_analysis.evaluation.judge_settings import JudgeSettings

MAX_WAIT_S = 60.0
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
REFUSED = frozenset({401, 403, 404})


class NoReplyError(Exception):
    """No reply came, however often it was asked; the message says why."""


class JudgeRefusedError(AnalysisError):
    """The endpoint does not admit the caller, or has no such model: asking on makes no sense."""


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back."""

    text: str
    prompt_tokens: int | None
    output_tokens: int | None
    seconds: float


class ChatEndpoint:
    """Asks for completions. Thread-safe."""

    def __init__(self, settings: JudgeSettings, key: str) -> None:
        self._settings = settings
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=settings.concurrency)
        self._http = httpx.Client(headers=headers, timeout=settings.timeout_s, limits=limits)
        self._url = f"{(settings.base_url or '').rstrip('/')}/chat/completions"
        self._with_schema = True

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def complete(self, messages: Sequence[dict[str, str]], schema: type[BaseModel]) -> ChatReply:
        """Return one completion.

        Raises:
            NoReplyError: every try failed.
            JudgeRefusedError: 401, 403 or 404.
        """
        problem, wait_s = "", 0.0
        for attempt in range(self._settings.retries + 1):
            if attempt:
                # Jitter: callers that were turned away together must not come back together.
                time.sleep(wait_s * random.uniform(0.8, 1.2))  # noqa: S311 - no secret hangs on it
            wait_s = min(MAX_WAIT_S, self._settings.backoff_s * 2**attempt)
            start_s = time.monotonic()
            # Kept for this request: another thread may learn meanwhile that the endpoint takes no schema.
            with_schema = self._with_schema
            response = self._posted(messages, schema if with_schema else None)
            if with_schema and isinstance(response, httpx.Response) and _refuses_schema(response):
                self._with_schema = False
                response = self._posted(messages, None)
            if isinstance(response, str):
                problem = response
                continue
            if response.status_code in REFUSED:
                raise JudgeRefusedError(
                    f"judge {self._settings.name}: {self._url} answered {response.status_code}: {_said(response)}"
                )
            if response.status_code in RETRIED:
                problem = f"the endpoint answered {response.status_code}: {_said(response)}"
                wait_s = _asked_wait_s(response) or wait_s
                continue
            if response.status_code != 200:
                raise NoReplyError(f"the endpoint answered {response.status_code}: {_said(response)}")
            return _reply(response, time.monotonic() - start_s)
        raise NoReplyError(f"{problem} ({self._settings.retries + 1} tries)")

    def _posted(
        self, messages: Sequence[dict[str, str]], schema: type[BaseModel] | None
    ) -> httpx.Response | str:
        """Return the response to one request, or why none came."""
        try:
            return self._http.post(self._url, json=self._body(messages, schema))
        except httpx.TimeoutException:
            return f"no reply within {self._settings.timeout_s:g} s"
        except (httpx.TransportError, httpx.DecodingError) as error:
            return f"the connection failed: {error or type(error).__name__}"

    def _body(self, messages: Sequence[dict[str, str]], schema: type[BaseModel] | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": list(messages),
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_output_tokens,
            "stream": False,
        }
        if schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": schema.__name__, "schema": schema.model_json_schema()},
            }
        return body


def _reply(response: httpx.Response, seconds: float) -> ChatReply:
    try:
        data = response.json()
        text = data["choices"][0]["message"]["content"]
        usage = data.get("usage") or {}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise NoReplyError(f"the endpoint's answer is no chat completion: {_said(response)}") from None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt_tokens, output_tokens = (n if isinstance(n, int) else None for n in counts)
    return ChatReply(text if isinstance(text, str) else "", prompt_tokens, output_tokens, seconds)


def _refuses_schema(response: httpx.Response) -> bool:
    return response.status_code == 400 and "response_format" in response.text


def _said(response: httpx.Response) -> str:
    return " ".join(response.text.split())[:200] or "nothing more"


def _asked_wait_s(response: httpx.Response) -> float | None:
    try:
        return min(MAX_WAIT_S, max(0.0, float(response.headers["Retry-After"])))
    except (KeyError, ValueError):
        return None
