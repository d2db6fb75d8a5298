"""Builders of checkpoints, honest and hostile, byte by byte: nothing here uses the package's own writers."""

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import google_crc32c

from tfstrip_core.codecs import tensor_bundle as tb
from tfstrip_core.codecs.protos import bundle_pb2

REAL = os.environ.get("TFSTRIP_REAL_MODELS", "")
Item = tuple[bytes, bytes]


def masked(data: bytes) -> int:
    """The masked CRC-32C, by its definition."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def entry(key: bytes, value: bytes = b"", shared: int = 0) -> bytes:
    """One entry of a block; `key` without the `shared` first bytes of the key before."""
    return varint(shared) + varint(len(key)) + varint(len(value)) + key + value


def block(entries: bytes, restarts: Sequence[int] = (0,)) -> bytes:
    """A block's content."""
    return entries + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def plain(items: Sequence[Item]) -> bytes:
    """A block of entries that share nothing."""
    return block(b"".join(entry(key, value) for key, value in items))


def stored(content: bytes, compression: int = 0) -> bytes:
    """A block as it lies in the file."""
    body = content + bytes([compression])
    return body + struct.pack("<I", masked(body))


def footer(metaindex: tuple[int, int], index: tuple[int, int]) -> bytes:
    handles = b"".join(map(varint, (*metaindex, *index)))
    return handles.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def table(
    blocks: Sequence[tuple[bytes, bytes]], handles: Sequence[tuple[int, int]] = (), compression: int = 0
) -> bytes:
    """A table of (index key, block content); `handles` overrides where the index says the blocks are."""
    out, places = b"", []
    for _, content in blocks:
        places.append((len(out), len(content)))
        out += stored(content, compression)
    places = list(handles) or places
    metaindex = (len(out), 8)
    out += stored(block(b""))
    index = plain([(key, varint(at) + varint(size)) for (key, _), (at, size) in zip(blocks, places, strict=True)])
    return out + stored(index) + footer(metaindex, (len(out), len(index)))


def simple(items: Sequence[Item]) -> bytes:
    """A table of one block."""
    return table([(items[-1][0] + b"\xff", plain(items))])


Tensor = tuple[int, tuple[int, ...], bytes]  # type number, shape, bytes as stored
FLOAT, INT8 = 1, 6
THREE = {b"a": (INT8, (3,), b"123"), b"b": (INT8, (3,), b"456"), b"c": (INT8, (2,), b"78")}


def bundle(
    prefix: str | Path, tensors: dict[bytes, Tensor], shards: int = 1, header: bytes = b""
) -> dict[bytes, bundle_pb2.Entry]:
    """Write the data files of a bundle, tensors dealt out to the shards in turn, and its index; return the entries."""
    entries, content = {}, [b""] * shards
    for number, (key, (dtype, shape, data)) in enumerate(tensors.items()):
        shard = number % shards
        entries[key] = bundle_pb2.Entry(
            dtype=dtype, shard_id=shard, offset=len(content[shard]), size=len(data), crc32c=masked(data)
        )
        entries[key].shape.dim.extend(bundle_pb2.Dim(size=size) for size in shape)
        content[shard] += data
    for shard, data in enumerate(content):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(data)
    index(prefix, entries, shards, header)
    return entries


def index(prefix: str | Path, entries: dict[bytes, bundle_pb2.Entry], shards: int = 1, header: bytes = b"") -> None:
    """Write a bundle's index: whatever the entries say."""
    first = header or bundle_pb2.Header(num_shards=shards, version=bundle_pb2.Version(producer=1)).SerializeToString()
    items = [(b"", first), *sorted((key, entry.SerializeToString()) for key, entry in entries.items())]
    Path(f"{prefix}.index").write_bytes(simple(items))


def real_indexes() -> Iterator[Path]:
    """The .index files of the real models, where there are any."""
    if REAL:
        yield from sorted(Path(REAL).rglob("*.index"))


def contents(found: tb.Bundle) -> dict[str, Tensor]:
    """Every stored tensor's type, shape and bytes, read with its checksum."""
    with tb.opened(found) as data:
        return {
            part.key: (part.dtype, part.shape, b"".join(data.blocks(part)))
            for entry in found.entries.values()
            for part in entry.stored
        }
