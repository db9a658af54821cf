from harness_proto.v1 import jobs_pb2 as _jobs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JudgedJobReply(_message.Message):
    __slots__ = ("job_id", "state", "official", "options_json", "tasks", "answered")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OFFICIAL_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    state: str
    official: str
    options_json: str
    tasks: int
    answered: int
    def __init__(self, job_id: _Optional[str] = ..., state: _Optional[str] = ..., official: _Optional[str] = ..., options_json: _Optional[str] = ..., tasks: _Optional[int] = ..., answered: _Optional[int] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("task_id", "attempt", "correct", "score", "reason", "detail")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CORRECT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    attempt: int
    correct: bool
    score: float
    reason: str
    detail: str
    def __init__(self, task_id: _Optional[str] = ..., attempt: _Optional[int] = ..., correct: _Optional[bool] = ..., score: _Optional[float] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class RecordVerdictsRequest(_message.Message):
    __slots__ = ("job_id", "method", "verdicts")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    method: str
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    def __init__(self, job_id: _Optional[str] = ..., method: _Optional[str] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ...) -> None: ...

class RecordVerdictsReply(_message.Message):
    __slots__ = ("stored", "refused")
    STORED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    stored: int
    refused: _containers.RepeatedCompositeFieldContainer[RefusedVerdict]
    def __init__(self, stored: _Optional[int] = ..., refused: _Optional[_Iterable[_Union[RefusedVerdict, _Mapping]]] = ...) -> None: ...

class RefusedVerdict(_message.Message):
    __slots__ = ("task_id", "attempt")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    attempt: int
    def __init__(self, task_id: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class UseVerdictsRequest(_message.Message):
    __slots__ = ("job_id", "method")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    method: str
    def __init__(self, job_id: _Optional[str] = ..., method: _Optional[str] = ...) -> None: ...

class UseVerdictsReply(_message.Message):
    __slots__ = ("verdicts",)
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    verdicts: int
    def __init__(self, verdicts: _Optional[int] = ...) -> None: ...

class StoredJudgement(_message.Message):
    __slots__ = ("content_hash", "judge", "model", "form", "presented", "raw", "prompt_tokens", "output_tokens", "cost_usd", "seconds", "answered_realtime_ns")
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    JUDGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    PRESENTED_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_REALTIME_NS_FIELD_NUMBER: _ClassVar[int]
    content_hash: str
    judge: str
    model: str
    form: str
    presented: str
    raw: str
    prompt_tokens: int
    output_tokens: int
    cost_usd: float
    seconds: float
    answered_realtime_ns: int
    def __init__(self, content_hash: _Optional[str] = ..., judge: _Optional[str] = ..., model: _Optional[str] = ..., form: _Optional[str] = ..., presented: _Optional[str] = ..., raw: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., cost_usd: _Optional[float] = ..., seconds: _Optional[float] = ..., answered_realtime_ns: _Optional[int] = ...) -> None: ...

class FindJudgementsRequest(_message.Message):
    __slots__ = ("content_hashes",)
    CONTENT_HASHES_FIELD_NUMBER: _ClassVar[int]
    content_hashes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, content_hashes: _Optional[_Iterable[str]] = ...) -> None: ...

class FindJudgementsReply(_message.Message):
    __slots__ = ("judgements",)
    JUDGEMENTS_FIELD_NUMBER: _ClassVar[int]
    judgements: _containers.RepeatedCompositeFieldContainer[StoredJudgement]
    def __init__(self, judgements: _Optional[_Iterable[_Union[StoredJudgement, _Mapping]]] = ...) -> None: ...

class KeepJudgementsRequest(_message.Message):
    __slots__ = ("judgements",)
    JUDGEMENTS_FIELD_NUMBER: _ClassVar[int]
    judgements: _containers.RepeatedCompositeFieldContainer[StoredJudgement]
    def __init__(self, judgements: _Optional[_Iterable[_Union[StoredJudgement, _Mapping]]] = ...) -> None: ...

class KeepJudgementsReply(_message.Message):
    __slots__ = ("kept",)
    KEPT_FIELD_NUMBER: _ClassVar[int]
    kept: int
    def __init__(self, kept: _Optional[int] = ...) -> None: ...
