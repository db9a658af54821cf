from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from harness_backends.engines.adapter import EnginePlan
from harness_backends.engines.errors import EngineStartError
from harness_backends.engines.process import EngineProcess
from harness_backends.engines.registry import load_engine

from tests.backends.engines.conftest import MODEL, StartEngine, engine_request

# A program that ignores SIGTERM and starts a worker that leaves its group: the worst an engine can be.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
print("pids", os.getpid(), worker.pid, flush=True)
time.sleep(1000)
"""
AGENT = """
import asyncio, sys
from pathlib import Path
from harness_backends.engines.adapter import EnginePlan
from harness_backends.engines.process import EngineProcess
async def main():
    plan = EnginePlan(base_url="", body={}, argv=(sys.executable, "-c", sys.argv[1]))
    await EngineProcess.start(plan, Path(sys.argv[2]), grace_s=0.2)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


def eventually(condition: Callable[[], bool], deadline_s: float = 15.0) -> bool:
    end_s = time.monotonic() + deadline_s
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def stubborn_pids(run_dir: Path) -> list[int]:
    log = run_dir / "engine.log"
    assert eventually(lambda: log.exists() and "pids" in log.read_text())
    return [int(pid) for pid in log.read_text().split()[1:3]]


def gone(pids: list[int]) -> bool:
    def one(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return all(one(pid) for pid in pids)


def test_stop_leaves_nothing_even_of_a_program_that_ignores_sigterm(tmp_path: Path) -> None:
    async def run() -> None:
        plan = EnginePlan(base_url="", body={}, argv=(sys.executable, "-c", STUBBORN))
        process = await EngineProcess.start(plan, tmp_path, grace_s=0.2)
        pids = await asyncio.to_thread(stubborn_pids, tmp_path)
        assert not gone(pids)
        await process.stop()
        assert gone([*pids, *process.pids])

    asyncio.run(run())


@pytest.mark.skipif(sys.platform != "linux", reason="the kill of an orphan's orphan needs Linux")
def test_kill_9_of_the_agent_leaves_no_engine_behind(tmp_path: Path) -> None:
    agent = subprocess.Popen([sys.executable, "-c", AGENT, STUBBORN, str(tmp_path)])
    try:
        pids = stubborn_pids(tmp_path)
        assert not gone(pids)
    finally:
        agent.kill()
        agent.wait()
    assert eventually(lambda: gone(pids))


@pytest.mark.skipif(sys.platform != "linux", reason="tying a process to its parent needs Linux")
def test_kill_9_of_the_guard_ends_the_engine(tmp_path: Path) -> None:
    async def run() -> None:
        plan = EnginePlan(base_url="", body={}, argv=(sys.executable, "-c", STUBBORN))
        process = await EngineProcess.start(plan, tmp_path, grace_s=0.2)
        engine, worker = await asyncio.to_thread(stubborn_pids, tmp_path)
        os.kill(process.pids[0], signal.SIGKILL)
        assert await asyncio.wait_for(process.exited, 5.0) == 128 + signal.SIGKILL
        assert await asyncio.to_thread(eventually, lambda: gone([engine]))
        os.kill(worker, signal.SIGKILL)  # a worker that left the group outlives a killed guard

    asyncio.run(run())


def test_a_crash_is_noticed_at_once_with_its_last_words(start_engine: StartEngine) -> None:
    async def run() -> None:
        async with start_engine(engine_args={"fault": "crash"}) as engine:
            await engine.client.stream([{"role": "user", "content": "x"}], 5.0)
            code = await asyncio.wait_for(engine.process.exited, 2.0)
            assert code == 70
            reason = engine.process.exit_reason()
            assert reason.startswith("it ended with exit code 70; its last lines: ")
            assert reason.endswith("stand-in fault: out of memory, this engine ends now")

    asyncio.run(run())


VLLM_LOG = """
(EngineCore pid=1679) ERROR 11-26 19:09:11 [core.py:1330] Traceback (most recent call last):
(EngineCore pid=1679) ERROR 11-26 19:09:11 [core.py:1330]     from flashinfer import (
(EngineCore pid=1679) ERROR 11-26 19:09:11 [core.py:1330] ModuleNotFoundError: No module named 'flashinfer'
[rank0]:[W1126 19:09:12.372037483 ProcessGroupNCCL.cpp:1575] Warning: destroy_process_group() was not called
(APIServer pid=1610) Traceback (most recent call last):
(APIServer pid=1610)     wait_for_engine_startup(
(APIServer pid=1610)     raise RuntimeError(
(APIServer pid=1610) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
"""What vLLM 0.26 wrote on a machine without flashinfer, shortened."""


def test_the_cause_comes_before_the_last_lines_that_only_follow_from_it(tmp_path: Path) -> None:
    plan = EnginePlan(
        base_url="", body={}, argv=(sys.executable, "-c", f"import sys; sys.exit({VLLM_LOG!r})")
    )

    async def run() -> str:
        process = await EngineProcess.start(plan, tmp_path, grace_s=0.2)
        await asyncio.wait_for(process.exited, 5.0)
        return process.exit_reason()

    reason = asyncio.run(run())
    assert "its last lines: ModuleNotFoundError: No module named 'flashinfer' | " in reason
    assert reason.endswith("See root cause above. Failed core proc(s): {}")
    assert reason.count("ModuleNotFoundError") == 1


def test_a_killed_engine_is_told_by_its_signal(start_engine: StartEngine) -> None:
    async def run() -> None:
        async with start_engine() as engine:
            (child,) = psutil.Process(engine.process.pids[0]).children()
            child.kill()
            await asyncio.wait_for(engine.process.exited, 2.0)
            assert engine.process.exit_reason().startswith("it was ended by SIGKILL")

    asyncio.run(run())


def start_failure(plan: EnginePlan, run_dir: Path, timeout_s: float) -> str:
    async def run() -> str:
        process = await EngineProcess.start(plan, run_dir)
        try:
            with pytest.raises(EngineStartError) as failed:
                await process.wait_ready(timeout_s)
        finally:
            await process.stop()
        return str(failed.value)

    return asyncio.run(run())


def test_an_engine_that_ends_while_loading_fails_with_its_last_lines(tmp_path: Path) -> None:
    plan = load_engine("stub").prepare(engine_request({"start_fault": "exit"}))
    message = start_failure(plan, tmp_path, 10.0)
    assert message.startswith("The engine did not start: it ended with exit code 1")
    assert "the weights do not fit into memory" in message
    assert "\n" not in message


def test_a_lack_of_memory_is_told_before_what_follows_from_it(tmp_path: Path) -> None:
    words = ["loading", "ggml_aligned_malloc: cannot allocate memory", "no context", "no model", "no server"]
    script = f"import sys; [print(w, file=sys.stderr) for w in {words}]; sys.exit(1)"
    plan = EnginePlan("", {}, (sys.executable, "-c", script), ready_url="http://127.0.0.1:9/health")
    message = start_failure(plan, tmp_path, 10.0)
    assert message.endswith("cannot allocate memory | no context | no model | no server")


@pytest.mark.parametrize(("engine", "source"), [("stub", "none"), ("llamacpp", MODEL)])
def test_a_port_that_is_taken_meanwhile_is_told(tmp_path: Path, engine: str, source: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        plan = load_engine(engine).prepare(dataclasses.replace(engine_request(source=source), port=port))
        message = start_failure(plan, tmp_path, 30.0)
    assert message.startswith("The engine did not start: it ended with exit code 1")
    assert "bind" in message
    assert str(port) in message


def test_an_engine_that_is_never_ready_fails_at_the_timeout(tmp_path: Path) -> None:
    plan = load_engine("stub").prepare(engine_request({"start_fault": "never-ready"}))
    assert "not ready within 0.5 s" in start_failure(plan, tmp_path, 0.5)


def test_a_program_that_is_not_there_fails_with_its_name(tmp_path: Path) -> None:
    plan = EnginePlan(base_url="", body={}, argv=("/nowhere/engine",), ready_url="http://127.0.0.1:9/health")
    assert "cannot start /nowhere/engine" in start_failure(plan, tmp_path, 10.0)


def test_load_time_is_measured_from_start_to_ready(start_engine: StartEngine) -> None:
    async def run() -> float:
        async with start_engine(engine_args={"load_s": 0.5}) as engine:
            return engine.load_s

    assert 0.5 <= asyncio.run(run()) < 5.0
