from __future__ import annotations

import pytest
from harness_backends.engines.errors import EngineArgumentError, EngineUnavailableError
from harness_backends.engines.openai import OpenAIAdapter

from tests.backends.engines.conftest import engine_request

URL = "https://models.example/v1"


def test_a_cloud_model_gets_only_what_openai_accepts() -> None:
    plan = OpenAIAdapter().prepare(engine_request({"base_url": URL + "/"}, source="big-model"))
    assert plan.argv == ()
    assert plan.base_url == URL
    assert plan.body["model"] == "big-model"
    assert plan.body["max_tokens"] == 64
    assert not {"top_k", "min_p"} & plan.body.keys()
    assert plan.settings["not_sent"] == ["top_k", "min_p"]


def test_fields_can_be_renamed_added_and_kept() -> None:
    arguments: dict[str, object] = {
        "base_url": URL,
        "max_tokens_field": "max_completion_tokens",
        "send_top_k": True,
        "extra_body": {"reasoning_effort": "low"},
    }
    body = OpenAIAdapter().prepare(engine_request(arguments)).body
    assert body["max_completion_tokens"] == 64
    assert "max_tokens" not in body
    assert body["top_k"] == 20
    assert body["reasoning_effort"] == "low"


def test_the_key_comes_from_the_named_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, object] = {"base_url": URL, "api_key_env": "A_CLOUD_API_KEY"}
    monkeypatch.delenv("A_CLOUD_API_KEY", raising=False)
    with pytest.raises(EngineUnavailableError, match="A_CLOUD_API_KEY, which is not set"):
        OpenAIAdapter().prepare(engine_request(arguments))
    monkeypatch.setenv("A_CLOUD_API_KEY", "k-123")
    plan = OpenAIAdapter().prepare(engine_request(arguments))
    assert plan.headers == {"Authorization": "Bearer k-123"}
    assert "k-123" not in repr((plan.settings, plan.facts, plan.body))


def test_a_job_cannot_send_other_secrets_of_the_agent_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    with pytest.raises(EngineArgumentError, match="must name a variable that ends in API_KEY"):
        OpenAIAdapter().prepare(engine_request({"base_url": URL, "api_key_env": "DATABASE_PASSWORD"}))


@pytest.mark.parametrize(
    "url", ["", "models.example/v1", "ftp://models.example", "https://me:pw@models.example"]
)
def test_a_url_that_cannot_be_used_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(EngineArgumentError, match="`base_url` of the engine openai"):
        OpenAIAdapter().prepare(engine_request({"base_url": url}))
