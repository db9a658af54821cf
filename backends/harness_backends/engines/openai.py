"""Any endpoint that speaks OpenAI's chat completions: a cloud model, or a server somebody else runs."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from harness_backends.engines.adapter import EngineAvailability, EnginePlan, EngineRequest, request_body
from harness_backends.engines.arguments import Argument, check_arguments
from harness_backends.engines.errors import EngineArgumentError, EngineUnavailableError

ARGUMENTS = (
    Argument("base_url", str, "", "what /chat/completions is appended to, for example https://host/v1"),
    Argument(
        "api_key_env",
        str,
        "",
        "variable (*API_KEY or HARNESS_*) in the agent's environment that holds the key",
    ),
    Argument("max_tokens_field", str, "max_tokens", "some endpoints want max_completion_tokens instead"),
    Argument("send_top_k", bool, False, "send top_k and min_p, which OpenAI itself refuses"),
    Argument("stream_usage", bool, True, "ask for the usage record at the end of the stream"),
    Argument("extra_body", dict, {}, "fields added to every request"),
    Argument("retries", int, 4, "how often a query is asked again after 429 or 5xx", minimum=0, maximum=20),
)


class OpenAIAdapter:
    """Speaks to an endpoint that already runs; starts nothing and measures nothing by itself."""

    name = "openai"

    def availability(self) -> EngineAvailability:
        """Tell that this always can be tried."""
        return EngineAvailability(self.name, available=True, version="HTTP")

    def prepare(self, request: EngineRequest) -> EnginePlan:
        """Check the URL and the key.

        Raises:
            EngineArgumentError: no usable URL, or another argument is wrong.
            EngineUnavailableError: the key's environment variable is not set for the agent.
        """
        arguments = check_arguments(self.name, ARGUMENTS, request.engine_args)
        base_url = arguments.text("base_url").rstrip("/")
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineArgumentError(
                f"engine_args: `base_url` of the engine openai must be an http(s) URL, not {base_url!r}."
            )
        if parts.username or parts.password:
            raise EngineArgumentError(
                "engine_args: `base_url` of the engine openai carries a password; put the key into the agent's "
                "environment and name the variable in `api_key_env`."
            )
        body = request_body(request.source, request.sampling, repetition_field="repetition_penalty")
        unsent: list[str] = []
        if not arguments.flag("send_top_k"):
            unsent = [name for name in ("top_k", "min_p", "repetition_penalty") if name in body]
            for name in unsent:
                del body[name]
        if not arguments.flag("stream_usage"):
            del body["stream_options"]
        body[arguments.text("max_tokens_field")] = body.pop("max_tokens")
        extra = arguments.object("extra_body")
        body.update(extra)
        settings: dict[str, object] = {"base_url": base_url, "extra_body": extra}
        if unsent:
            settings["not_sent"] = unsent
        return EnginePlan(
            base_url=base_url,
            body=body,
            headers=_authorization(arguments.text("api_key_env")),
            facts={"endpoint": f"{parts.scheme}://{parts.hostname}", "remote": "true"},
            settings=settings,
            retries=arguments.integer("retries"),
        )


def _authorization(variable: str) -> dict[str, str]:
    if not variable:
        return {}
    if not (variable.endswith("API_KEY") or variable.startswith("HARNESS_")):
        # A job names the variable and the address its value goes to: it must not reach for other secrets.
        raise EngineArgumentError(
            f"engine_args: `api_key_env` must name a variable that ends in API_KEY or begins with HARNESS_, "
            f"not {variable!r}."
        )
    key = os.environ.get(variable, "").strip()
    if not key:
        raise EngineUnavailableError(
            f"engine_args: `api_key_env` names {variable}, which is not set in the agent's environment."
        )
    return {"Authorization": f"Bearer {key}"}
