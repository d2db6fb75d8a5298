"""Sorted tables in the manner of LevelDB, as TensorFlow writes them: the .index file of a checkpoint.

A table is data blocks, an empty metaindex block, an index block and a footer of 48 bytes. A block is entries (each
key without the prefix that it shares with the one before), the places of the entries that begin anew, their
count; behind it one byte for its compression and a masked CRC-32C. What fails a checksum is damaged; what passes
and still lies was made so, and is refused: a loader that seeks must not find what a reader in order does not.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import BinaryIO

from tfstrip_core.codecs import crc32c
from tfstrip_core.codecs.wire import put_varint, varint
from tfstrip_core.errors import Refused, Unreadable

MAX_TABLE = 64 << 20  # bytes of a file, and of all keys and values unpacked
MAX_ENTRIES = 100_000
MAX_SNAPPY = 4 << 20  # bytes of all compressed blocks unpacked: only TensorFlow 1.0 and 1.1 wrote such, small ones

MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_FOOTER = 48
_TRAILER = 5
_BLOCK = 262_144
_INTERVAL = 16
_WORD = struct.Struct("<I")

_Handle = tuple[int, int]  # offset and size of a block's content, in bytes


def _damaged(what: str) -> Unreadable:
    return Unreadable(f"the table {what}", "get a good copy")


def _lie(what: str) -> Refused:
    return Refused(f"the table {what}", "no framework writes that; do not load this file")


def entries(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values in ascending order of the keys' bytes, everything on the way checked.

    Takes the memory of one block (256 KiB, as written by TensorFlow) at a time, at most MAX_TABLE. Raises
    Unreadable for a table that is damaged or cut off, and Refused for one with good checksums that no writer
    makes: blocks out of order or overlapping, keys out of order, an index that leads astray, over MAX_ENTRIES entries.
    """
    length = file.seek(0, os.SEEK_END)
    if length > MAX_TABLE:
        raise Refused(f"the table is {length:,} bytes", "no model needs that; do not load this file")
    metaindex, index = _footer(file, length)
    first, second = sorted((metaindex, index))
    if _end(first) > second[0] or _end(second) > length - _FOOTER:
        raise _damaged("has an index outside its place")  # no checksum covers the footer
    snappy = MAX_SNAPPY - _content(file, metaindex, MAX_SNAPPY)[0]
    packed, content = _content(file, index, snappy)
    snappy -= packed
    handles = _entries(content, MAX_TABLE, MAX_ENTRIES)
    room, count, end, bound = MAX_TABLE, MAX_ENTRIES, 0, None
    for limit, value in handles:
        handle, rest = _handle(value, 0)
        if rest != len(value) or handle[0] < end or _end(handle) > first[0]:
            raise _lie("has blocks out of their order")
        end = _end(handle)
        packed, content = _content(file, handle, snappy)
        snappy -= packed
        found = _entries(content, room, count)
        if not found or found[-1][0] > limit or (bound is not None and found[0][0] <= bound):
            raise _lie("has an index that leads astray")
        room -= sum(len(key) + len(value) for key, value in found)
        count -= len(found)
        bound = limit
        yield from found


def _end(handle: _Handle) -> int:
    return handle[0] + handle[1] + _TRAILER


def _footer(file: BinaryIO, length: int) -> tuple[_Handle, _Handle]:
    file.seek(max(0, length - _FOOTER))
    footer = file.read(_FOOTER)
    if len(footer) < _FOOTER or footer[-8:] != MAGIC:
        raise _damaged("has no end: it was cut off, or is no table")
    metaindex, at = _handle(footer[:-8], 0)
    index, _ = _handle(footer[:-8], at)
    if footer != b"".join(map(put_varint, (*metaindex, *index))).ljust(_FOOTER - 8, b"\0") + MAGIC:
        raise _damaged("has a damaged end")
    if max(_end(metaindex), _end(index)) > length:
        raise _damaged("promises more bytes than the file has")
    return metaindex, index


