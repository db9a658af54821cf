"""MLX: a Hugging Face or MLX model folder on Apple silicon (or, for tests, on a Linux CPU)."""

from __future__ import annotations

import json
from pathlib import Path

from harness_backends.engines.adapter import (
    KEY_VARIABLE,
    EngineAvailability,
    EnginePlan,
    EngineRequest,
    request_body,
)
from harness_backends.engines.arguments import Argument, Arguments, check_arguments
from harness_backends.engines.errors import EngineUnavailableError
from harness_backends.engines.interpreters import find_interpreter, installed_version
from harness_backends.models.folder import facts_of_source, local_model_source

WORKER = Path(__file__).with_name("mlx_server.py")
INTERPRETER_VARIABLE = "HARNESS_MLX_PYTHON"
DISTRIBUTIONS = ("mlx-lm",)
INSTALL = (
    "install it with: pip install 'joule-harness[mlx]' (macOS on Apple silicon, or Linux with glibc 2.35 or newer), or "
    "let HARNESS_MLX_PYTHON in the agent's environment name the interpreter that has it"
)
GAUGES = {
    "mlx:num_requests_running": "running_requests",
    "mlx:active_memory_bytes": "engine_memory_bytes",
    "mlx:peak_memory_bytes": "engine_peak_memory_bytes",
}

ARGUMENTS = (
    Argument("python", str, "", "interpreter that has mlx_lm; default: the agent's own"),
    Argument("decode_concurrency", int, 0, "sequences decoded together; 0: the job's concurrency", minimum=0),
    Argument("prompt_concurrency", int, 0, "prompts processed together; 0: mlx_lm's 8", minimum=0),
    Argument("prefill_step_size", int, 2048, "prompt tokens processed together", minimum=1),
    Argument(
        "kv_bits", int, 0, "bits of the KV cache; 0: not quantised; anything else ends batching", minimum=0
    ),
    Argument("adapter_path", str, "", "folder of trained adapter weights"),
    Argument("cache_prompt", bool, False, "reuse a prompt's common prefix; flatters time to first token"),
    Argument("trust_remote_code", bool, False, "run code that comes with the model's tokeniser"),
)


class MlxAdapter:
    """Serves a model folder, or a model of the Hugging Face hub, with mlx_lm."""

    name = "mlx"

    def availability(self) -> EngineAvailability:
        """Tell whether mlx_lm is installed where the agent looks for it."""
        try:
            version = installed_version(find_interpreter("", INTERPRETER_VARIABLE), DISTRIBUTIONS)
        except EngineUnavailableError as error:
            return EngineAvailability(self.name, available=False, reason=str(error))
        if not version:
            return EngineAvailability(
                self.name, available=False, reason=f"mlx-lm is not installed; {INSTALL}"
            )
        return EngineAvailability(self.name, available=True, version=version)

    def prepare(self, request: EngineRequest) -> EnginePlan:
        """Check arguments and model, and say how to start the worker.

        Raises:
            EngineArgumentError: an engine argument is unknown or wrong.
            ModelNotFoundError: the model's source leads to nothing here and is no name of the hub.
            EngineUnavailableError: mlx_lm, or the named interpreter, is missing.
        """
        arguments = check_arguments(self.name, ARGUMENTS, request.engine_args)
        interpreter = find_interpreter(arguments.text("python"), INTERPRETER_VARIABLE)
        version = installed_version(interpreter, DISTRIBUTIONS)
        if not version and not arguments.text("python"):
            raise EngineUnavailableError(
                f"The engine mlx cannot run here: mlx-lm is not installed; {INSTALL}."
            )
        source = local_model_source(request.source)
        settings = _settings(request, arguments)
        base_url = f"http://127.0.0.1:{request.port}"
        worker = {
            "device": settings["device"],
            "cache_prompt": settings["cache_prompt"],
            "options": _options(source, request.port, settings),
        }
        body = request_body("default_model", request.sampling, repetition_field="repetition_penalty")
        return EnginePlan(
            base_url=f"{base_url}/v1",
            ready_url=f"{base_url}/health",
            metrics_url=f"{base_url}/metrics",
            gauges=GAUGES,
            body=body,
            argv=(interpreter, str(WORKER), json.dumps(worker)),
            environment={KEY_VARIABLE: request.key},
            headers={"Authorization": f"Bearer {request.key}"} if request.key else {},
            engine_version=version,
            facts={**facts_of_source(source), **_batch_facts(settings)},
            settings=settings,
            facts_when_ready=lambda _: facts_of_source(source),
            # Its HTTP server speaks HTTP/1.0: a connection ends with its answer.
            keep_alive=False,
        )


def _settings(request: EngineRequest, arguments: Arguments) -> dict[str, object]:
    return {
        "device": "gpu" if request.devices else "cpu",
        "decode_concurrency": arguments.integer("decode_concurrency") or max(1, request.concurrency),
        "prompt_concurrency": arguments.integer("prompt_concurrency") or min(8, max(1, request.concurrency)),
        "prefill_step_size": arguments.integer("prefill_step_size"),
        "kv_bits": arguments.integer("kv_bits") or None,
        "adapter_path": arguments.text("adapter_path") or None,
        "cache_prompt": arguments.flag("cache_prompt"),
        "trust_remote_code": arguments.flag("trust_remote_code"),
    }


def _batch_facts(settings: dict[str, object]) -> dict[str, str]:
    """Return the most tokens of one step: so many prompts together, each with so many of its tokens.

    Source: mlx_lm, generate.py, `BatchGenerator`; with a quantised KV cache it takes one sequence at a time.
    """
    step, prompts = (
        settings["prefill_step_size"],
        1 if settings["kv_bits"] else settings["prompt_concurrency"],
    )
    assert isinstance(step, int)  # noqa: S101 - `check_arguments` has made sure
    assert isinstance(prompts, int)  # noqa: S101
    return {"max_num_batched_tokens": str(step * prompts)}


def _options(source: str, port: int, settings: dict[str, object]) -> list[str]:
    found = ["--model", source, "--host", "127.0.0.1", "--port", str(port), "--log-level", "WARNING"]
    for name in ("decode_concurrency", "prompt_concurrency", "prefill_step_size", "kv_bits", "adapter_path"):
        if settings[name] is not None:
            found += [f"--{name.replace('_', '-')}", str(settings[name])]
    if settings["trust_remote_code"]:
        found.append("--trust-remote-code")
    return found
