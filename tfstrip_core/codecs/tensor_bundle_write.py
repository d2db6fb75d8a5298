"""Writing a checkpoint: byte ranges of another one, copied and checked on the way, and small new tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tfstrip_core.codecs import crc32c, slice_keys, sstable, tensor_sums
from tfstrip_core.codecs.protos import bundle_pb2
from tfstrip_core.codecs.tensor_bundle import DTYPES, STRING, Bundle, Entry, index_path, opened, shard_path, to_bytes
from tfstrip_core.codecs.wire import put_varint


@dataclass(frozen=True, slots=True)
class Fresh:
    """A new tensor: TensorFlow's type number, shape in elements, bytes as they are stored, their masked CRC-32C."""

    dtype: int
    shape: tuple[int, ...]
    data: bytes
    crc: int


def fresh(dtype: int, shape: tuple[int, ...], data: bytes) -> Fresh:
    """Return a new tensor of bytes as TensorFlow stores them; raises ValueError where they do not fit the shape."""
    count = math.prod(shape)
    _, width = DTYPES[dtype]
    if width and len(data) != count * width:
        raise ValueError(f"{len(data)} bytes are no {shape} of {DTYPES[dtype][0]}")
    total = tensor_sums.of(dtype, count)
    total.update(data)
    return Fresh(dtype, shape, data, total.masked())


def fresh_string(content: bytes) -> Fresh:
    """Return a new scalar string tensor, such as the object graph."""
    words = len(content).to_bytes(4 if len(content) < 1 << 32 else 8, "little")
    lengths = crc32c.masked(words).to_bytes(4, "little")
    crc = crc32c.mask(crc32c.extend(crc32c.extend(0, words), lengths + content))
    return Fresh(STRING, (), put_varint(len(content)) + lengths + content, crc)


def write(source: Bundle, prefix: str, tensors: Mapping[str, Entry | Fresh]) -> None:
    """Write a checkpoint of one shard with exactly `tensors`: key -> an entry of `source`, or a new tensor.

    An entry under its own key is kept; under another, that key takes its bytes, type and shape (an average applied, a
    key renamed). Bytes are copied in blocks in the order in which they lie in the source, each tensor against its
    checksum, which is kept, so that the copy proves itself; new tensors follow in the order of their keys. The same
    call writes the same bytes. Fields of the messages that are not known are kept.

    Creates `prefix`.index and `prefix`.data-00000-of-00001: raises FileExistsError where there is one, Unreadable where
    a tensor is damaged (the files are then incomplete), ValueError where two tensors come to have one key, or where a
    key of `source` is to take an entry of another type or shape.
    """
    copies: list[tuple[bytes, Entry]] = []
    index: dict[bytes, bytes] = {}
    keys: set[bytes] = set()
    for key, tensor in tensors.items():
        old = source.entries.get(key)
        if old is not None and (old.dtype, old.shape) != (tensor.dtype, tensor.shape):
            raise ValueError(f"{key!r} cannot take a tensor of another type or shape")
        stored = to_bytes(key)
        if not stored or stored[0] == 0 or stored in keys:
            raise ValueError(f"{key!r} is no key of a tensor, or is there twice")
        keys.add(stored)
        if isinstance(tensor, Entry):
            if tensor.slices:
                index[stored] = _placed(tensor.proto, 0, 0)
                copies += zip((slice_keys.encode(stored, cut) for cut in tensor.slices), tensor.parts, strict=True)
            else:
                copies.append((stored, tensor))
    # At one place there may be tensors without bytes, which were written first.
    copies.sort(key=lambda item: (item[1].shard, item[1].offset, item[1].size, item[0]))
    new = sorted((to_bytes(key), tensor) for key, tensor in tensors.items() if isinstance(tensor, Fresh))
    with opened(source) as data, open(shard_path(prefix, 0, 1), "xb") as out:
        offset = 0
        for stored, entry in copies:
            index[stored] = _placed(entry.proto, offset, entry.size)
            out.writelines(data.blocks(entry))
            offset += entry.size
        for stored, tensor in new:
            index[stored] = _message(tensor, offset)
            out.write(tensor.data)
            offset += len(tensor.data)
    header = bundle_pb2.Header.FromString(source.header)
    header.num_shards = 1
    with open(index_path(prefix), "xb") as table:
        sstable.write(table, [(b"", header.SerializeToString(deterministic=True)), *sorted(index.items())])


def _placed(proto: bytes, offset: int, size: int) -> bytes:
    """Return an entry's message with its bytes at another place, in the first shard."""
    message = bundle_pb2.Entry.FromString(proto)
    message.shard_id, message.offset, message.size = 0, offset, size
    return bytes(message.SerializeToString(deterministic=True))


def _message(tensor: Fresh, offset: int) -> bytes:
    message = bundle_pb2.Entry(dtype=tensor.dtype, offset=offset, size=len(tensor.data), crc32c=tensor.crc)
    message.shape.SetInParent()
    for size in tensor.shape:
        message.shape.dim.add(size=size)
    return bytes(message.SerializeToString(deterministic=True))
