from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import pytest
from harness_backends.engines.adapter import EngineDevice, EnginePlan, EngineRequest, Sampling
from harness_backends.engines.errors import EngineStartError, EngineUnavailableError
from harness_backends.engines.gguf import read_gguf
from harness_backends.engines.llamacpp import LlamaCppAdapter
from harness_backends.engines.model_files import find_model_file
from harness_backends.engines.process import EngineProcess
from harness_backends.engines.prometheus import parse_gauges
from harness_backends.engines.stream_client import StreamClient
from harness_backends.engines.stream_result import FailureKind

from tests.backends.engines.conftest import MODEL, StartEngine, engine_request

GREEDY = Sampling(temperature=0.0, max_output_tokens=12)
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]


def test_the_real_engine_answers_with_counts_and_timings_and_no_cached_prompt(
    start_engine: StartEngine,
) -> None:
    async def run() -> None:
        async with start_engine(
            "llamacpp", source=MODEL, sampling=GREEDY, engine_args={"threads": 2}
        ) as engine:
            assert 0.1 < engine.load_s < 60
            first = await engine.client.stream(QUESTION, 60.0)
            again = await engine.client.stream(QUESTION, 60.0)
            pair = await asyncio.gather(*(engine.client.stream(QUESTION, 60.0) for _ in range(2)))
            for result in (first, again, *pair):
                assert result.failure is None
                assert result.finish_reason in ("stop", "length")
                assert result.prompt_tokens == first.prompt_tokens
                assert result.output_tokens is not None
                assert 1 <= result.output_tokens <= 12
                assert result.cached_tokens == 0, "prompt caching would flatter the second answer"
                assert result.engine_prefill_s is not None
                assert result.engine_prefill_s > 0
            plan = engine.process.plan
            metrics = await asyncio.to_thread(httpx.get, plan.metrics_url, headers=dict(plan.headers))
            assert parse_gauges(metrics.text, plan.gauges)["llamacpp:requests_processing"] == 0
            assert "Paris" in first.text
            assert first.text == again.text
            too_long = await engine.client.stream([{"role": "user", "content": "word " * 4000}], 60.0)
            assert too_long.failure is not None
            assert too_long.failure.kind is FailureKind.REFUSED
            assert "context size" in too_long.failure.message

    asyncio.run(run())


def test_the_settings_in_force_are_told() -> None:
    request = engine_request({"threads": 2}, MODEL, Sampling(max_output_tokens=100), concurrency=3)
    plan = LlamaCppAdapter().prepare(request)
    assert plan.settings["slots"] == 3
    assert plan.settings["context"] == 100 + 2048
    assert plan.settings["gpu_layers"] == 0
    assert plan.body["cache_prompt"] is False
    assert plan.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert "a-secret" not in " ".join(plan.argv), "arguments are visible to every user of the machine"


def test_a_gpu_job_sees_only_its_gpus_and_offloads_all_layers() -> None:
    request = engine_request({}, MODEL)
    devices = (EngineDevice("nvidia", "GPU-aa"), EngineDevice("nvidia", "GPU-bb"))
    plan = LlamaCppAdapter().prepare(
        EngineRequest(request.model_id, MODEL, {}, request.sampling, 1, request.port, devices=devices)
    )
    assert plan.environment["CUDA_VISIBLE_DEVICES"] == "GPU-aa,GPU-bb"
    assert plan.settings["gpu_layers"] == 999


def test_another_interpreter_without_xllamacpp_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match="names /nowhere/python"):
        LlamaCppAdapter().prepare(engine_request({"python": "/nowhere/python"}, MODEL))
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    message = start_failure(LlamaCppAdapter().prepare(engine_request({"python": str(bare)}, MODEL)), tmp_path)
    assert "cannot import xllamacpp" in message


def test_a_model_that_llama_cpp_refuses_gives_its_own_reason(tmp_path: Path) -> None:
    whole = find_model_file(MODEL)
    read_gguf(whole)
    with whole.open("rb") as file:
        head = file.read(4_000_000)  # the header is whole, most weights are missing
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(head)
    message = start_failure(LlamaCppAdapter().prepare(engine_request({}, str(cut))), tmp_path)
    assert "failed to load model" in message
    assert "Traceback" not in message


def start_failure(plan: EnginePlan, run_dir: Path) -> str:
    async def run() -> str:
        process = await EngineProcess.start(plan, run_dir)
        try:
            with pytest.raises(EngineStartError) as failed:
                await process.wait_ready(30.0)
        finally:
            await process.stop()
        return str(failed.value)

    return asyncio.run(run())


def test_a_stranger_on_the_same_machine_cannot_put_queries_into_the_measurement(
    start_engine: StartEngine,
) -> None:
    async def run() -> None:
        async with start_engine("llamacpp", source=MODEL, sampling=GREEDY) as engine:
            plan = engine.process.plan
            async with StreamClient(plan.base_url, plan.body) as stranger:
                result = await stranger.stream(QUESTION, 10.0)
            assert result.failure is not None
            assert "401" in result.failure.message

    asyncio.run(run())
