"""Tensors as processes hand them to each other: raw bytes in one file, described in JSON. Nothing is ever unpickled.

Elements lie in little-endian C order; a string has its length in eight bytes before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

from tfstrip_core.errors import CannotRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from numpy import ndarray

    Array = ndarray[Any, Any]

NAME = "values"  # of the file, in the folder of the process that writes it
STRING = "string"
_SIZES = {
    "bool": 1, "int4": 1, "uint4": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4,
    "int64": 8, "uint64": 8, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16,
    "float8_e5m2": 1, "float8_e4m3fn": 1, "qint8": 1, "quint8": 1, "qint16": 2, "quint16": 2, "qint32": 4,
}  # fmt: skip
_LENGTH = 8
_BLOCK = 1 << 20
_MAX = 10_000  # tensors of one process
MAX_RANK = 32  # numpy's before its version 2


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor in a file: `shape` in elements, its `bytes` from the offset `at` on."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    at: int
    bytes: int

    def said(self) -> dict[str, Any]:
        """Return it as the other process reads it."""
        return {"name": self.name, "dtype": self.dtype, "shape": self.shape, "at": self.at, "bytes": self.bytes}


def parse(said: Any, size: int) -> tuple[Value, ...]:
    """Return the tensors that a process describes, in a file of `size` bytes; raises CannotRun where that cannot be."""
    if not isinstance(said, list) or len(said) > _MAX:
        raise _nonsense()
    found = []
    for one in said:
        if not isinstance(one, dict):
            raise _nonsense()
        name, dtype, shape, at, count = (one.get(key) for key in ("name", "dtype", "shape", "at", "bytes"))
        if not (isinstance(name, str) and isinstance(dtype, str) and isinstance(shape, list)):
            raise _nonsense()
        if len(shape) > MAX_RANK:
            raise _nonsense()
        if not all(type(number) is int and 0 <= number < 1 << 62 for number in (at, count, *shape)):
            raise _nonsense()
        value = Value(name, dtype, tuple(shape), int(at or 0), int(count or 0))
        if value.at + value.bytes > size or not _fits(value):
            raise _nonsense()
        found.append(value)
    return tuple(found)


def known(value: Value) -> bool:
    """Whether a tensor is of a dtype that another process takes."""
    return value.dtype == STRING or value.dtype in _SIZES


def _fits(value: Value) -> bool:
    count = prod(value.shape)
    if value.dtype == STRING:
        return value.bytes >= count * _LENGTH
    return value.dtype in _SIZES and value.bytes == count * _SIZES[value.dtype]


def _nonsense() -> CannotRun:
    return CannotRun("the process that ran it answered what no run gives", "see that it runs in TensorFlow by itself")


def add(file: BinaryIO, name: str, array: Array) -> Value:
    """Write an array at the end of a file; return where it is. Objects and texts are strings."""
    import numpy as np

    array = np.asarray(array)
    at = file.seek(0, 2)
    if array.dtype.kind in "OSU":
        dtype = STRING
        for one in array.ravel().tolist():
            text = one if isinstance(one, bytes) else str(one).encode("utf-8", "surrogateescape")
            file.write(len(text).to_bytes(_LENGTH, "little") + text)
    else:
        dtype = array.dtype.name
        if array.dtype.kind in "biufc":
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        file.write(array.tobytes())
    return Value(name, dtype, array.shape, at, file.tell() - at)


def read(file: BinaryIO, value: Value) -> Array:
    """Return the elements: strings as objects, what numpy has no kind for as it is in `kinds`, else as unsigned bytes.

    Raises CannotRun where strings do not have the lengths that they say.
    """
    import numpy as np

    file.seek(value.at)
    raw = file.read(value.bytes)
    if value.dtype == STRING:
        return np.array([*_strings(raw, prod(value.shape)), None], object)[:-1].reshape(value.shape)
    return np.frombuffer(raw, _kind(value.dtype)).reshape(value.shape)


def _strings(raw: bytes, count: int) -> Iterator[bytes]:
    at = 0
    for _ in range(count):
        end = at + _LENGTH + int.from_bytes(raw[at : at + _LENGTH], "little")
        if at + _LENGTH > len(raw) or end > len(raw):
            raise _nonsense()
        yield raw[at + _LENGTH : end]
        at = end
    if at != len(raw):
        raise _nonsense()


def _kind(dtype: str) -> Any:
    """Return numpy's kind of a dtype: those beyond its own are ml_dtypes', which every TensorFlow brings."""
    import numpy as np

    try:
        return np.dtype(dtype)
    except TypeError:
        import ml_dtypes  # type: ignore[import-not-found,import-untyped,unused-ignore]

        try:
            return np.dtype(getattr(ml_dtypes, dtype))
        except AttributeError:
            return np.dtype(f"V{_SIZES[dtype]}")


def same(left: BinaryIO, one: Value, right: BinaryIO, other: Value) -> bool:
    """Return whether two tensors of one size have the same bytes."""
    at = 0
    while at < one.bytes:
        count = min(_BLOCK, one.bytes - at)
        left.seek(one.at + at)
        block = left.read(count)
        right.seek(other.at + at)  # it may be the same file
        if len(block) < count or block != right.read(count):
            return False
        at += count
    return True


def copy(left: BinaryIO, value: Value, right: BinaryIO) -> Value:
    """Write a tensor of one file at the end of another; return where it is there."""
    at, done = right.seek(0, 2), 0
    left.seek(value.at)
    while done < value.bytes:
        block = left.read(min(_BLOCK, value.bytes - done))
        if not block:
            raise _nonsense()
        done += right.write(block)
    return Value(value.name, value.dtype, value.shape, at, value.bytes)
