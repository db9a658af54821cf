"""The contract of an inference engine: what an adapter is asked and what it answers.

An engine runs in a process of its own that the agent starts from an argument list, and speaks OpenAI's HTTP
on loopback. An adapter never starts anything: it checks what a job asks for and says how to start it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

KEY_VARIABLE = "HARNESS_ENGINE_KEY"
"""Environment variable that carries the key of one engine run, so that nobody else's query is measured."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; None leaves it to the engine."""

    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 20
    min_p: float = 0.0
    max_output_tokens: int = 4096
    seed: int | None = None
    repetition_penalty: float | None = None
    thinking: bool | None = None


@dataclass(frozen=True, slots=True)
class EngineDevice:
    """An accelerator that the engine must use, by the id its telemetry has."""

    vendor: str
    device_id: str
    pci: str = ""
    """Its PCI address, where known: what AMD's two naming schemes have in common."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One engine with one model, as a job asks for it."""

    model_id: str
    source: str
    engine_args: Mapping[str, object]
    sampling: Sampling
    concurrency: int
    port: int
    """Free loopback port that the engine shall listen on."""
    key: str = ""
    """Secret that the engine shall ask of its callers; empty: none."""
    devices: tuple[EngineDevice, ...] = ()
    """Empty: the host's CPU."""


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How to start an engine and how to speak to it."""

    base_url: str
    """What `/chat/completions` is appended to."""
    body: Mapping[str, object]
    """Every field of a request but its messages."""
    argv: tuple[str, ...] = ()
    """Program and arguments; empty where the engine already runs somewhere else."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Set beside the agent's own environment."""
    ready_url: str = ""
    """Answers 200 once the model is loaded; empty: nothing to wait for."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    engine_version: str = ""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    """What is known of model and engine before the start: file, quantisation, parameters, layers..."""
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    """Engine settings in force, defaults included."""
    keep_alive: bool = True
    """Whether connections may be used again; False for servers that close them after a stream anyway."""
    retries: int = 0
    """How often one query is asked again after 429 or 5xx, with growing pauses."""
    metrics_url: str = ""
    """Answers with Prometheus text; empty: the engine has no gauges."""
    gauges: Mapping[str, str] = field(default_factory=dict[str, str])
    """Which of its gauges are sampled while the run's queries are on, and the facts they become."""
    facts_when_ready: Callable[[Path], Mapping[str, str]] | None = None
    """Facts that are known only once the engine is ready, from the path of its log; they win over `facts`."""


@dataclass(frozen=True, slots=True)
class EngineAvailability:
    """Whether an engine can run here."""

    name: str
    available: bool
    version: str = ""
    reason: str = ""
    """Why it cannot, and what to install."""


class EngineAdapter(Protocol):
    """An engine's module, found by entry point `harness.engines`; constructing one never raises."""

    name: str

    def availability(self) -> EngineAvailability:
        """Tell whether the engine is installed, without importing it."""
        ...

    def prepare(self, request: EngineRequest) -> EnginePlan:
        """Check the request and say how to start the engine. May read the model file; starts nothing.

        Raises:
            EngineArgumentError: an engine argument is unknown or wrong.
            ModelNotFoundError: the model's source leads to nothing here.
            NotAModelError: the file is not a model for this engine.
            EngineUnavailableError: the engine is not installed.
        """
        ...


def request_body(model: str, sampling: Sampling, *, repetition_field: str) -> dict[str, object]:
    """Return the request fields that vLLM, llama.cpp and MLX share, all in OpenAI's stream form.

    Args:
        model: the name the engine knows the model by.
        sampling: the job's settings.
        repetition_field: what this engine calls its repetition penalty.
    """
    body: dict[str, object] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "max_tokens": sampling.max_output_tokens,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.repetition_penalty is not None:
        body[repetition_field] = sampling.repetition_penalty
    if sampling.thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": sampling.thinking}
    return body
