from harness_proto.v1 import jobs_pb2 as _jobs_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImportDatasetRequest(_message.Message):
    __slots__ = ("header", "arrow_ipc", "commit")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ARROW_IPC_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    header: DatasetHeader
    arrow_ipc: bytes
    commit: DatasetCommit
    def __init__(self, header: _Optional[_Union[DatasetHeader, _Mapping]] = ..., arrow_ipc: _Optional[bytes] = ..., commit: _Optional[_Union[DatasetCommit, _Mapping]] = ...) -> None: ...

class DatasetHeader(_message.Message):
    __slots__ = ("name", "origin", "licence", "parent", "mapping_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    MAPPING_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    origin: str
    licence: str
    parent: str
    mapping_json: str
    def __init__(self, name: _Optional[str] = ..., origin: _Optional[str] = ..., licence: _Optional[str] = ..., parent: _Optional[str] = ..., mapping_json: _Optional[str] = ...) -> None: ...

class DatasetCommit(_message.Message):
    __slots__ = ("row_count", "report_json")
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    REPORT_JSON_FIELD_NUMBER: _ClassVar[int]
    row_count: int
    report_json: str
    def __init__(self, row_count: _Optional[int] = ..., report_json: _Optional[str] = ...) -> None: ...

class ImportDatasetReply(_message.Message):
    __slots__ = ("dataset", "is_new")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    IS_NEW_FIELD_NUMBER: _ClassVar[int]
    dataset: DatasetSummary
    is_new: bool
    def __init__(self, dataset: _Optional[_Union[DatasetSummary, _Mapping]] = ..., is_new: _Optional[bool] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDatasetsReply(_message.Message):
    __slots__ = ("datasets",)
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[DatasetSummary]
    def __init__(self, datasets: _Optional[_Iterable[_Union[DatasetSummary, _Mapping]]] = ...) -> None: ...

class DatasetRequest(_message.Message):
    __slots__ = ("name", "dataset_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    dataset_id: str
    def __init__(self, name: _Optional[str] = ..., dataset_id: _Optional[str] = ...) -> None: ...

class DatasetSummary(_message.Message):
    __slots__ = ("name", "origin", "content_hash", "row_count", "created_realtime_ns", "licence", "parent", "owner", "dataset_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    CREATED_REALTIME_NS_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    DATASET_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    origin: str
    content_hash: str
    row_count: int
    created_realtime_ns: int
    licence: str
    parent: str
    owner: str
    dataset_id: str
    def __init__(self, name: _Optional[str] = ..., origin: _Optional[str] = ..., content_hash: _Optional[str] = ..., row_count: _Optional[int] = ..., created_realtime_ns: _Optional[int] = ..., licence: _Optional[str] = ..., parent: _Optional[str] = ..., owner: _Optional[str] = ..., dataset_id: _Optional[str] = ...) -> None: ...

class DatasetDetail(_message.Message):
    __slots__ = ("summary", "mapping_json", "report_json", "children")
    class ChildrenEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    MAPPING_JSON_FIELD_NUMBER: _ClassVar[int]
    REPORT_JSON_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    summary: DatasetSummary
    mapping_json: str
    report_json: str
    children: _containers.ScalarMap[str, int]
    def __init__(self, summary: _Optional[_Union[DatasetSummary, _Mapping]] = ..., mapping_json: _Optional[str] = ..., report_json: _Optional[str] = ..., children: _Optional[_Mapping[str, int]] = ...) -> None: ...
