from tfstrip_core.codecs.protos import bundle_pb2 as _bundle_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Variable(_message.Message):
    __slots__ = ("name", "shape", "type", "slice")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SLICE_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    shape: _bundle_pb2.Shape
    type: int
    slice: _containers.RepeatedCompositeFieldContainer[_bundle_pb2.Slice]
    def __init__(self, name: _Optional[bytes] = ..., shape: _Optional[_Union[_bundle_pb2.Shape, _Mapping]] = ..., type: _Optional[int] = ..., slice: _Optional[_Iterable[_Union[_bundle_pb2.Slice, _Mapping]]] = ...) -> None: ...

class Piece(_message.Message):
    __slots__ = ("name", "slice")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SLICE_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    slice: _bundle_pb2.Slice
    def __init__(self, name: _Optional[bytes] = ..., slice: _Optional[_Union[_bundle_pb2.Slice, _Mapping]] = ...) -> None: ...
