"""vLLM's adapter without vLLM: arguments, devices, and a start through a package that stands in for it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from harness_backends.engines.adapter import EngineDevice, EngineRequest, Sampling
from harness_backends.engines.devices import device_environment
from harness_backends.engines.errors import (
    EngineArgumentError,
    EngineStartError,
    EngineUnavailableError,
    ModelNotFoundError,
    NotAModelError,
)
from harness_backends.engines.process import EngineProcess, free_port
from harness_backends.engines.stream_client import StreamClient
from harness_backends.engines.vllm import VllmAdapter, facts_of_log, options

STAND_IN = Path(__file__).parents[2] / "standins" / "vllm_package"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with a config and no weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def python(tmp_path: Path) -> str:
    """An interpreter that finds the stand-in package as `vllm`."""
    script = tmp_path / "venv" / "bin" / "python"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nPYTHONPATH={STAND_IN} exec {sys.executable} "$@"\n')
    script.chmod(0o755)
    packages = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "vllm-0.31.9.dist-info").symlink_to(STAND_IN / "vllm-0.31.9.dist-info")
    return str(script)


def request(
    source: str | Path, arguments: dict[str, object], devices: tuple[EngineDevice, ...] = ()
) -> EngineRequest:
    return EngineRequest(
        "a-model", str(source), arguments, Sampling(temperature=0.0), 2, free_port(), "a-secret", devices
    )


def test_engine_args_become_options_of_the_module_and_the_rest_stays_vllms_own(
    folder: Path, python: str
) -> None:
    arguments: dict[str, object] = {
        "python": python,
        "tensor-parallel-size": 2,
        "gpu_memory_utilization": 0.8,
        "enforce_eager": True,
        "speculative_config": {"method": "ngram"},
        "extra_args": ["--some-newer-option", "x; rm -rf /"],
        "environment": {"VLLM_CPU_KVCACHE_SPACE": 1},
    }
    devices = (EngineDevice("nvidia", "GPU-aa"), EngineDevice("nvidia", "GPU-bb"))
    plan = VllmAdapter().prepare(request(folder, arguments, devices))
    shown = " ".join(plan.argv)
    assert "--tensor-parallel-size 2" in shown
    assert "--gpu-memory-utilization 0.8" in shown
    assert "--enforce-eager" in plan.argv
    assert "--no-enable-prefix-caching" in plan.argv, "prefix caching flatters time to first token"
    assert '{"method": "ngram"}' in plan.argv
    assert plan.argv[-2:] == ("--some-newer-option", "x; rm -rf /"), "data, never a shell line"
    assert "a-secret" not in shown, "arguments are visible to every user of the machine"
    assert plan.environment["VLLM_API_KEY"] == "a-secret"
    assert plan.environment["CUDA_VISIBLE_DEVICES"] == "GPU-aa,GPU-bb"
    assert plan.environment["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert plan.engine_version == "vllm 0.31.9"
    assert plan.facts["layers"] == "2"
    assert plan.settings["gpu_memory_utilization"] == 0.8
    assert plan.body["model"] == "a-model"


def test_a_rocm_engine_sees_only_its_gpus_by_the_names_of_its_runtime(tmp_path: Path) -> None:
    address = tmp_path / "0000:c1:00.0"
    address.mkdir()
    (address / "unique_id").write_text("4f83a4d2ae6cd39\n")
    devices = (
        EngineDevice("amd", "aaff-74a1", "0000:c1:00.0"),
        EngineDevice("amd", "bbff-74a1", "0000:c2:00.0"),
    )
    environment = device_environment(devices, tmp_path)
    # The second has no unique id (a virtual function): its own id is all there is.
    assert environment["ROCR_VISIBLE_DEVICES"] == "GPU-04f83a4d2ae6cd39,bbff-74a1"
    # HIP counts what ROCR leaves; vLLM wants both of its names to agree.
    assert environment["HIP_VISIBLE_DEVICES"] == environment["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_options_have_the_forms_that_vllm_reads() -> None:
    given = {"a_b": True, "c": False, "d": None, "e": 1.5, "f": ["x", "y"]}
    assert options(given) == ["--a-b", "--no-c", "--e", "1.5", "--f", "x", "y"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"tensor_paralel_size": 2}, "knows no `tensor_paralel_size`; did you mean `tensor_parallel_size`?"),
        ({"max_num_sequences": 2}, "did you mean `max_num_seqs`?"),
        ({"qqqqqq": 2}, "an option of a newer vLLM goes into `extra_args`"),
        ({"gpu_memory_utilization": 1.5}, "must be between 0.01 and 1, not 1.5"),
        ({"max_model_len": "8k"}, "must be a whole number, not '8k'"),
        ({"port": 8000}, "`port` of the engine vllm is set by the harness"),
        ({"extra_args": ["--host=0.0.0.0"]}, "is set by the harness"),
        ({"extra_args": "--enforce-eager"}, "must be a list of texts"),
        ({"extra_args": [1]}, "must hold texts only"),
        ({"environment": {"LD_PRELOAD": "x"}}, "may set variables that begin with VLLM_"),
        ({"tensor_parallel_size": 4}, "is 4 and the run has 1 devices"),
    ],
)
def test_a_wrong_argument_gets_one_sentence(
    folder: Path, python: str, arguments: dict[str, object], told: str
) -> None:
    with pytest.raises(EngineArgumentError) as caught:
        VllmAdapter().prepare(
            request(folder, {"python": python, **arguments}, (EngineDevice("nvidia", "GPU-aa"),))
        )
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_source_is_a_model_folder_or_a_name_of_the_hub(
    folder: Path, tmp_path: Path, python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    prepare = VllmAdapter().prepare
    with pytest.raises(ModelNotFoundError, match="no model folder /nowhere/at/all"):
        prepare(request("/nowhere/at/all", {"python": python}))
    with pytest.raises(NotAModelError, match="harness models convert"):
        prepare(request("model.gguf", {"python": python}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotAModelError, match=r"holds no config\.json"):
        prepare(request(tmp_path / "empty", {"python": python}))
    plan = prepare(request("Org/Model-1.5", {"python": python}))
    assert "Org/Model-1.5" in plan.argv
    assert plan.facts == {}, "nothing of it is here yet, and nothing is invented"
    # Once vLLM has fetched it, its facts are in the hub's cache.
    repository = tmp_path / "hub" / "models--Org--Model-1.5"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / "abc").symlink_to(folder)
    assert plan.facts_when_ready is not None
    assert plan.facts_when_ready(tmp_path / "no.log")["layers"] == "2"


def test_where_vllm_is_not_installed_the_reason_names_the_way_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_VLLM_PYTHON", "/nowhere/python")
    found = VllmAdapter().availability()
    assert not found.available
    assert "HARNESS_VLLM_PYTHON names /nowhere/python" in found.reason
    with pytest.raises(EngineUnavailableError, match="which is no program on this machine"):
        VllmAdapter().prepare(request(folder, {}))


def test_the_agents_environment_names_the_interpreter(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_VLLM_PYTHON", python)
    found = VllmAdapter().availability()
    assert (found.available, found.version) == (True, "vllm 0.31.9")


CPU_LOG = """\
(APIServer pid=18825) INFO 11-26 11:50:10 [api_utils.py:286] non-default args: {'dtype': 'bfloat16'}
(EngineCore pid=19602) INFO 11-26 11:50:47 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: \
model='m', dtype=torch.bfloat16, max_seq_len=1024, quantization=None, quantization_config=None, kv_cache_dtype=auto, \
compilation_config={'compile_sizes': None, 'compile_ranges_endpoints': [512, 2048], 'inductor_passes': {}}
(EngineCore pid=19602) INFO 11-26 11:50:47 [ompmultiprocessing.py:185] OpenMP thread binding info:
(EngineCore pid=19602) INFO 11-26 11:50:47 [ompmultiprocessing.py:185] \tlocal_rank=0, core ids=[0, 1, 2]
(EngineCore pid=19602) INFO 11-26 11:50:47 [ompmultiprocessing.py:185] \treserved_cpus=[3]
(EngineCore pid=19602) INFO 11-26 11:51:06 [kv_cache_utils.py:2327] CPU KV cache size: 46,592 tokens, Maximum
"""
"""What vLLM 0.32's CPU build wrote, shortened."""