def _handle(data: bytes, at: int) -> tuple[_Handle, int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _content(file: BinaryIO, handle: _Handle, room: int) -> tuple[int, bytes]:
    """Return how many bytes were unpacked (0 for a plain block) and the block's content."""
    offset, size = handle
    file.seek(offset)
    stored = file.read(size + _TRAILER)
    if len(stored) < size + _TRAILER:
        raise _damaged("ends in the middle of a block")
    (crc,) = _WORD.unpack_from(stored, size + 1)
    if crc32c.masked(stored[: size + 1]) != crc:
        raise _damaged("is damaged (CRC-32C of a block)")
    if stored[size] == 0:
        return 0, stored[:size]
    if stored[size] != 1:
        raise _lie("uses a compression that TensorFlow does not")
    content = _unsnap(stored[:size], room)
    return len(content), content


def _unsnap(data: bytes, room: int) -> bytes:
    """Unpack raw Snappy, at most `room` bytes."""
    total, at = varint(data, 0)
    if total > room:
        raise _lie("expands beyond measure")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            size = (tag >> 2) + 1
            if size > 60:
                extra = size - 60
                size = int.from_bytes(data[at : at + extra], "little") + 1
                at += extra
            out += data[at : at + size]
            at += size
        else:
            width = (0, 1, 2, 4)[tag & 3]
            back = int.from_bytes(data[at : at + width], "little")
            size = (tag >> 2) + 1
            if width == 1:
                back |= (tag >> 5) << 8
                size = (tag >> 2 & 7) + 4
            at += width
            if not 0 < back <= len(out):
                raise _lie("has a compressed block that points outside itself")
            piece = out[len(out) - back : len(out) - back + size]
            out += (piece * (size // back + 1))[:size]
        if at > len(data) or len(out) > total:
            break
    if at != len(data) or len(out) != total:
        raise _lie("has a compressed block of another length than it says")
    return bytes(out)


def _entries(content: bytes, room: int, count: int) -> list[tuple[bytes, bytes]]:
    """Return a block's entries: at most `count`, keys and values together at most `room` bytes."""
    restarts = _WORD.unpack_from(content, len(content) - 4)[0] if len(content) >= 4 else 0
    end = len(content) - 4 - 4 * restarts
    if restarts < 1 or end < 0:
        raise _lie("has a block without its end")
    found: list[tuple[bytes, bytes]] = []
    key, at, passed = b"", 0, 0
    while at < end:
        anew = passed < restarts and _WORD.unpack_from(content, end + 4 * passed)[0] == at
        passed += anew
        shared, at = varint(content, at)
        unshared, at = varint(content, at)
        size, at = varint(content, at)
        room -= shared + unshared + size
        if at + unshared + size > end or shared > len(key) or (shared and anew) or not (found or anew):
            raise _lie("has an entry that does not fit its block")
        if room < 0 or len(found) == count:
            raise Refused("the table has too many or too long entries", "no model has that many; do not load this file")
        tail = content[at : at + unshared]
        following = key[:shared] + tail
        if found and following <= key:
            raise _lie("has keys out of their order")
        key = following
        at += unshared
        found.append((key, content[at : at + size]))
        at += size
    if found and passed != restarts:
        raise _lie("has places to begin in the middle of entries")
    return found


class _Block:
    """A block as it is built; a new beginning every `interval` entries."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._content = bytearray()
        self._restarts = [0]
        self._since = 0
        self._last = b""

    @property
    def size(self) -> int:
        """Size of the content if it ended here, in bytes."""
        return len(self._content) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        """Append an entry."""
        shared = 0
        if self._since < self._interval:
            shared = sum(1 for _ in takewhile(bool, map(int.__eq__, self._last, key)))
        else:
            self._restarts.append(len(self._content))
            self._since = 0
        for number in (shared, len(key) - shared, len(value)):
            self._content += put_varint(number)
        self._content += key[shared:] + value
        self._last = key
        self._since += 1

    def content(self) -> bytes:
        """Return the block's content."""
        return bytes(self._content) + b"".join(map(_WORD.pack, (*self._restarts, len(self._restarts))))


def write(out: BinaryIO, items: Iterable[tuple[bytes, bytes]]) -> None:
    """Write a table of `items`, whose keys ascend, byte for byte as TensorFlow's table builder would; uncompressed.

    Raises ValueError where the keys do not ascend.
    """
    offset = 0

    def flush(block: _Block) -> bytes:
        nonlocal offset
        content = block.content() + b"\0"
        out.write(content + _WORD.pack(crc32c.masked(content)))
        handle = put_varint(offset) + put_varint(len(content) - 1)
        offset += len(content) + 4
        return handle

    index, block, last, pending = _Block(1), _Block(_INTERVAL), b"", b""
    begun = False
    for key, value in items:
        if begun and key <= last:
            raise ValueError("keys of a table ascend")
        if pending:
            index.add(_between(last, key), pending)
            pending = b""
        block.add(key, value)
        last, begun = key, True
        if block.size >= _BLOCK:
            pending, block = flush(block), _Block(_INTERVAL)
    if not pending and begun:
        pending = flush(block)
    metaindex = flush(_Block(_INTERVAL))
    if pending:
        index.add(_after(last), pending)
    out.write((metaindex + flush(index)).ljust(_FOOTER - 8, b"\0") + MAGIC)


def _between(last: bytes, following: bytes) -> bytes:
    """Return a short key that is at least `last` and below `following`: LevelDB's choice."""
    for at, (a, b) in enumerate(zip(last, following, strict=False)):
        if a != b:
            return last[:at] + bytes([a + 1]) if a + 1 < b else last
    return last


def _after(last: bytes) -> bytes:
    """Return a short key that is at least `last`: LevelDB's choice."""
    for at, byte in enumerate(last):
        if byte != 0xFF:
            return last[:at] + bytes([byte + 1])
    return last
