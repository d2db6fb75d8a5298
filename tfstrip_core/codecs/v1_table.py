"""TensorFlow checkpoints of the first version: one table that holds the tensors themselves.

Its first record describes all tensors and the slices in which each is stored. Each other record is one slice: its
name, where it lies in the tensor, and its numbers as a TensorProto holds them, behind all else. What is read is the
description, the keys, and the beginning of each record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from google.protobuf.message import DecodeError

from tfstrip_core.codecs import slice_keys, sstable, sstable_records
from tfstrip_core.codecs.protos import bundle_pb2, saved_slices_pb2
from tfstrip_core.codecs.sstable_records import Record
from tfstrip_core.codecs.tensor_bundle import DTYPES, MAX_DIMENSIONS, MAX_ENTRY, STRING, to_bytes, to_key
from tfstrip_core.codecs.window import blocks
from tfstrip_core.codecs.wire import fields, put_varint, varint
from tfstrip_core.errors import Refused, Unreadable, Unsupported

MAX_META = 64 << 20  # bytes of the description of all tensors
_ONE, _TWO, _THREE = (number << 3 | 2 for number in (1, 2, 3))  # tags of fields of bytes

# Which field of a TensorProto has a type's numbers, and bytes of an element there (0 for varints).
_FIELDS: Mapping[int, tuple[int, int]] = {
    1: (5, 4), 2: (6, 8), 3: (7, 0), 4: (7, 0), 5: (7, 0), 6: (7, 0), 8: (9, 8), 9: (10, 0), 10: (11, 0), 11: (7, 0),
    12: (7, 0), 13: (7, 0), 14: (13, 0), 15: (7, 0), 16: (7, 0), 17: (7, 0), 18: (12, 16), 19: (13, 0), 22: (16, 0),
    23: (17, 0), STRING: (8, 0),
}  # fmt: skip
_STRING_TAG = 8 << 3 | 2
MAX_VARINT = 10  # bytes
_VARINTS = re.compile(rb"([\x00-\x7f]+)|[\x80-\xff]{1,9}[\x00-\x7f]")
_UNFINISHED = bytes(range(0x80, 0x100))  # bytes of varints that are not their last

Stretch = tuple[int, int]  # offset and size in the file, in bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A stored slice: its record; in it the TensorProto, and its `numbers`; `count` elements; `head` is before them."""

    record: Record
    head: bytes = field(repr=False)
    proto: Stretch
    numbers: Stretch
    count: int


@dataclass(frozen=True, slots=True)
class Variable:
    """A tensor: `shape` in elements, `slices` (start and length for each dimension) where it is stored in parts."""

    name: str
    dtype: int
    shape: tuple[int, ...]
    slices: tuple[slice_keys.Slice, ...]
    pieces: tuple[Piece, ...] = field(repr=False)

    @property
    def bytes(self) -> int:
        """Payload in bytes: of strings as stored, with their lengths."""
        width = DTYPES[self.dtype][1]
        return math.prod(self.shape) * width if width else sum(piece.numbers[1] for piece in self.pieces)

    @property
    def type_name(self) -> str:
        """The type as TensorFlow and NumPy call it."""
        return DTYPES[self.dtype][0]


@dataclass(frozen=True, slots=True)
class Table:
    """A checkpoint of the first version: `variables` by name as described in `meta`, its first record as stored."""

    path: str
    meta: bytes = field(repr=False)
    variables: Mapping[str, Variable] = field(repr=False)


def _lie(what: str) -> Refused:
    return Refused(f"the checkpoint {what}", "no framework writes that; do not load this file")


def read(path: str) -> Table:
    """Return what the checkpoint at `path` holds, without reading the tensors.

    Raises OSError where there is none, Unreadable where it is damaged, cut off or incomplete, Unsupported for one for
    later readers or with a part of a variable only, and Refused for one with good checksums that no writer makes.
    """
    with open(path, "rb") as file:
        try:
            return _read(path, file)
        except (Refused, Unsupported):
            sstable_records.check_whole(file)  # damage looks like a lie where checksums were not taken
            raise