def test_the_cpu_builds_threads_and_step_are_found_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text(CPU_LOG)
    assert facts_of_log(log) == {
        "engine_version": "0.32.0",
        "dtype": "bfloat16",
        "max_model_len": "1024",
        "max_num_batched_tokens": "2048",
        "kv_cache_tokens": "46592",
        "num_workers": "3",
    }
    log.write_text(CPU_LOG.replace("quantization=None", "quantization=mxfp4"))
    assert facts_of_log(log)["quantization"] == "mxfp4"
    assert facts_of_log(tmp_path / "no.log") == {}


def test_precision_is_the_quantisation_that_vllm_took_and_else_its_dtype(
    folder: Path, python: str, tmp_path: Path
) -> None:
    log = tmp_path / "engine.log"
    plan = VllmAdapter().prepare(request(folder, {"python": python, "dtype": "float16"}))
    assert plan.facts["precision"] == "fp16"
    assert plan.facts_when_ready is not None
    log.write_text(CPU_LOG)
    assert plan.facts_when_ready(log)["precision"] == "bf16", "what it says it runs, not what was asked"
    log.write_text(CPU_LOG.replace("quantization=None", "quantization=fp8"))
    assert plan.facts_when_ready(log)["precision"] == "fp8"


def test_it_starts_answers_and_tells_what_it_settled_on(folder: Path, python: str, tmp_path: Path) -> None:
    devices = (EngineDevice("nvidia", "GPU-cc"),)
    plan = VllmAdapter().prepare(request(folder, {"python": python}, devices))
    run_dir = tmp_path / "run"
    run_dir.mkdir()

    async def run() -> None:
        process = await EngineProcess.start(plan, run_dir)
        try:
            await process.wait_ready(30.0)
            async with StreamClient(plan.base_url, plan.body, plan.headers) as client:
                result = await client.stream([{"role": "user", "content": "hello"}], 10.0)
            assert (result.failure, result.output_tokens) == (None, 5)
            async with StreamClient(plan.base_url, plan.body) as stranger:
                refused = await stranger.stream([{"role": "user", "content": "hello"}], 10.0)
            assert refused.failure is not None
            assert "401" in refused.failure.message
            assert plan.facts_when_ready is not None
            facts = plan.facts_when_ready(process.log_path)
            assert (facts["max_model_len"], facts["max_num_batched_tokens"]) == ("8192", "16384")
            assert (facts["dtype"], facts["kv_cache_tokens"]) == ("float16", "46592")
        finally:
            await process.stop()

    asyncio.run(run())
    given = json.loads((run_dir / "given.json").read_text())
    # 0.31 dies of UUIDs in CUDA_VISIBLE_DEVICES; the launcher gives it NVML's index of that very device.
    assert given["visible"] == "2"
    assert Path(given["path"]) != Path(plan.argv[1]).parent


def test_an_interpreter_without_vllm_is_told_at_the_start(folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    plan = VllmAdapter().prepare(request(folder, {"python": str(bare)}))

    async def run() -> str:
        process = await EngineProcess.start(plan, tmp_path)
        try:
            with pytest.raises(EngineStartError) as failed:
                await process.wait_ready(30.0)
        finally:
            await process.stop()
        return str(failed.value)

    message = asyncio.run(run())
    assert "cannot import vllm; install vllm there" in message
