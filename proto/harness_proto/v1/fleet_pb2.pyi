from harness_proto.v1 import telemetry_pb2 as _telemetry_pb2
from harness_proto.v1 import work_pb2 as _work_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnrollRequest(_message.Message):
    __slots__ = ("join_token", "agent_name", "csr_pem")
    JOIN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AGENT_NAME_FIELD_NUMBER: _ClassVar[int]
    CSR_PEM_FIELD_NUMBER: _ClassVar[int]
    join_token: str
    agent_name: str
    csr_pem: bytes
    def __init__(self, join_token: _Optional[str] = ..., agent_name: _Optional[str] = ..., csr_pem: _Optional[bytes] = ...) -> None: ...

class EnrollResponse(_message.Message):
    __slots__ = ("certificate_pem", "ca_pem")
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    CA_PEM_FIELD_NUMBER: _ClassVar[int]
    certificate_pem: bytes
    ca_pem: bytes
    def __init__(self, certificate_pem: _Optional[bytes] = ..., ca_pem: _Optional[bytes] = ...) -> None: ...

class AgentMessage(_message.Message):
    __slots__ = ("seq", "boot_id", "agent_id", "hello", "heartbeat", "generation", "task_update", "run_update", "source_update", "event", "work_request", "goodbye", "bundle")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TASK_UPDATE_FIELD_NUMBER: _ClassVar[int]
    RUN_UPDATE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_UPDATE_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    WORK_REQUEST_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    seq: int
    boot_id: str
    agent_id: str
    hello: Hello
    heartbeat: Heartbeat
    generation: _work_pb2.Generation
    task_update: TaskUpdate
    run_update: RunUpdate
    source_update: SourceUpdate
    event: AgentEvent
    work_request: WorkRequest
    goodbye: Goodbye
    bundle: MessageBundle
    def __init__(self, seq: _Optional[int] = ..., boot_id: _Optional[str] = ..., agent_id: _Optional[str] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., generation: _Optional[_Union[_work_pb2.Generation, _Mapping]] = ..., task_update: _Optional[_Union[TaskUpdate, _Mapping]] = ..., run_update: _Optional[_Union[RunUpdate, _Mapping]] = ..., source_update: _Optional[_Union[SourceUpdate, _Mapping]] = ..., event: _Optional[_Union[AgentEvent, _Mapping]] = ..., work_request: _Optional[_Union[WorkRequest, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., bundle: _Optional[_Union[MessageBundle, _Mapping]] = ...) -> None: ...

class MessageBundle(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[AgentMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[AgentMessage, _Mapping]]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("agent_id", "name", "boot_id", "clock_id", "version", "host", "sources", "engines", "labels", "features", "monotonic_ns", "realtime_ns")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    CLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    REALTIME_NS_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    name: str
    boot_id: str
    clock_id: str
    version: str
    host: _telemetry_pb2.HostInfo
    sources: _containers.RepeatedCompositeFieldContainer[_telemetry_pb2.SourceInfo]
    engines: _containers.RepeatedCompositeFieldContainer[EngineInfo]
    labels: _containers.ScalarMap[str, str]
    features: _containers.RepeatedScalarFieldContainer[str]
    monotonic_ns: int
    realtime_ns: int
    def __init__(self, agent_id: _Optional[str] = ..., name: _Optional[str] = ..., boot_id: _Optional[str] = ..., clock_id: _Optional[str] = ..., version: _Optional[str] = ..., host: _Optional[_Union[_telemetry_pb2.HostInfo, _Mapping]] = ..., sources: _Optional[_Iterable[_Union[_telemetry_pb2.SourceInfo, _Mapping]]] = ..., engines: _Optional[_Iterable[_Union[EngineInfo, _Mapping]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., features: _Optional[_Iterable[str]] = ..., monotonic_ns: _Optional[int] = ..., realtime_ns: _Optional[int] = ...) -> None: ...

class EngineInfo(_message.Message):
    __slots__ = ("name", "available", "version", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    available: bool
    version: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., available: _Optional[bool] = ..., version: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sent_monotonic_ns", "sent_realtime_ns", "held", "loaded_model", "watermarks", "spool_bytes", "dropped_samples", "clock_offset_ns", "clock_offset_error_ns", "clock_drift_ppm", "clock_drift_error_ppm")
    SENT_MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    SENT_REALTIME_NS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    LOADED_MODEL_FIELD_NUMBER: _ClassVar[int]
    WATERMARKS_FIELD_NUMBER: _ClassVar[int]
    SPOOL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_NS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_ERROR_NS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_DRIFT_PPM_FIELD_NUMBER: _ClassVar[int]
    CLOCK_DRIFT_ERROR_PPM_FIELD_NUMBER: _ClassVar[int]
    sent_monotonic_ns: int
    sent_realtime_ns: int
    held: _containers.RepeatedCompositeFieldContainer[HeldTask]
    loaded_model: str
    watermarks: _containers.RepeatedCompositeFieldContainer[Watermark]
    spool_bytes: int
    dropped_samples: int
    clock_offset_ns: float
    clock_offset_error_ns: float
    clock_drift_ppm: float
    clock_drift_error_ppm: float
    def __init__(self, sent_monotonic_ns: _Optional[int] = ..., sent_realtime_ns: _Optional[int] = ..., held: _Optional[_Iterable[_Union[HeldTask, _Mapping]]] = ..., loaded_model: _Optional[str] = ..., watermarks: _Optional[_Iterable[_Union[Watermark, _Mapping]]] = ..., spool_bytes: _Optional[int] = ..., dropped_samples: _Optional[int] = ..., clock_offset_ns: _Optional[float] = ..., clock_offset_error_ns: _Optional[float] = ..., clock_drift_ppm: _Optional[float] = ..., clock_drift_error_ppm: _Optional[float] = ...) -> None: ...

class HeldTask(_message.Message):
    __slots__ = ("task_id", "attempt")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    attempt: int
    def __init__(self, task_id: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class Watermark(_message.Message):
    __slots__ = ("run_id", "before_ns")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    BEFORE_NS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    before_ns: int
    def __init__(self, run_id: _Optional[str] = ..., before_ns: _Optional[int] = ...) -> None: ...

class WorkRequest(_message.Message):
    __slots__ = ("run_id", "tasks")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    tasks: int
    def __init__(self, run_id: _Optional[str] = ..., tasks: _Optional[int] = ...) -> None: ...

class TaskUpdate(_message.Message):
    __slots__ = ("task_id", "attempt", "state", "reason", "retryable", "run_id")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[TaskUpdate.State]
        RUNNING: _ClassVar[TaskUpdate.State]
        FAILED: _ClassVar[TaskUpdate.State]
        RELEASED: _ClassVar[TaskUpdate.State]
    STATE_UNSPECIFIED: TaskUpdate.State
    RUNNING: TaskUpdate.State
    FAILED: TaskUpdate.State
    RELEASED: TaskUpdate.State
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    attempt: int
    state: TaskUpdate.State
    reason: str
    retryable: bool
    run_id: str
    def __init__(self, task_id: _Optional[str] = ..., attempt: _Optional[int] = ..., state: _Optional[_Union[TaskUpdate.State, str]] = ..., reason: _Optional[str] = ..., retryable: _Optional[bool] = ..., run_id: _Optional[str] = ...) -> None: ...

class RunUpdate(_message.Message):
    __slots__ = ("run_id", "job_id", "model_id", "phase", "t_ns", "end_ns", "clock_id", "source_ids", "host_source_ids", "engine", "engine_version", "facts", "load_s", "reason", "settings_json")
    class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PHASE_UNSPECIFIED: _ClassVar[RunUpdate.Phase]
        STARTED: _ClassVar[RunUpdate.Phase]
        READY: _ClassVar[RunUpdate.Phase]
        BASELINE: _ClassVar[RunUpdate.Phase]
        ENDED: _ClassVar[RunUpdate.Phase]
        FAILED: _ClassVar[RunUpdate.Phase]
    PHASE_UNSPECIFIED: RunUpdate.Phase
    STARTED: RunUpdate.Phase
    READY: RunUpdate.Phase
    BASELINE: RunUpdate.Phase
    ENDED: RunUpdate.Phase
    FAILED: RunUpdate.Phase
    class FactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    T_NS_FIELD_NUMBER: _ClassVar[int]
    END_NS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_IDS_FIELD_NUMBER: _ClassVar[int]
    HOST_SOURCE_IDS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    LOAD_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_JSON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    job_id: str
    model_id: str
    phase: RunUpdate.Phase
    t_ns: int
    end_ns: int
    clock_id: str
    source_ids: _containers.RepeatedScalarFieldContainer[str]
    host_source_ids: _containers.RepeatedScalarFieldContainer[str]
    engine: str
    engine_version: str
    facts: _containers.ScalarMap[str, str]
    load_s: float
    reason: str
    settings_json: str
    def __init__(self, run_id: _Optional[str] = ..., job_id: _Optional[str] = ..., model_id: _Optional[str] = ..., phase: _Optional[_Union[RunUpdate.Phase, str]] = ..., t_ns: _Optional[int] = ..., end_ns: _Optional[int] = ..., clock_id: _Optional[str] = ..., source_ids: _Optional[_Iterable[str]] = ..., host_source_ids: _Optional[_Iterable[str]] = ..., engine: _Optional[str] = ..., engine_version: _Optional[str] = ..., facts: _Optional[_Mapping[str, str]] = ..., load_s: _Optional[float] = ..., reason: _Optional[str] = ..., settings_json: _Optional[str] = ...) -> None: ...

class SourceUpdate(_message.Message):
    __slots__ = ("source_id", "gone", "reason", "t_ns", "info")
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    T_NS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    source_id: str
    gone: bool
    reason: str
    t_ns: int
    info: _telemetry_pb2.SourceInfo
    def __init__(self, source_id: _Optional[str] = ..., gone: _Optional[bool] = ..., reason: _Optional[str] = ..., t_ns: _Optional[int] = ..., info: _Optional[_Union[_telemetry_pb2.SourceInfo, _Mapping]] = ...) -> None: ...

class AgentEvent(_message.Message):
    __slots__ = ("t_ns", "kind", "detail")
    T_NS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    t_ns: int
    kind: str
    detail: str
    def __init__(self, t_ns: _Optional[int] = ..., kind: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class CoordinatorMessage(_message.Message):
    __slots__ = ("welcome", "heartbeat_reply", "ack", "lease", "cancel", "drain", "refusal", "no_work")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_REPLY_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    NO_WORK_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    heartbeat_reply: HeartbeatReply
    ack: Ack
    lease: LeaseOffer
    cancel: CancelTasks
    drain: Drain
    refusal: Refusal
    no_work: NoWork
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., heartbeat_reply: _Optional[_Union[HeartbeatReply, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., lease: _Optional[_Union[LeaseOffer, _Mapping]] = ..., cancel: _Optional[_Union[CancelTasks, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., no_work: _Optional[_Union[NoWork, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("version", "heartbeat_s", "lease_s", "features", "coordinator_id")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_ID_FIELD_NUMBER: _ClassVar[int]
    version: str
    heartbeat_s: float
    lease_s: float
    features: _containers.RepeatedScalarFieldContainer[str]
    coordinator_id: str
    def __init__(self, version: _Optional[str] = ..., heartbeat_s: _Optional[float] = ..., lease_s: _Optional[float] = ..., features: _Optional[_Iterable[str]] = ..., coordinator_id: _Optional[str] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("agent_sent_monotonic_ns", "received_realtime_ns", "sent_realtime_ns", "lost")
    AGENT_SENT_MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_REALTIME_NS_FIELD_NUMBER: _ClassVar[int]
    SENT_REALTIME_NS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    agent_sent_monotonic_ns: int
    received_realtime_ns: int
    sent_realtime_ns: int
    lost: _containers.RepeatedCompositeFieldContainer[HeldTask]
    def __init__(self, agent_sent_monotonic_ns: _Optional[int] = ..., received_realtime_ns: _Optional[int] = ..., sent_realtime_ns: _Optional[int] = ..., lost: _Optional[_Iterable[_Union[HeldTask, _Mapping]]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("boot_id", "seq")
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    boot_id: str
    seq: int
    def __init__(self, boot_id: _Optional[str] = ..., seq: _Optional[int] = ...) -> None: ...

class LeaseOffer(_message.Message):
    __slots__ = ("run_id", "settings", "tasks", "last")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    settings: _work_pb2.RunSettings
    tasks: _containers.RepeatedCompositeFieldContainer[_work_pb2.Task]
    last: bool
    def __init__(self, run_id: _Optional[str] = ..., settings: _Optional[_Union[_work_pb2.RunSettings, _Mapping]] = ..., tasks: _Optional[_Iterable[_Union[_work_pb2.Task, _Mapping]]] = ..., last: _Optional[bool] = ...) -> None: ...

class CancelTasks(_message.Message):
    __slots__ = ("tasks", "reason")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[HeldTask]
    reason: str
    def __init__(self, tasks: _Optional[_Iterable[_Union[HeldTask, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...

class NoWork(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason", "retry")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    reason: str
    retry: bool
    def __init__(self, reason: _Optional[str] = ..., retry: _Optional[bool] = ...) -> None: ...