def _read(path: str, file: BinaryIO) -> Table:
    records = sstable_records.records(file)
    first = next(records, None)
    if first is None or first.key:
        raise Unreadable("the checkpoint has no description of its tensors", "get a good copy")
    if first.size > MAX_META:
        raise _lie(f"describes its tensors in {first.size:,} bytes")
    file.seek(first.offset)
    meta = file.read(first.size)
    described, wanted = _wanted(meta)
    pieces: dict[bytes, Piece] = {}
    for record in records:
        if record.key not in wanted:
            raise _lie("has a tensor that it does not describe")
        pieces[record.key] = _piece(file, record, *wanted[record.key])
    for key, (message, _) in wanted.items():
        if key not in pieces:
            raise Unreadable(f"the checkpoint lacks the tensor {to_key(message.name)!r}", "get a complete copy")
    return Table(path, meta, {name: _variable(name, message, pieces) for name, message in described.items()})


def _wanted(
    meta: bytes,
) -> tuple[dict[str, saved_slices_pb2.Variable], dict[bytes, tuple[saved_slices_pb2.Variable, int]]]:
    """Return the descriptions by the tensors' names; and for each record's key its tensor and number of elements."""
    described: dict[str, saved_slices_pb2.Variable] = {}
    wanted: dict[bytes, tuple[saved_slices_pb2.Variable, int]] = {}
    for message in _described(meta):
        name = to_key(message.name)
        if not name or name in described:
            raise _lie(f"has two tensors {name!r}" if name else "has a tensor without a name")
        described[name] = message
        for extents, count in _slices(name, message):
            if wanted.setdefault(slice_keys.encode(message.name, extents), (message, count))[0] is not message:
                raise _lie(f"has one slice of {name!r} twice")
        if len(wanted) > sstable.MAX_ENTRIES:
            raise _lie("has more slices than a table has entries")
    return described, wanted


def _described(meta: bytes) -> Iterator[saved_slices_pb2.Variable]:
    """Yield the descriptions of the tensors."""
    for tag, begin, end in _tensors(meta):
        if tag == _ONE:
            if end - begin > MAX_ENTRY:
                raise _lie(f"describes a tensor in {end - begin:,} bytes")
            try:
                yield saved_slices_pb2.Variable.FromString(meta[begin:end])
            except DecodeError:
                raise Unreadable("the checkpoint's description of a tensor is damaged", "get a good copy") from None
        elif tag == _TWO:
            try:
                version = bundle_pb2.Version.FromString(meta[begin:end])
            except DecodeError:
                raise Unreadable("the checkpoint's version is damaged", "get a good copy") from None
            if version.min_consumer > 1:
                raise Unsupported("the checkpoint is for later versions of TensorFlow than are known", "update tfstrip")


