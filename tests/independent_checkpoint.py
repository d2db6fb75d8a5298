"""Reading checkpoints without tfstrip: the table, its entries and their sums by the format's definition, for the tests.

It also damages them: one bit of a tensor, with or without mending the sums that tell of it.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import google_crc32c

GRAPH = b"_CHECKPOINTABLE_OBJECT_GRAPH"
STRING, VARIANT = 7, 21
END = struct.Struct("<I")


class Entry(NamedTuple):
    """One entry of an index: of a tensor, of a partitioned one as a whole, or of one of its slices."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[bytes, ...]
    at: int  # where the value's bytes are in the index file
    value: bytes
    block: tuple[int, int]  # where the block is that holds it


class Stored(NamedTuple):
    """What must not change: type, shape, division and bytes."""

    dtype: int
    shape: tuple[int, ...]
    slices: tuple[bytes, ...]
    data: bytes


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message, as (number, whole number or bytes)."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value: int | bytes
            value, at = varint(data, at)
        elif tag & 7 == 5:
            (value,), at = END.unpack_from(data, at), at + 4
        else:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
        yield tag >> 3, value


def masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield a block's keys, each with the place and the size of its value; its sum must be right."""
    assert data[offset + size] == 0, "TensorFlow does not compress"
    assert END.unpack_from(data, offset + size + 1)[0] == masked(data[offset : offset + size + 1])
    end = offset + size - 4 - 4 * END.unpack_from(data, offset + size - 4)[0]
    at, key = offset, b""
    while at < end:
        shared, at = varint(data, at)
        own, at = varint(data, at)
        length, at = varint(data, at)
        key = key[:shared] + data[at : at + own]
        at += own
        yield key, at, length
        at += length


def entries(prefix: str) -> dict[bytes, Entry]:
    """Return the entries of an index by their raw keys, in order; that of the header is left out."""
    data = Path(f"{prefix}.index").read_bytes()
    footer = data[-48:]
    assert footer[40:] == bytes.fromhex("57fb808b247547db")
    at = varint(footer, varint(footer, 0)[1])[1]
    offset, at = varint(footer, at)
    size, at = varint(footer, at)
    found = {}
    for _, place, length in block(data, offset, size):
        handle = data[place : place + length]
        start, after = varint(handle, 0)
        where = start, varint(handle, after)[0]
        for key, at, count in block(data, *where):
            if key:
                found[key] = _entry(data[at : at + count], at, where)
            else:
                assert dict(fields(data[at : at + count])).get(1) == len(shards(prefix))
    assert list(found) == sorted(found)
    return found


def _entry(value: bytes, at: int, where: tuple[int, int]) -> Entry:
    said = list(fields(value))
    one = dict(said)
    dims = [dict(fields(dim)).get(1, 0) for number, dim in fields(one.get(2, b"")) if number == 2]
    slices = tuple(part for number, part in said if number == 7)
    return Entry(one.get(1, 0), tuple(dims), *(one.get(n, 0) for n in (3, 4, 5, 6)), slices, at, value, where)


def shards(prefix: str) -> list[Path]:
    """Return the data files of a prefix, which may be empty."""
    folder, base = prefix.rpartition("/")[::2]
    return sorted(path for path in Path(folder).iterdir() if path.name.startswith(f"{base}.data-"))


def sum_of(entry: Entry, data: bytes) -> int:
    """Return the sum that an entry must have; strings have one of their lengths before the text, and in the sum."""
    if entry.dtype != STRING:
        return masked(data)
    at, lengths, count = 0, b"", 1
    for size in entry.shape:
        count *= size
    for _ in range(count):
        length, at = varint(data, at)
        lengths += END.pack(length)
    assert END.unpack_from(data, at)[0] == masked(lengths)
    return masked(lengths + data[at:])


def tensors(prefix: str) -> dict[bytes, Stored]:
    """Return all that is stored by raw key, slices on their own, each with its sum right; without the object graph."""
    files = [path.read_bytes() for path in shards(prefix)]
    found = {}
    for key, entry in entries(prefix).items():
        data = files[entry.shard][entry.offset : entry.offset + entry.size]
        assert len(data) == entry.size
        assert entry.slices or entry.dtype == VARIANT or entry.crc == sum_of(entry, data), key
        if key != GRAPH:
            found[key] = Stored(entry.dtype, entry.shape, entry.slices, data)
    return found


def name_of(key: bytes) -> str:
    """Return the name of the tensor that a raw key belongs to: that of a slice begins with it."""
    return (key[1 : key.index(b"\0\1", 1)] if key[:1] == b"\0" else key).decode()


def flip(prefix: str, name: str, mend: bool = False, bit: int = 20) -> None:
    """Flip one bit in the last element of a tensor; `mend` gives it the sum that it then has."""
    key, entry = next((k, e) for k, e in entries(prefix).items() if name_of(k) == name and e.size)
    path = shards(prefix)[entry.shard]
    content = bytearray(path.read_bytes())
    content[entry.offset + entry.size - 4 + bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    if not mend:
        return
    index = Path(f"{prefix}.index")
    text = bytearray(index.read_bytes())
    old = b"\x35" + END.pack(entry.crc)
    assert entry.value.count(old) == 1, key
    place = entry.at + entry.value.index(old) + 1
    text[place : place + 4] = END.pack(sum_of(entry, bytes(content[entry.offset : entry.offset + entry.size])))
    start, size = entry.block
    text[start + size + 1 : start + size + 5] = END.pack(masked(bytes(text[start : start + size + 1])))
    index.write_bytes(text)
    tensors(prefix)
