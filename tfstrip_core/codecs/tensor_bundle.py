"""TensorFlow checkpoints of the second version: an .index table and data shards, read from the index alone.

An entry of the table says where a tensor's bytes lie. Those of a partitioned variable have no bytes; they name slices,
whose bytes lie under keys of their own. Here a variable is one Entry either way, with its parts in it.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from google.protobuf.message import DecodeError

from tfstrip_core.codecs import slice_keys, sstable, tensor_sums
from tfstrip_core.codecs.protos import bundle_pb2
from tfstrip_core.codecs.window import blocks
from tfstrip_core.codecs.wire import varint
from tfstrip_core.errors import Refused, Unreadable, Unsupported
from tfstrip_core.inventory import Part

STRING, VARIANT = tensor_sums.STRING, tensor_sums.VARIANT
MAX_DIMENSIONS = 254  # TensorFlow's own bound
MAX_ENTRY = 1 << 20  # bytes of an entry's message: 30,000 slices

# TensorFlow's type numbers: name, and bytes of an element (0 where elements differ).
DTYPES: Mapping[int, tuple[str, int]] = {
    1: ("float32", 4), 2: ("float64", 8), 3: ("int32", 4), 4: ("uint8", 1), 5: ("int16", 2), 6: ("int8", 1),
    STRING: ("string", 0), 8: ("complex64", 8), 9: ("int64", 8), 10: ("bool", 1), 11: ("qint8", 1), 12: ("quint8", 1),
    13: ("qint32", 4), 14: ("bfloat16", 2), 15: ("qint16", 2), 16: ("quint16", 2), 17: ("uint16", 2),
    18: ("complex128", 16), 19: ("float16", 2), VARIANT: ("variant", 0), 22: ("uint32", 4), 23: ("uint64", 8),
    24: ("float8_e5m2", 1), 25: ("float8_e4m3fn", 1), 26: ("float8_e4m3fnuz", 1), 27: ("float8_e4m3b11fnuz", 1),
    28: ("float8_e5m2fnuz", 1), 29: ("int4", 1), 30: ("uint4", 1), 31: ("int2", 1), 32: ("uint2", 1),
    33: ("float4_e2m1fn", 1),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored tensor: `shape` in elements, `offset` and `size` in bytes of shard number `shard`.

    `crc` is masked, of the bytes as the type's rule takes them. A partitioned variable has size 0, `slices` (start and
    length for each dimension) and for each of them one of `parts`. `proto` is the entry's message as stored. Bytes of
    a key that are no UTF-8 are surrogates.
    """

    key: str
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    proto: bytes = field(repr=False)
    slices: tuple[slice_keys.Slice, ...] = ()
    parts: tuple[Entry, ...] = ()

    @property
    def bytes(self) -> int:
        """Payload with that of all parts, in bytes."""
        return self.size + sum(part.size for part in self.parts)

    @property
    def stored(self) -> tuple[Entry, ...]:
        """The entries that have the bytes: the parts, or the entry itself."""
        return self.parts if self.slices else (self,)

    @property
    def type_name(self) -> str:
        """The type as TensorFlow and NumPy call it."""
        return DTYPES.get(self.dtype, (f"type {self.dtype}", 0))[0]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checkpoint: `entries` by key in the order of the keys' bytes, parts not among them; `header` as stored."""

    prefix: str
    shards: int
    header: bytes = field(repr=False)
    entries: Mapping[str, Entry] = field(repr=False)

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the index and of the shards that hold a tensor's bytes."""
        used = {stored.shard for entry in self.entries.values() for stored in entry.stored}
        return (index_path(self.prefix), *(shard_path(self.prefix, n, self.shards) for n in sorted(used)))


def index_path(prefix: str) -> str:
    """Return the path of a checkpoint's index."""
    return f"{prefix}.index"


def shard_path(prefix: str, shard: int, shards: int) -> str:
    """Return the path of data shard number `shard` of `shards`."""
    return f"{prefix}.data-{shard:05d}-of-{shards:05d}"


def to_bytes(key: str) -> bytes:
    """Return a key as the table holds it."""
    return key.encode("utf-8", "surrogateescape")


def to_key(stored: bytes) -> str:
    """Return a table's key as text; what is no UTF-8 in it becomes surrogates."""
    return stored.decode("utf-8", "surrogateescape")


def _lie(what: str) -> Refused:
    return Refused(f"the checkpoint {what}", "no framework writes that; do not load this file")