def _tensors(meta: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the fields of the description, which is the record's only one."""
    outer = list(_some_fields(meta, 2))
    if len(outer) != 1 or outer[0][0] != _ONE:
        raise _lie("has a first record that describes no tensors")
    yield from fields(meta, *outer[0][1:])


def _some_fields(data: bytes, limit: int) -> Iterator[tuple[int, int, int]]:
    for _, found in zip(range(limit), fields(data, 0, len(data)), strict=False):
        yield found


def _slices(name: str, message: saved_slices_pb2.Variable) -> Iterator[tuple[slice_keys.Slice, int]]:
    """Yield the slices in which a tensor is stored, with the elements of each; all of them are all of it."""
    shape = tuple(dim.size for dim in message.shape.dim)
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or message.shape.unknown_rank:
        raise _lie(f"gives the tensor {name!r} a shape that is none")
    if message.type not in _FIELDS:
        raise _lie(f"gives the tensor {name!r} a type that it cannot hold")
    left, seen = math.prod(shape), set()
    for piece in message.slice:
        extents = _extents(piece)
        part = slice_keys.shape_of(extents, shape)
        if part is None or extents in seen:
            raise _lie(f"has a slice of the tensor {name!r} that does not fit it")
        seen.add(extents)
        left -= math.prod(part)
        yield extents, math.prod(part)
    if left < 0:
        raise _lie(f"has more slices of the tensor {name!r} than fit it")
    if left or not seen:
        raise Unsupported(
            f"the checkpoint holds a part of the tensor {name!r} only: it is one of several files",
            "save it again with a newer TensorFlow",
        )


def _extents(piece: bundle_pb2.Slice) -> slice_keys.Slice:
    return tuple((item.start, item.length if item.HasField("length") else slice_keys.WHOLE) for item in piece.extent)


def _variable(name: str, message: saved_slices_pb2.Variable, pieces: Mapping[bytes, Piece]) -> Variable:
    slices = tuple(map(_extents, message.slice))
    whole = len(slices) == 1 and all(extent == (0, slice_keys.WHOLE) for extent in slices[0])
    return Variable(
        name,
        message.type,
        tuple(dim.size for dim in message.shape.dim),
        () if whole else slices,
        tuple(pieces[slice_keys.encode(message.name, extents)] for extents in slices),
    )


def _piece(file: BinaryIO, record: Record, message: saved_slices_pb2.Variable, count: int) -> Piece:
    """Return the parts of a record, which must be in TensorFlow's own order: name, slice, numbers."""
    what = repr(to_key(message.name))
    file.seek(record.offset)
    data = file.read(min(record.size, 64 + 4 * len(record.key)))  # a slice is shorter than that, for each dimension
    begin = _inner(data, 0, _TWO, record.size)
    at, place = begin, begin
    for tag in (_ONE, _TWO):
        if at < len(data) and data[at] == tag:
            size, place = varint(data, at + 1)
            at = place + size
    head = data[begin:at]
    try:
        found = saved_slices_pb2.Piece.FromString(head)
    except DecodeError:
        raise _lie(f"has a damaged beginning of the tensor {what}") from None
    if at > len(data) or slice_keys.encode(found.name, _extents(found.slice)) != record.key:
        raise _lie(f"has another tensor's numbers under {what}")
    place = _inner(data, at, _THREE, record.size) if at < record.size else at
    proto = (record.offset + place, record.size - place)
    number, width = _FIELDS[message.type]
    if message.type == STRING:
        numbers = proto
    else:
        place = _inner(data, place, number << 3 | 2, record.size) if place < record.size else place
        numbers = (record.offset + place, record.size - place)
    size = numbers[1]
    if size != count * width if width else not (2 if message.type == STRING else 1) * count <= size:
        raise _lie(f"gives the tensor {what} a size that is not its shape's")
    return Piece(record, head, proto, numbers, count)


def _inner(data: bytes, at: int, tag: int, end: int) -> int:
    """Return where the content of the field `tag` at `at` begins, which must take all bytes up to `end`."""
    found, at = varint(data, at)
    size, at = varint(data, at)
    if found != tag or at + size != end:
        raise _lie("has a record that is no tensor's")
    return at


def check_whole(table: Table) -> None:
    """Read every byte against the table's checksums; raises Unreadable where one is damaged.

    Raises Refused where there are more or fewer numbers than elements.
    """
    with open(table.path, "rb") as file:
        sstable_records.check_whole(file)
        for variable in table.variables.values():
            for piece in variable.pieces:
                if _count(file, variable.dtype, piece) != piece.count:
                    raise _lie(f"gives the tensor {variable.name!r} a size that is not its shape's")


def _count(file: BinaryIO, dtype: int, piece: Piece) -> int:
    """Return the number of elements that are stored."""
    number, width = _FIELDS[dtype]
    offset, size = piece.numbers
    if width:
        return size // width
    if number == _FIELDS[STRING][0]:
        return _count_strings(file, offset, offset + size)
    count, last = 0, 0
    for block in blocks(file, offset, size):
        count += len(block.translate(None, _UNFINISHED))
        last = block[-1]
    return count if last < 0x80 else -1


def _count_strings(file: BinaryIO, at: int, end: int) -> int:
    count = 0
    while at < end:
        file.seek(at)
        head = file.read(min(20, end - at))
        tag, place = varint(head, 0)
        size, place = varint(head, place)
        at += place + size
        if tag != _STRING_TAG or at > end:
            return -1
        count += 1
    return count


def values(file: BinaryIO, variable: Variable) -> Iterator[bytes]:
    """Yield a tensor's elements in blocks, little-endian, slice by slice in the order of the slices' places."""
    number, width = _FIELDS[variable.dtype]
    size = DTYPES[variable.dtype][1]
    order = sorted(range(len(variable.pieces)), key=lambda at: variable.slices[at] if variable.slices else ())
    for piece in (variable.pieces[at] for at in order):
        if width or number == _FIELDS[STRING][0]:
            yield from blocks(file, *piece.numbers)
        else:
            yield from _integers(blocks(file, *piece.numbers), size)


def _integers(source: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield varints as integers of `size` bytes, negative ones as their complement."""
    rest = b""
    for block in source:
        data, at, found = rest + block, 0, bytearray()
        while match := _VARINTS.match(data, at):
            if match[1]:
                found += bytes(size * len(match[1]))
                found[len(found) - size * len(match[1]) :: size] = match[1]
            else:
                value, _ = varint(data, at)
                found += (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            at = match.end()
        rest = data[at:]
        if len(rest) > MAX_VARINT:
            raise _lie("has a number that is too long")
        yield bytes(found)


def write(table: Table, target: str, drop: Collection[str], values: Mapping[str, str] | None = None) -> None:
    """Write the checkpoint anew at `target`, without the tensors of `drop`; all other bytes are kept.

    `values` maps a tensor to another of its type, shape and slices whose numbers it takes. Raises FileExistsError where
    `target` exists.
    """
    sources: list[tuple[Piece, Piece]] = []
    for name, variable in table.variables.items():
        if name in drop:
            continue
        other = table.variables[(values or {}).get(name, name)]
        if (other.dtype, other.shape, other.slices) != (variable.dtype, variable.shape, variable.slices):
            raise ValueError(f"{name!r} cannot take a tensor of another type or shape")
        sources += zip(variable.pieces, other.pieces, strict=True)
    sources.sort(key=lambda pair: pair[0].record.key)
    meta = _without(table.meta, {to_bytes(name) for name in drop})
    with open(table.path, "rb", buffering=0) as file, open(target, "xb") as out:

        def items() -> Iterator[tuple[bytes, int, Iterator[bytes]]]:
            yield b"", len(meta), iter((meta,))
            for piece, source in sources:
                if piece is source:
                    record = piece.record
                    yield record.key, record.size, blocks(file, record.offset, record.size)
                else:
                    yield piece.record.key, *_joined(file, piece.head, source)

        sstable.write_long(out, items())


def _joined(file: BinaryIO, head: bytes, source: Piece) -> tuple[int, Iterator[bytes]]:
    """Return the size and the bytes of a record with the name and slice of one piece and the numbers of another."""
    offset, size = source.proto
    inner = head + put_varint(_THREE) + put_varint(size)
    start = put_varint(_TWO) + put_varint(len(inner) + size) + inner

    def parts() -> Iterator[bytes]:
        yield start
        yield from blocks(file, offset, size)

    return len(start) + size, parts()


def _without(meta: bytes, drop: Collection[bytes]) -> bytes:
    """Return the description without that of some tensors, byte for byte the same else."""
    if not drop:
        return meta
    kept = bytearray()
    ((_, start, _),) = _some_fields(meta, 2)
    for tag, begin, end in _tensors(meta):
        if tag != _ONE or saved_slices_pb2.Variable.FromString(meta[begin:end]).name not in drop:
            kept += meta[start:end]
        start = end
    return put_varint(_ONE) + put_varint(len(kept)) + bytes(kept)
