"""llama.cpp through xllamacpp: a GGUF model served by a worker process."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from harness_backends.engines.adapter import (
    KEY_VARIABLE,
    EngineAvailability,
    EnginePlan,
    EngineRequest,
    request_body,
)
from harness_backends.engines.arguments import Argument, Arguments, check_arguments
from harness_backends.engines.devices import device_environment
from harness_backends.engines.errors import EngineUnavailableError
from harness_backends.engines.gguf import GgufModel, read_gguf
from harness_backends.engines.model_files import find_model_file
from harness_backends.home_folder import expanded

WORKER = Path(__file__).with_name("llamacpp_server.py")
PROMPT_ALLOWANCE = 2048
"""Tokens of context left for the prompt and its template when the job names no context size."""
ALL_LAYERS = 999
GAUGES = {
    "llamacpp:requests_processing": "running_requests",
    "llamacpp:requests_deferred": "waiting_requests",
    "llamacpp:kv_cache_usage_ratio": "kv_cache_use",
}
"""Gauges of /metrics that the agent samples; this llama.cpp no longer has the last, and then it is absent."""
INSTALL = "install it with: pip install 'joule-harness[llamacpp]'"

ARGUMENTS = (
    Argument("python", str, "", "interpreter that has xllamacpp; default: the agent's own"),
    Argument("threads", int, 0, "threads for generation; 0: one per physical core", minimum=0),
    Argument("threads_batch", int, 0, "threads for prompts; 0: as many as `threads`", minimum=0),
    Argument("slots", int, 0, "sequences decoded together; 0: the job's concurrency", minimum=0, maximum=256),
    Argument("context", int, 0, "context tokens per slot; 0: output limit + 2048", minimum=0),
    Argument("gpu_layers", int, -1, "layers on the GPU; -1: all with a GPU, none without", minimum=-1),
    Argument("batch", int, 2048, "prompt tokens processed together", minimum=1),
    Argument("ubatch", int, 512, "prompt tokens in one physical batch", minimum=1),
    Argument("cache_prompt", bool, False, "reuse a prompt's common prefix; flatters time to first token"),
    Argument("mmap", bool, True, "map the model file instead of reading it"),
    Argument("verbosity", int, 2, "llama.cpp's log level: 1 errors, 2 warnings, 3 everything", minimum=0),
)


class LlamaCppAdapter:
    """Serves one GGUF file with llama.cpp."""

    name = "llamacpp"

    def availability(self) -> EngineAvailability:
        """Tell whether xllamacpp is installed beside the agent."""
        if importlib.util.find_spec("xllamacpp") is None:
            return EngineAvailability(
                self.name, available=False, reason=f"the package xllamacpp is missing; {INSTALL}"
            )
        return EngineAvailability(self.name, available=True, version=_version())

    def prepare(self, request: EngineRequest) -> EnginePlan:
        """Check arguments and model file, and say how to start the worker.

        Raises:
            EngineArgumentError: an engine argument is unknown or wrong.
            ModelNotFoundError: the model's source leads to nothing here.
            NotAModelError: the file is not GGUF.
            EngineUnavailableError: xllamacpp, or the named interpreter, is missing.
        """
        arguments = check_arguments(self.name, ARGUMENTS, request.engine_args)
        interpreter = self._interpreter(arguments)
        model = read_gguf(find_model_file(request.source))
        settings = _settings(request, arguments, model)
        base_url = f"http://127.0.0.1:{request.port}"
        body = request_body(request.model_id, request.sampling, repetition_field="repeat_penalty")
        body["cache_prompt"] = settings["cache_prompt"]
        return EnginePlan(
            base_url=f"{base_url}/v1",
            ready_url=f"{base_url}/health",
            metrics_url=f"{base_url}/metrics",
            gauges=GAUGES,
            body=body,
            argv=(
                interpreter,
                str(WORKER),
                json.dumps({"model": str(model.path), "port": request.port, **settings}),
            ),
            environment={KEY_VARIABLE: request.key, **device_environment(request.devices)},
            headers={"Authorization": f"Bearer {request.key}"} if request.key else {},
            engine_version="" if arguments.text("python") else _version(),
            facts=model.facts(),
            settings=settings,
            # Its HTTP server closes a connection after a stream without saying so: a reuse would race with that.
            keep_alive=False,
        )

    def _interpreter(self, arguments: Arguments) -> str:
        named = arguments.text("python")
        if not named:
            found = self.availability()
            if not found.available:
                raise EngineUnavailableError(f"The engine llamacpp cannot run here: {found.reason}")
            return sys.executable
        path = shutil.which(expanded(named))
        if path is None:
            raise EngineUnavailableError(
                f"engine_args: `python` names {named}, which is no program on this machine."
            )
        return path


def _settings(request: EngineRequest, arguments: Arguments, model: GgufModel) -> dict[str, object]:
    trained = model.number("context_length")
    context = arguments.integer("context")
    if not context:
        wanted = request.sampling.max_output_tokens + PROMPT_ALLOWANCE
        context = min(wanted, trained) if trained else wanted
    gpu_layers = arguments.integer("gpu_layers")
    if gpu_layers < 0:
        gpu_layers = ALL_LAYERS if request.devices else 0
    # llama.cpp would choose the same number by itself, and not tell it.
    threads = arguments.integer("threads") or psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return {
        "threads": threads,
        "threads_batch": arguments.integer("threads_batch") or threads,
        "slots": arguments.integer("slots") or max(1, request.concurrency),
        "context": context,
        "gpu_layers": gpu_layers,
        "batch": arguments.integer("batch"),
        "ubatch": arguments.integer("ubatch"),
        "cache_prompt": arguments.flag("cache_prompt"),
        "mmap": arguments.flag("mmap"),
        "verbosity": arguments.integer("verbosity"),
    }


def _version() -> str:
    try:
        return f"xllamacpp {version('xllamacpp')}"
    except PackageNotFoundError:
        return ""
