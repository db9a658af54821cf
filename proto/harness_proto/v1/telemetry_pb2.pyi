from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SourceInfo(_message.Message):
    __slots__ = ("source_id", "vendor", "device_id", "device_name", "scope", "energy_source", "has_energy", "has_power", "contained_in", "counter_resolution_j", "counter_wrap_j", "max_power_w", "power_period_s", "counter_period_s", "averaging_s", "memory_total_bytes", "facts", "notes")
    class FactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    VENDOR_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    ENERGY_SOURCE_FIELD_NUMBER: _ClassVar[int]
    HAS_ENERGY_FIELD_NUMBER: _ClassVar[int]
    HAS_POWER_FIELD_NUMBER: _ClassVar[int]
    CONTAINED_IN_FIELD_NUMBER: _ClassVar[int]
    COUNTER_RESOLUTION_J_FIELD_NUMBER: _ClassVar[int]
    COUNTER_WRAP_J_FIELD_NUMBER: _ClassVar[int]
    MAX_POWER_W_FIELD_NUMBER: _ClassVar[int]
    POWER_PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    COUNTER_PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    AVERAGING_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    source_id: str
    vendor: str
    device_id: str
    device_name: str
    scope: str
    energy_source: str
    has_energy: bool
    has_power: bool
    contained_in: str
    counter_resolution_j: float
    counter_wrap_j: float
    max_power_w: float
    power_period_s: float
    counter_period_s: float
    averaging_s: float
    memory_total_bytes: float
    facts: _containers.ScalarMap[str, str]
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, source_id: _Optional[str] = ..., vendor: _Optional[str] = ..., device_id: _Optional[str] = ..., device_name: _Optional[str] = ..., scope: _Optional[str] = ..., energy_source: _Optional[str] = ..., has_energy: _Optional[bool] = ..., has_power: _Optional[bool] = ..., contained_in: _Optional[str] = ..., counter_resolution_j: _Optional[float] = ..., counter_wrap_j: _Optional[float] = ..., max_power_w: _Optional[float] = ..., power_period_s: _Optional[float] = ..., counter_period_s: _Optional[float] = ..., averaging_s: _Optional[float] = ..., memory_total_bytes: _Optional[float] = ..., facts: _Optional[_Mapping[str, str]] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class HostInfo(_message.Message):
    __slots__ = ("hostname", "os_name", "os_version", "kernel_version", "cpu_brand", "cpu_count", "memory_total_bytes", "python_version")
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    OS_NAME_FIELD_NUMBER: _ClassVar[int]
    OS_VERSION_FIELD_NUMBER: _ClassVar[int]
    KERNEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CPU_BRAND_FIELD_NUMBER: _ClassVar[int]
    CPU_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    PYTHON_VERSION_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    os_name: str
    os_version: str
    kernel_version: str
    cpu_brand: str
    cpu_count: int
    memory_total_bytes: int
    python_version: str
    def __init__(self, hostname: _Optional[str] = ..., os_name: _Optional[str] = ..., os_version: _Optional[str] = ..., kernel_version: _Optional[str] = ..., cpu_brand: _Optional[str] = ..., cpu_count: _Optional[int] = ..., memory_total_bytes: _Optional[int] = ..., python_version: _Optional[str] = ...) -> None: ...

