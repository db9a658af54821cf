from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelSpec(_message.Message):
    __slots__ = ("id", "engine", "source", "engine_args_json", "params_b", "active_params_b", "input_price_per_mtok", "output_price_per_mtok", "precision")
    ID_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ARGS_JSON_FIELD_NUMBER: _ClassVar[int]
    PARAMS_B_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_PARAMS_B_FIELD_NUMBER: _ClassVar[int]
    INPUT_PRICE_PER_MTOK_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PRICE_PER_MTOK_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    id: str
    engine: str
    source: str
    engine_args_json: str
    params_b: float
    active_params_b: float
    input_price_per_mtok: float
    output_price_per_mtok: float
    precision: str
    def __init__(self, id: _Optional[str] = ..., engine: _Optional[str] = ..., source: _Optional[str] = ..., engine_args_json: _Optional[str] = ..., params_b: _Optional[float] = ..., active_params_b: _Optional[float] = ..., input_price_per_mtok: _Optional[float] = ..., output_price_per_mtok: _Optional[float] = ..., precision: _Optional[str] = ...) -> None: ...

class SamplingSettings(_message.Message):
    __slots__ = ("temperature", "top_p", "top_k", "min_p", "max_output_tokens", "seed", "repetition_penalty", "thinking")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    THINKING_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    max_output_tokens: int
    seed: int
    repetition_penalty: float
    thinking: bool
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., min_p: _Optional[float] = ..., max_output_tokens: _Optional[int] = ..., seed: _Optional[int] = ..., repetition_penalty: _Optional[float] = ..., thinking: _Optional[bool] = ...) -> None: ...

class RunSettings(_message.Message):
    __slots__ = ("job_id", "model", "sampling", "concurrency", "query_timeout_s", "load_timeout_s", "energy", "baseline_s", "warmup", "device_ids", "arrivals")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    QUERY_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    LOAD_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    BASELINE_S_FIELD_NUMBER: _ClassVar[int]
    WARMUP_FIELD_NUMBER: _ClassVar[int]
    DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    ARRIVALS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    model: ModelSpec
    sampling: SamplingSettings
    concurrency: int
    query_timeout_s: float
    load_timeout_s: float
    energy: str
    baseline_s: float
    warmup: _containers.RepeatedCompositeFieldContainer[Query]
    device_ids: _containers.RepeatedScalarFieldContainer[str]
    arrivals: Arrivals
    def __init__(self, job_id: _Optional[str] = ..., model: _Optional[_Union[ModelSpec, _Mapping]] = ..., sampling: _Optional[_Union[SamplingSettings, _Mapping]] = ..., concurrency: _Optional[int] = ..., query_timeout_s: _Optional[float] = ..., load_timeout_s: _Optional[float] = ..., energy: _Optional[str] = ..., baseline_s: _Optional[float] = ..., warmup: _Optional[_Iterable[_Union[Query, _Mapping]]] = ..., device_ids: _Optional[_Iterable[str]] = ..., arrivals: _Optional[_Union[Arrivals, _Mapping]] = ...) -> None: ...

class Arrivals(_message.Message):
    __slots__ = ("kind", "rate_per_s", "seed", "max_in_flight", "exact_output")
    KIND_FIELD_NUMBER: _ClassVar[int]
    RATE_PER_S_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    EXACT_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    rate_per_s: float
    seed: int
    max_in_flight: int
    exact_output: bool
    def __init__(self, kind: _Optional[str] = ..., rate_per_s: _Optional[float] = ..., seed: _Optional[int] = ..., max_in_flight: _Optional[int] = ..., exact_output: _Optional[bool] = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("query_id", "text", "messages_json", "arrival_s", "max_output_tokens")
    QUERY_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_JSON_FIELD_NUMBER: _ClassVar[int]
    ARRIVAL_S_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    query_id: str
    text: str
    messages_json: str
    arrival_s: float
    max_output_tokens: int
    def __init__(self, query_id: _Optional[str] = ..., text: _Optional[str] = ..., messages_json: _Optional[str] = ..., arrival_s: _Optional[float] = ..., max_output_tokens: _Optional[int] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("task_id", "attempt", "repetition", "query")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REPETITION_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    attempt: int
    repetition: int
    query: Query
    def __init__(self, task_id: _Optional[str] = ..., attempt: _Optional[int] = ..., repetition: _Optional[int] = ..., query: _Optional[_Union[Query, _Mapping]] = ...) -> None: ...

class Generation(_message.Message):
    __slots__ = ("task_id", "attempt", "run_id", "query_id", "warmup", "start_ns", "first_token_ns", "end_ns", "chunk_ns", "prompt_tokens", "output_tokens", "cached_tokens", "response", "reasoning", "finish_reason", "error", "retryable", "engine_prefill_s", "engine_decode_s")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_ID_FIELD_NUMBER: _ClassVar[int]
    WARMUP_FIELD_NUMBER: _ClassVar[int]
    START_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_NS_FIELD_NUMBER: _ClassVar[int]
    END_NS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_NS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_PREFILL_S_FIELD_NUMBER: _ClassVar[int]
    ENGINE_DECODE_S_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    attempt: int
    run_id: str
    query_id: str
    warmup: bool
    start_ns: int
    first_token_ns: int
    end_ns: int
    chunk_ns: _containers.RepeatedScalarFieldContainer[int]
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    response: str
    reasoning: str
    finish_reason: str
    error: str
    retryable: bool
    engine_prefill_s: float
    engine_decode_s: float
    def __init__(self, task_id: _Optional[str] = ..., attempt: _Optional[int] = ..., run_id: _Optional[str] = ..., query_id: _Optional[str] = ..., warmup: _Optional[bool] = ..., start_ns: _Optional[int] = ..., first_token_ns: _Optional[int] = ..., end_ns: _Optional[int] = ..., chunk_ns: _Optional[_Iterable[int]] = ..., prompt_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ..., response: _Optional[str] = ..., reasoning: _Optional[str] = ..., finish_reason: _Optional[str] = ..., error: _Optional[str] = ..., retryable: _Optional[bool] = ..., engine_prefill_s: _Optional[float] = ..., engine_decode_s: _Optional[float] = ...) -> None: ...
