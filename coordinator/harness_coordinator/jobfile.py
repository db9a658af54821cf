"""The job file: what a person asks for, validated before anything is sent or stored."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

DEFAULT_ENGINES = ("llamacpp", "vllm", "mlx", "openai", "stub")
"""Engines of this distribution; an agent may have more through the entry point `harness.engines`."""

DEFAULT_BASELINE_S = 10.0
"""Idle power is measured for at least 10 s before the first and after the last query of a run."""


class JobFileError(Exception):
    """A job file that cannot be used; the message names the file and the field, and says what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class DatasetSpec(_Strict):
    """Where the queries come from: a file beside the job file, an imported dataset, or made-up text for a trace."""

    path: str | None = None
    name: str | None = None
    synthetic: bool = False
    """Make up prompts as long as the recorded trace in `arrivals` says: they test load, not answers."""
    limit: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_origin(self) -> DatasetSpec:
        if (self.path is not None) + (self.name is not None) + self.synthetic != 1:
            raise ValueError(
                "give either `path` (a .jsonl or .csv file) or `name` (an imported dataset),"
                " or `synthetic: true` with a recorded trace in `arrivals`"
            )
        return self


class ArrivalsSpec(_Strict):
    """When queries are sent; a rate or a trace is an open loop: queries come whether or not the engine keeps up."""

    kind: Literal["closed", "constant", "poisson", "recorded"] = "closed"
    rate_per_s: float | None = Field(default=None, gt=0, le=10_000)
    """Queries per second for each engine, constant or Poisson."""
    seed: int = Field(default=0, ge=0)
    trace: str | None = None
    """A recorded trace: a file with a time and token counts for each query, beside the job file."""
    speed: float = Field(default=1.0, gt=0)
    """How many times faster than it was recorded the trace is played."""
    output: Literal["job", "limit", "exact"] = "limit"
    """Output tokens of a recorded query: the job's limit, at most the recorded number, or exactly that number."""
    max_in_flight: int = Field(default=512, ge=1, le=10_000)

    @model_validator(mode="after")
    def _complete(self) -> ArrivalsSpec:
        if self.kind in ("constant", "poisson") and self.rate_per_s is None:
            raise ValueError(f"`kind: {self.kind}` needs `rate_per_s`, queries per second")
        if self.kind == "recorded" and self.trace is None:
            raise ValueError("`kind: recorded` needs `trace`, a file with times and token counts")
        if self.kind == "closed" and (self.rate_per_s is not None or self.trace is not None):
            raise ValueError("a rate or a trace needs its `kind`: constant, poisson or recorded")
        return self


class PriceSpec(_Strict):
    """Dollars per million tokens."""

    input_per_mtok: float | None = Field(default=None, ge=0)
    output_per_mtok: float | None = Field(default=None, ge=0)


class StatedEnergySpec(_Strict):
    """A published figure for a model that cannot be measured here; shown apart, never among measured joules."""

    joules_per_query: float | None = Field(default=None, gt=0)
    joules_per_output_token: float | None = Field(default=None, gt=0)
    source: str = Field(min_length=1)
    """Who published it, and where."""

    @model_validator(mode="after")
    def _one_figure(self) -> StatedEnergySpec:
        if (self.joules_per_query is None) == (self.joules_per_output_token is None):
            raise ValueError("give one figure: `joules_per_query` or `joules_per_output_token`")
        return self


class SamplingOverride(_Strict):
    """What one model does differently from the job's sampling settings."""

    temperature: float | None = Field(default=None, ge=0, le=5)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    max_output_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None
    repetition_penalty: float | None = Field(default=None, gt=0)
    thinking: bool | None = None


_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