def read(prefix: str) -> Bundle:
    """Return what the checkpoint at `prefix` holds, from its index and its shards' sizes alone.

    Raises OSError where there is no index, Unreadable where index or shards are damaged, cut off or missing,
    Unsupported for a checkpoint of the first version, a big-endian one, or one for later readers, and Refused for a
    bundle with good checksums that no writer makes: sizes that are not the shape's, ranges that overlap, parts that
    belong to nothing.
    """
    with open(index_path(prefix), "rb", buffering=0) as file:
        table = sstable.entries(file)
        first, header = next(table, (None, b""))
        if first != b"":
            raise Unreadable("the checkpoint's index has no header", "get a good copy")
        shards = _shards(header)
        parts: dict[str, Entry] = {}
        whole: list[Entry] = []
        slices = 0
        for key, value in table:
            entry = _entry(to_key(key), value, shards)
            slices += len(entry.slices)
            if slices > sstable.MAX_ENTRIES:
                raise _lie("has more slices than a table has entries")
            if key[0]:
                whole.append(entry)
            else:
                parts[entry.key] = entry
    entries = {entry.key: _joined(entry, parts) if entry.slices else entry for entry in whole}
    if parts:
        raise _lie(f"has {len(parts):,} parts of variables that it does not have")
    bundle = Bundle(prefix, shards, header, entries)
    _check_ranges(bundle)
    return bundle


def _shards(header: bytes) -> int:
    """Return the number of shards of a header that can be handled."""
    if header[:1] == b"\x0a":  # where this version has a number, the first one has a message
        raise Unsupported("the checkpoint is of TensorFlow's first format", "save it again with a newer TensorFlow")
    try:
        message = bundle_pb2.Header.FromString(header)
    except DecodeError:
        raise Unreadable("the checkpoint's header is damaged", "get a good copy") from None
    if message.endianness:
        raise Unsupported("the checkpoint is of a big-endian machine", "save it again on a little-endian one")
    if message.version.min_consumer > 1:
        raise Unsupported("the checkpoint is for later versions of TensorFlow than are known", "update tfstrip")
    if not 0 < message.num_shards <= sstable.MAX_ENTRIES:
        raise _lie(f"has {message.num_shards:,} shards")
    return int(message.num_shards)


def _entry(key: str, proto: bytes, shards: int) -> Entry:
    if len(proto) > MAX_ENTRY:
        raise _lie(f"describes the tensor {key!r} in {len(proto):,} bytes")
    try:
        message = bundle_pb2.Entry.FromString(proto)
    except DecodeError:
        raise Unreadable(f"the checkpoint's entry {key!r} is damaged", "get a good copy") from None
    shape = tuple(dim.size for dim in message.shape.dim)
    slices = tuple(
        tuple(
            (extent.start, extent.length if extent.HasField("length") else slice_keys.WHOLE) for extent in piece.extent
        )
        for piece in message.slices
    )
    entry = Entry(
        key, message.dtype, shape, message.shard_id, message.offset, message.size, message.crc32c, proto, slices
    )
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0 or message.shape.unknown_rank:
        raise _lie(f"gives the tensor {key!r} a shape that is none")
    if min(entry.offset, entry.size) < 0 or not 0 <= entry.shard < shards:
        raise _lie(f"places the tensor {key!r} outside its files")
    count = math.prod(shape)
    _, width = DTYPES.get(entry.dtype, ("", 0))
    least = {STRING: count + 4, VARIANT: 5 * count}.get(entry.dtype, 0)
    if entry.size if slices else ((width and entry.size != count * width) or entry.size < least):
        raise _lie(f"gives the tensor {key!r} a size that is not its shape's")
    return entry


def _joined(entry: Entry, parts: dict[str, Entry]) -> Entry:
    """Return a partitioned variable with its parts, taken out of `parts`."""
    found = []
    for extents in entry.slices:
        part = parts.pop(to_key(slice_keys.encode(to_bytes(entry.key), extents)), None)
        if part is None:
            raise Unreadable(f"the checkpoint lacks a part of the tensor {entry.key!r}", "get a complete copy")
        shape = slice_keys.shape_of(extents, entry.shape)
        if part.slices or part.dtype != entry.dtype or part.shape != shape:
            raise _lie(f"has a part of the tensor {entry.key!r} that does not fit it")
        found.append(part)
    return Entry(
        entry.key, entry.dtype, entry.shape, entry.shard, entry.offset, 0, entry.crc, entry.proto, entry.slices,
        tuple(found),
    )  # fmt: skip


