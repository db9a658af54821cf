from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitRequest(_message.Message):
    __slots__ = ("submission_id", "job_json", "rows", "wait_for_agents")
    SUBMISSION_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_JSON_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    WAIT_FOR_AGENTS_FIELD_NUMBER: _ClassVar[int]
    submission_id: str
    job_json: str
    rows: _containers.RepeatedCompositeFieldContainer[DatasetRow]
    wait_for_agents: bool
    def __init__(self, submission_id: _Optional[str] = ..., job_json: _Optional[str] = ..., rows: _Optional[_Iterable[_Union[DatasetRow, _Mapping]]] = ..., wait_for_agents: _Optional[bool] = ...) -> None: ...

class DatasetRow(_message.Message):
    __slots__ = ("query_id", "text", "messages_json", "reference", "domain", "extra_json")
    QUERY_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_JSON_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    EXTRA_JSON_FIELD_NUMBER: _ClassVar[int]
    query_id: str
    text: str
    messages_json: str
    reference: str
    domain: str
    extra_json: str
    def __init__(self, query_id: _Optional[str] = ..., text: _Optional[str] = ..., messages_json: _Optional[str] = ..., reference: _Optional[str] = ..., domain: _Optional[str] = ..., extra_json: _Optional[str] = ...) -> None: ...

