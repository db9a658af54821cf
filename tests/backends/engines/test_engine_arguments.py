from __future__ import annotations

import pytest
from harness_backends.engines.arguments import parse_arguments_json
from harness_backends.engines.errors import EngineArgumentError, UnknownEngineError
from harness_backends.engines.registry import engine_availabilities, engine_names, load_engine

from tests.backends.engines.conftest import MODEL, engine_request


def refusal(engine: str, engine_args: dict[str, object], source: str = MODEL) -> str:
    with pytest.raises(EngineArgumentError) as refused:
        load_engine(engine).prepare(engine_request(engine_args, source))
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_an_unknown_argument_names_the_nearest_known_one() -> None:
    assert "did you mean `threads`?" in refusal("llamacpp", {"thread": 2})
    assert "it takes python, threads" in refusal("llamacpp", {"zzz": 2})


@pytest.mark.parametrize(
    ("engine_args", "told"),
    [
        ({"threads": "two"}, "`threads` of the engine llamacpp must be a whole number, not 'two'"),
        ({"threads": True}, "must be a whole number, not True"),
        ({"cache_prompt": 1}, "must be true or false"),
        ({"slots": 1000}, "between 0 and 256"),
        ({"context": -5}, "at least 0"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(engine_args: dict[str, object], told: str) -> None:
    assert told in refusal("llamacpp", engine_args)


def test_a_fault_that_does_not_exist_is_refused_with_the_list() -> None:
    assert "must be one of 429, 500" in refusal("stub", {"fault": "fire"})


def test_null_leaves_the_default() -> None:
    plan = load_engine("stub").prepare(engine_request({"tokens": None}))
    assert plan.settings["tokens"] == 8


def test_engine_args_that_are_no_object_are_refused() -> None:
    assert parse_arguments_json("") == {}
    assert parse_arguments_json('{"a": 1}') == {"a": 1}
    with pytest.raises(EngineArgumentError, match="not an object"):
        parse_arguments_json("[1]")
    with pytest.raises(EngineArgumentError, match="not JSON"):
        parse_arguments_json("{a")


def test_an_unknown_engine_names_the_nearest_known_one() -> None:
    with pytest.raises(UnknownEngineError, match="did you mean `llamacpp`"):
        load_engine("lamacpp")


def test_every_registered_engine_says_whether_it_can_run() -> None:
    found = {engine.name: engine for engine in engine_availabilities()}
    assert set(found) == set(engine_names()) >= {"llamacpp", "openai", "stub"}
    assert found["llamacpp"].available
    assert found["llamacpp"].version.startswith("xllamacpp 20")
    assert found["stub"].version == "stand-in"