def _check_ranges(bundle: Bundle) -> None:
    """TensorFlow writes each tensor's bytes once: a shared byte is a trap, such as a petabyte out of a small file."""
    stored = [item for entry in bundle.entries.values() for item in entry.stored if item.size]
    stored.sort(key=lambda item: (item.shard, item.offset))
    shard, end, size = -1, 0, 0
    for item in stored:
        if item.shard != shard:
            shard, end = item.shard, 0
            size = _size(shard_path(bundle.prefix, shard, bundle.shards))
        if item.offset < end:
            raise _lie(f"stores the tensor {item.key!r} in bytes of another")
        end = item.offset + item.size
        if end > size:
            name = os.path.basename(shard_path(bundle.prefix, shard, bundle.shards))
            raise Unreadable(f"the checkpoint's data file {name} is cut off", "get a complete copy")


def _size(path: str) -> int:
    name = os.path.basename(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise Unreadable(f"the checkpoint's data file {name} is missing", "get a complete copy") from None
    if not stat.S_ISREG(status.st_mode):
        raise Refused(f"the checkpoint's data file {name} is no file", "do not load this checkpoint")
    return status.st_size


@contextmanager
def opened(bundle: Bundle) -> Iterator[Data]:
    """Yield the data files of `bundle`, opened as they are needed and closed together."""
    with ExitStack() as stack:
        yield Data(bundle, stack)


class Data:
    """The data files of a bundle that is open (see `opened`)."""

    def __init__(self, bundle: Bundle, stack: ExitStack) -> None:
        self._bundle = bundle
        self._files: dict[int, BinaryIO] = {}
        self._stack = stack

    def blocks(self, entry: Entry) -> Iterator[bytes]:
        """Yield the bytes of one stored tensor as they lie in the file, in blocks of at most 1 MiB.

        `entry` has no slices (its parts are read one by one). Raises Unreadable, after the last block at the latest,
        where they do not have the entry's CRC-32C.
        """
        if entry.slices:
            raise ValueError("a partitioned variable is read part by part")
        if entry.size and entry.shard not in self._files:
            path = shard_path(self._bundle.prefix, entry.shard, self._bundle.shards)
            self._files[entry.shard] = self._stack.enter_context(open(path, "rb", buffering=0))  # noqa: SIM115
        total = tensor_sums.of(entry.dtype, math.prod(entry.shape))
        for block in blocks(self._files[entry.shard], entry.offset, entry.size) if entry.size else ():
            total.update(block)
            yield block
        if total.masked() != entry.crc:
            raise Unreadable(f"the checkpoint's tensor {entry.key!r} is damaged (CRC-32C)", "get a good copy")

    def string(self, entry: Entry, limit: int) -> bytes:
        """Return the content of a scalar string tensor, such as the object graph, of at most `limit` bytes.

        Raises Refused where it is longer or is no scalar string, and Unreadable where it is damaged.
        """
        if entry.dtype != STRING or entry.shape or entry.slices:
            raise _lie(f"has no single string under {entry.key!r}")
        if entry.size > limit:
            raise Refused(f"the checkpoint's {entry.key!r} is {entry.size:,} bytes", "no model needs that much")
        payload = b"".join(self.blocks(entry))
        _, at = varint(payload, 0)
        return payload[at + 4 :]


def part(entry: Entry, data: Data) -> Part:
    """Return a tensor as a comparable part: its type and shape, and its bytes while `data` is open."""

    def read() -> Iterator[bytes]:
        for stored in entry.stored:
            yield from data.blocks(stored)

    def values() -> Iterator[bytes]:
        for _, stored in sorted(zip(entry.slices, entry.parts, strict=True)):
            yield from data.blocks(stored)

    cut = f" in parts {entry.slices}" if entry.slices else ""
    return Part(f"{entry.type_name} {list(entry.shape)}{cut}", read, entry.bytes, values if cut else None)


def check_whole(bundle: Bundle, entries: Iterable[Entry] | None = None) -> None:
    """Read every byte of `entries`, all by default, against its checksum; raises Unreadable where one is damaged."""
    with opened(bundle) as data:
        for entry in bundle.entries.values() if entries is None else entries:
            for stored in entry.stored:
                for _ in data.blocks(stored):
                    pass