class SubmitReply(_message.Message):
    __slots__ = ("job_id", "tasks", "warnings")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tasks: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job_id: _Optional[str] = ..., tasks: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class JobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class ListJobsReply(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[JobSummary]
    def __init__(self, jobs: _Optional[_Iterable[_Union[JobSummary, _Mapping]]] = ...) -> None: ...

class JobSummary(_message.Message):
    __slots__ = ("job_id", "name", "state", "tasks", "ready", "leased", "running", "done", "failed", "cancelled", "measured", "submitted_realtime_ns", "finished_realtime_ns", "joules", "joules_kind")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    MEASURED_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_REALTIME_NS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_REALTIME_NS_FIELD_NUMBER: _ClassVar[int]
    JOULES_FIELD_NUMBER: _ClassVar[int]
    JOULES_KIND_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    name: str
    state: str
    tasks: int
    ready: int
    leased: int
    running: int
    done: int
    failed: int
    cancelled: int
    measured: int
    submitted_realtime_ns: int
    finished_realtime_ns: int
    joules: float
    joules_kind: str
    def __init__(self, job_id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[str] = ..., tasks: _Optional[int] = ..., ready: _Optional[int] = ..., leased: _Optional[int] = ..., running: _Optional[int] = ..., done: _Optional[int] = ..., failed: _Optional[int] = ..., cancelled: _Optional[int] = ..., measured: _Optional[int] = ..., submitted_realtime_ns: _Optional[int] = ..., finished_realtime_ns: _Optional[int] = ..., joules: _Optional[float] = ..., joules_kind: _Optional[str] = ...) -> None: ...

class JobDetail(_message.Message):
    __slots__ = ("summary", "totals", "failures", "waiting_reason", "job_json", "failed_runs", "last_failed_run_reason")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    WAITING_REASON_FIELD_NUMBER: _ClassVar[int]
    JOB_JSON_FIELD_NUMBER: _ClassVar[int]
    FAILED_RUNS_FIELD_NUMBER: _ClassVar[int]
    LAST_FAILED_RUN_REASON_FIELD_NUMBER: _ClassVar[int]
    summary: JobSummary
    totals: _containers.RepeatedCompositeFieldContainer[SourceTotal]
    failures: _containers.RepeatedCompositeFieldContainer[FailedTask]
    waiting_reason: str
    job_json: str
    failed_runs: int
    last_failed_run_reason: str
    def __init__(self, summary: _Optional[_Union[JobSummary, _Mapping]] = ..., totals: _Optional[_Iterable[_Union[SourceTotal, _Mapping]]] = ..., failures: _Optional[_Iterable[_Union[FailedTask, _Mapping]]] = ..., waiting_reason: _Optional[str] = ..., job_json: _Optional[str] = ..., failed_runs: _Optional[int] = ..., last_failed_run_reason: _Optional[str] = ...) -> None: ...

class SourceTotal(_message.Message):
    __slots__ = ("agent", "source_id", "scope", "energy_source", "device_joules", "attributed_joules", "unattributed_joules", "baseline_w", "alpha", "alpha_standard_error", "coverage", "flags", "device_name")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    ENERGY_SOURCE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_JOULES_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTED_JOULES_FIELD_NUMBER: _ClassVar[int]
    UNATTRIBUTED_JOULES_FIELD_NUMBER: _ClassVar[int]
    BASELINE_W_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    ALPHA_STANDARD_ERROR_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    agent: str
    source_id: str
    scope: str
    energy_source: str
    device_joules: float
    attributed_joules: float
    unattributed_joules: float
    baseline_w: float
    alpha: float
    alpha_standard_error: float
    coverage: float
    flags: str
    device_name: str
    def __init__(self, agent: _Optional[str] = ..., source_id: _Optional[str] = ..., scope: _Optional[str] = ..., energy_source: _Optional[str] = ..., device_joules: _Optional[float] = ..., attributed_joules: _Optional[float] = ..., unattributed_joules: _Optional[float] = ..., baseline_w: _Optional[float] = ..., alpha: _Optional[float] = ..., alpha_standard_error: _Optional[float] = ..., coverage: _Optional[float] = ..., flags: _Optional[str] = ..., device_name: _Optional[str] = ...) -> None: ...

class FailedTask(_message.Message):
    __slots__ = ("task_id", "query_id", "model_id", "attempts", "reason")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    query_id: str
    model_id: str
    attempts: int
    reason: str
    def __init__(self, task_id: _Optional[str] = ..., query_id: _Optional[str] = ..., model_id: _Optional[str] = ..., attempts: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ListAgentsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAgentsReply(_message.Message):
    __slots__ = ("agents",)
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    agents: _containers.RepeatedCompositeFieldContainer[AgentSummary]
    def __init__(self, agents: _Optional[_Iterable[_Union[AgentSummary, _Mapping]]] = ...) -> None: ...

class AgentSummary(_message.Message):
    __slots__ = ("agent_id", "name", "state", "hardware", "sources", "loaded_model", "last_seen_realtime_ns", "clock_offset_error_ns", "version", "labels", "clock_offset_ns", "clock_drift_ppm", "clock_drift_error_ppm")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    LOADED_MODEL_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_REALTIME_NS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_ERROR_NS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_NS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_DRIFT_PPM_FIELD_NUMBER: _ClassVar[int]
    CLOCK_DRIFT_ERROR_PPM_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    name: str
    state: str
    hardware: _containers.RepeatedScalarFieldContainer[str]
    sources: _containers.RepeatedScalarFieldContainer[str]
    loaded_model: str
    last_seen_realtime_ns: int
    clock_offset_error_ns: float
    version: str
    labels: _containers.ScalarMap[str, str]
    clock_offset_ns: float
    clock_drift_ppm: float
    clock_drift_error_ppm: float
    def __init__(self, agent_id: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[str] = ..., hardware: _Optional[_Iterable[str]] = ..., sources: _Optional[_Iterable[str]] = ..., loaded_model: _Optional[str] = ..., last_seen_realtime_ns: _Optional[int] = ..., clock_offset_error_ns: _Optional[float] = ..., version: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., clock_offset_ns: _Optional[float] = ..., clock_drift_ppm: _Optional[float] = ..., clock_drift_error_ppm: _Optional[float] = ...) -> None: ...

class TableRequest(_message.Message):
    __slots__ = ("job_id", "agent")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    agent: str
    def __init__(self, job_id: _Optional[str] = ..., agent: _Optional[str] = ...) -> None: ...

class TableChunk(_message.Message):
    __slots__ = ("arrow_ipc",)
    ARROW_IPC_FIELD_NUMBER: _ClassVar[int]
    arrow_ipc: bytes
    def __init__(self, arrow_ipc: _Optional[bytes] = ...) -> None: ...

class RecomputeRequest(_message.Message):
    __slots__ = ("job_id", "attribution")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    attribution: str
    def __init__(self, job_id: _Optional[str] = ..., attribution: _Optional[str] = ...) -> None: ...

class RecomputeReply(_message.Message):
    __slots__ = ("runs", "rows", "device_joules", "notes")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_JOULES_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    runs: int
    rows: int
    device_joules: float
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, runs: _Optional[int] = ..., rows: _Optional[int] = ..., device_joules: _Optional[float] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...
