"""MLX really runs, on a folder converted from the GGUF file that llama.cpp runs."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from harness_backends.engines.adapter import EngineDevice, EngineRequest, Sampling
from harness_backends.engines.errors import EngineArgumentError, EngineStartError, NotAModelError
from harness_backends.engines.mlx import MlxAdapter
from harness_backends.engines.model_files import find_model_file
from harness_backends.engines.process import EngineProcess
from harness_backends.engines.prometheus import parse_gauges
from harness_backends.engines.stream_client import StreamClient
from harness_backends.models.folder import facts_of_folder
from harness_backends.models.gguf_to_folder import bf16, convert

from tests.backends.engines.conftest import MODEL, StartEngine, engine_request

GREEDY = Sampling(temperature=0.0, max_output_tokens=8)
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]
needs_gguf = pytest.mark.skipif(
    importlib.util.find_spec("gguf") is None,
    reason="the package gguf, which reads GGUF weights, is not installed",
)
needs_mlx = pytest.mark.skipif(
    importlib.util.find_spec("mlx_lm") is None,
    reason="mlx-lm is not installed: it needs Apple silicon, or Linux with glibc 2.35 or newer",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The GGUF weights as a model folder."""
    made = tmp_path_factory.mktemp("models") / "smollm2"
    convert(find_model_file(MODEL), made)
    yield made
    (made / "model.safetensors").unlink()


@needs_gguf
def test_a_converted_folder_tells_the_facts_of_its_gguf_file(folder: Path) -> None:
    facts = facts_of_folder(folder)
    assert (facts["parameters"], facts["layers"], facts["precision"]) == ("134515008", "30", "bf16")
    assert (facts["attention_heads"], facts["attention_kv_heads"], facts["attention_width"]) == (
        "9",
        "3",
        "576",
    )
    tokeniser = json.loads((folder / "tokenizer.json").read_text())
    assert {t["content"] for t in tokeniser["added_tokens"]} >= {"<|im_start|>", "<|im_end|>"}
    with pytest.raises(FileExistsError, match="holds a model"):
        convert(find_model_file(MODEL), folder)


@needs_gguf
def test_what_cannot_be_converted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_text("this is not a model")
    with pytest.raises(NotAModelError, match="is not a GGUF model"):
        convert(tmp_path / "no.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bf16_is_rounded_to_the_nearest_and_ties_to_even() -> None:
    values = np.array([1.0, -2.5, 1.00390625, 1.01171875, 3.14159274], np.float32)
    assert [hex(n) for n in bf16(values)] == ["0x3f80", "0xc020", "0x3f80", "0x3f82", "0x4049"]


@needs_gguf
@needs_mlx
def test_mlx_answers_with_counts_and_no_cached_prompt_and_only_to_its_run(
    folder: Path, start_engine: StartEngine
) -> None:
    async def run() -> None:
        async with start_engine("mlx", source=str(folder), sampling=GREEDY, concurrency=2) as engine:
            assert 0.3 < engine.load_s < 60
            plan = engine.process.plan
            pair = await asyncio.gather(*(engine.client.stream(QUESTION, 60.0) for _ in range(2)))
            again = await engine.client.stream(QUESTION, 60.0)
            for result in (*pair, again):
                assert result.failure is None
                assert "Paris" in result.text, "rotary halves or tokeniser would be wrong otherwise"
                assert result.prompt_tokens == 42, "the same template and tokeniser as llama.cpp's"
                assert result.output_tokens is not None
                assert 1 <= result.output_tokens <= 8
                assert result.first_token_ns is not None
            # With a reused prompt the second time would be a small part of the first.
            seconds = [(r.first_token_ns or 0) - r.start_ns for r in (pair[0], again)]
            assert seconds[1] > 0.2 * seconds[0]
            async with StreamClient(plan.base_url, plan.body, keep_alive=False) as stranger:
                refused = await stranger.stream(QUESTION, 10.0)
            assert refused.failure is not None
            assert "401" in refused.failure.message
            gauges = parse_gauges((await asyncio.to_thread(httpx.get, plan.metrics_url)).text, plan.gauges)
            assert gauges["mlx:num_requests_running"] == 0
            assert gauges["mlx:peak_memory_bytes"] > 134_515_008 * 2, "more than the weights"

    asyncio.run(run())


@needs_mlx
@needs_gguf
def test_a_port_that_is_taken_meanwhile_is_told(folder: Path, tmp_path: Path) -> None:
    async def failure(port: int) -> str:
        plan = MlxAdapter().prepare(dataclasses.replace(engine_request({}, str(folder)), port=port))
        engine = await EngineProcess.start(plan, tmp_path)
        try:
            with pytest.raises(EngineStartError) as failed:
                await engine.wait_ready(60.0)
        finally:
            await engine.stop()
        return str(failed.value)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = asyncio.run(failure(port))
    assert message.startswith("The engine did not start: it ended with exit code")
    assert "Address already in use" in message


@needs_mlx
def test_mlx_settings_follow_the_job_and_the_device(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"quantization": {"bits": 4, "group_size": 64}}')
    base = engine_request({}, str(tmp_path), concurrency=3)
    plan = MlxAdapter().prepare(base)
    assert (plan.settings["device"], plan.settings["decode_concurrency"]) == ("cpu", 3)
    assert plan.facts["precision"] == "int4"
    assert plan.facts["max_num_batched_tokens"] == str(3 * 2048), "three prompts at once, a step of each"
    one = MlxAdapter().prepare(engine_request({"kv_bits": 8}, str(tmp_path), concurrency=3))
    assert one.facts["max_num_batched_tokens"] == "2048"
    assert "a-secret" not in " ".join(plan.argv)
    on_gpu = EngineRequest(
        "m", str(tmp_path), {}, Sampling(), 1, base.port, devices=(EngineDevice("apple", "soc"),)
    )
    assert MlxAdapter().prepare(on_gpu).settings["device"] == "gpu"
    with pytest.raises(EngineArgumentError, match="did you mean `kv_bits`"):
        MlxAdapter().prepare(engine_request({"kv_bit": 4}, str(tmp_path)))