class ModelEntry(_Strict):
    """One model and the engine that serves it."""

    id: str = Field(min_length=1, max_length=200)
    engine: str
    source: str = ""
    params_b: float | None = Field(default=None, gt=0)
    active_params_b: float | None = Field(default=None, gt=0)
    engine_args: dict[str, Any] = Field(default_factory=dict)
    price: PriceSpec | None = None
    device: Literal["auto", "cpu", "accelerator"] = "auto"
    """Where the engine runs; `auto` is an accelerator where the agent has one that the selector admits."""
    sampling: SamplingOverride = Field(default_factory=SamplingOverride)
    """For example the repetition penalty of 1.1 that the profiling paper uses for Qwen models only."""
    precision: str = ""
    """What the weights are stored in, where the model's own files do not tell: a model behind a URL."""
    energy: Literal["measured", "estimated-ok", "off"] | None = None
    """Instead of the job's; a model behind a URL has `off`, since its joules are not this machine's."""
    stated_energy: StatedEnergySpec | None = None

    @model_validator(mode="after")
    def _own_joules(self) -> ModelEntry:
        host = urlsplit(str(self.engine_args.get("base_url", ""))).hostname
        elsewhere = self.engine == "openai" and host is not None and host not in _THIS_MACHINE
        if elsewhere and self.energy not in (None, "off"):
            raise ValueError(
                f"energy: the joules of {host} cannot be read from the agent's machine; leave it out,"
                " and put a published figure into `stated_energy`"
            )
        return self

    def energy_policy(self, job_energy: str) -> str:
        """Return the energy policy of this model's runs."""
        return self.energy or ("off" if self.engine == "openai" else job_energy)


class HardwareSelector(_Strict):
    """Which agents and devices a task may run on; every field given must match."""

    vendor: str | None = None
    name: str | None = None
    """Shell-style pattern over the device's name, case-insensitive: `*H200*`."""
    agent: str | None = None
    min_memory_gb: float | None = Field(default=None, gt=0)
    labels: dict[str, str] = Field(default_factory=dict)

    def describe(self) -> str:
        """Return the selector as people write it."""
        parts = [f"{k}: {v}" for k, v in self.model_dump(exclude_none=True).items() if v != {}]
        return "{" + ", ".join(parts) + "}" if parts else "any"


class SamplingSpec(_Strict):
    """Decoding settings; the defaults are those of the profiling paper (appendix B.1)."""

    temperature: float = Field(default=0.6, ge=0, le=5)
    top_p: float = Field(default=0.95, gt=0, le=1)
    top_k: int = Field(default=20, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)
    max_output_tokens: int = Field(default=4096, ge=1)
    seed: int | None = None
    repetition_penalty: float | None = Field(default=None, gt=0)
    thinking: bool | None = None


class EvaluationSpec(_Strict):
    """How answers are judged: by a rule when they arrive, or later by a judge (`harness evaluate`)."""

    method: Literal["none", "exact_match", "multiple_choice", "numeric", "judge"] = "none"
    relative_tolerance: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    """Of `numeric`: as a share of the reference."""
    absolute_tolerance: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Of `numeric`: in the answer's unit."""
    form: Literal["pairwise", "true_false"] | None = None
    """Of `judge`: compared with a reference answer on five levels, or true or false against a reference."""

    @model_validator(mode="after")
    def _options_of_method(self) -> EvaluationSpec:
        if self.method != "numeric" and not (self.relative_tolerance is self.absolute_tolerance is None):
            raise ValueError("a tolerance belongs to `method: numeric`")
        if self.method != "judge" and self.form is not None:
            raise ValueError("`form` belongs to `method: judge`")
        return self

    @model_serializer(mode="wrap")
    def _only_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A coordinator one version older knows the method alone.
        return {k: v for k, v in handler(self).items() if v is not None}