class SampleBatch(_message.Message):
    __slots__ = ("agent_id", "boot_id", "source_id", "seq", "clock_id", "t_ns", "half_width_ns", "energy_j", "power_w", "power_avg_w", "memory_used_bytes", "temperature_c", "utilisation", "sm_clock_mhz", "throttle_bits", "interval_ns", "ranges")
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    T_NS_FIELD_NUMBER: _ClassVar[int]
    HALF_WIDTH_NS_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    POWER_W_FIELD_NUMBER: _ClassVar[int]
    POWER_AVG_W_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
    UTILISATION_FIELD_NUMBER: _ClassVar[int]
    SM_CLOCK_MHZ_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_BITS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_NS_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    agent_id: str
    boot_id: str
    source_id: str
    seq: int
    clock_id: str
    t_ns: _containers.RepeatedScalarFieldContainer[int]
    half_width_ns: _containers.RepeatedScalarFieldContainer[int]
    energy_j: _containers.RepeatedScalarFieldContainer[float]
    power_w: _containers.RepeatedScalarFieldContainer[float]
    power_avg_w: _containers.RepeatedScalarFieldContainer[float]
    memory_used_bytes: _containers.RepeatedScalarFieldContainer[float]
    temperature_c: _containers.RepeatedScalarFieldContainer[float]
    utilisation: _containers.RepeatedScalarFieldContainer[float]
    sm_clock_mhz: _containers.RepeatedScalarFieldContainer[float]
    throttle_bits: _containers.RepeatedScalarFieldContainer[int]
    interval_ns: _containers.RepeatedScalarFieldContainer[int]
    ranges: _containers.RepeatedCompositeFieldContainer[SampleRange]
    def __init__(self, agent_id: _Optional[str] = ..., boot_id: _Optional[str] = ..., source_id: _Optional[str] = ..., seq: _Optional[int] = ..., clock_id: _Optional[str] = ..., t_ns: _Optional[_Iterable[int]] = ..., half_width_ns: _Optional[_Iterable[int]] = ..., energy_j: _Optional[_Iterable[float]] = ..., power_w: _Optional[_Iterable[float]] = ..., power_avg_w: _Optional[_Iterable[float]] = ..., memory_used_bytes: _Optional[_Iterable[float]] = ..., temperature_c: _Optional[_Iterable[float]] = ..., utilisation: _Optional[_Iterable[float]] = ..., sm_clock_mhz: _Optional[_Iterable[float]] = ..., throttle_bits: _Optional[_Iterable[int]] = ..., interval_ns: _Optional[_Iterable[int]] = ..., ranges: _Optional[_Iterable[_Union[SampleRange, _Mapping]]] = ...) -> None: ...

class SampleRange(_message.Message):
    __slots__ = ("boot_id", "source_id", "seq_first", "clock_id", "rows", "t_ns", "half_width_ns", "energy_j", "power_w", "power_avg_w", "memory_used_bytes", "temperature_c", "utilisation", "sm_clock_mhz", "throttle_bits", "interval_ns")
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIRST_FIELD_NUMBER: _ClassVar[int]
    CLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    T_NS_FIELD_NUMBER: _ClassVar[int]
    HALF_WIDTH_NS_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    POWER_W_FIELD_NUMBER: _ClassVar[int]
    POWER_AVG_W_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
    UTILISATION_FIELD_NUMBER: _ClassVar[int]
    SM_CLOCK_MHZ_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_BITS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_NS_FIELD_NUMBER: _ClassVar[int]
    boot_id: str
    source_id: str
    seq_first: int
    clock_id: str
    rows: _containers.RepeatedScalarFieldContainer[int]
    t_ns: bytes
    half_width_ns: bytes
    energy_j: bytes
    power_w: bytes
    power_avg_w: bytes
    memory_used_bytes: bytes
    temperature_c: bytes
    utilisation: bytes
    sm_clock_mhz: bytes
    throttle_bits: bytes
    interval_ns: bytes
    def __init__(self, boot_id: _Optional[str] = ..., source_id: _Optional[str] = ..., seq_first: _Optional[int] = ..., clock_id: _Optional[str] = ..., rows: _Optional[_Iterable[int]] = ..., t_ns: _Optional[bytes] = ..., half_width_ns: _Optional[bytes] = ..., energy_j: _Optional[bytes] = ..., power_w: _Optional[bytes] = ..., power_avg_w: _Optional[bytes] = ..., memory_used_bytes: _Optional[bytes] = ..., temperature_c: _Optional[bytes] = ..., utilisation: _Optional[bytes] = ..., sm_clock_mhz: _Optional[bytes] = ..., throttle_bits: _Optional[bytes] = ..., interval_ns: _Optional[bytes] = ...) -> None: ...

class SampleAck(_message.Message):
    __slots__ = ("boot_id", "source_id", "seq", "acks")
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    boot_id: str
    source_id: str
    seq: int
    acks: _containers.RepeatedCompositeFieldContainer[SampleAck]
    def __init__(self, boot_id: _Optional[str] = ..., source_id: _Optional[str] = ..., seq: _Optional[int] = ..., acks: _Optional[_Iterable[_Union[SampleAck, _Mapping]]] = ...) -> None: ...