class JobFile(_Strict):
    """A whole job: queries x models x hardware x repetitions."""

    name: str = Field(min_length=1, max_length=200)
    dataset: DatasetSpec
    models: list[ModelEntry] = Field(min_length=1)
    hardware: list[HardwareSelector] = Field(default_factory=lambda: [HardwareSelector()], min_length=1)
    sampling: SamplingSpec = Field(default_factory=SamplingSpec)
    concurrency: int = Field(default=1, ge=1, le=1024)
    arrivals: ArrivalsSpec = Field(default_factory=ArrivalsSpec)
    repetitions: int = Field(default=1, ge=1, le=1000)
    warmup: int = Field(default=0, ge=0, le=1000)
    energy: Literal["measured", "estimated-ok", "off"] = "measured"
    attribution: Literal["tokens", "time", "exclusive"] = "tokens"
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec)
    priority: int = Field(default=0, ge=-1000, le=1000)
    max_attempts: int = Field(default=3, ge=1, le=20)
    query_timeout_s: float = Field(default=600.0, gt=0)
    load_timeout_s: float = Field(default=600.0, gt=0)
    baseline_s: float = Field(default=DEFAULT_BASELINE_S, ge=0, le=600)

    @field_validator("hardware", mode="before")
    @classmethod
    def _any(cls, value: object) -> object:
        if value == "any":
            value = ["any"]
        if isinstance(value, list):
            return [{} if item == "any" else item for item in value]
        return value

    @model_validator(mode="after")
    def _consistent(self) -> JobFile:
        ids = [m.id for m in self.models]
        double = sorted({i for i in ids if ids.count(i) > 1})
        if double:
            raise ValueError(f"models: the id {double[0]!r} is given twice; each needs its own")
        if self.attribution == "exclusive" and self.concurrency > 1:
            raise ValueError(
                f"attribution: `exclusive` needs concurrency 1, not {self.concurrency};"
                " try `tokens` or `time`"
            )
        if self.arrivals.kind == "recorded" and self.repetitions > 1:
            raise ValueError(
                "repetitions: a recorded trace is played once; submit the job again to repeat it"
            )
        if self.dataset.synthetic and self.arrivals.kind != "recorded":
            raise ValueError(
                "dataset: `synthetic` needs a recorded trace in `arrivals`, which says how long prompts are"
            )
        if self.attribution == "exclusive" and self.arrivals.kind != "closed":
            raise ValueError(
                "attribution: `exclusive` needs one query at a time, so `arrivals` cannot be open"
            )
        return self


def load_job_file(path: Path) -> JobFile:
    """Read and validate a job file.

    Raises:
        JobFileError: the file is absent, is not YAML, or a field is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise JobFileError(f"{path}: there is no such job file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise JobFileError(f"{path}: cannot be read: {error}") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise JobFileError(f"{path}:{line} {problem}") from None
    return parse_job(data, origin=str(path))


def parse_job(data: object, *, origin: str) -> JobFile:
    """Validate a job given as plain data; `origin` names it in messages.

    Raises:
        JobFileError: the first wrong field, with the nearest known name for an unknown one.
    """
    if not isinstance(data, dict):
        raise JobFileError(f"{origin}: a job file is a mapping with name, dataset, models, ...")
    try:
        return JobFile.model_validate(data)
    except ValidationError as error:
        raise JobFileError(f"{origin}: {_sentence(error)}") from None


_FIELDS: dict[str, type[BaseModel]] = {
    "dataset": DatasetSpec,
    "models": ModelEntry,
    "price": PriceSpec,
    "hardware": HardwareSelector,
    "sampling": SamplingSpec,
    "stated_energy": StatedEnergySpec,
    "arrivals": ArrivalsSpec,
    "evaluation": EvaluationSpec,
}


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = _path(first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        owner = next((_FIELDS[str(p)] for p in reversed(first["loc"][:-1]) if str(p) in _FIELDS), JobFile)
        return f"unknown key `{where}`{suggestion(key, owner.model_fields)}{more}"
    if first["type"] == "missing":
        return f"`{where}` is missing{more}"
    message = re.sub(r"^Value error, ", "", first["msg"])
    given = first.get("input")
    shown = f", not {given!r}" if isinstance(given, str | int | float | bool) else ""
    return f"`{where}`: {message}{shown}{more}" if where else f"{message}{more}"


def suggestion(word: str, known: Any) -> str:
    """Return `; did you mean ...?` for the nearest known word, or the list of them."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; known are {', '.join(sorted(known))}"


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
