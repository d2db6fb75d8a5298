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
_OVERLY = 2  # entries of so many blocks' bytes begin a block
_INTERVAL = 16
_WORD = struct.Struct("<I")

Handle = tuple[int, int]  # offset and size of a block's content, in bytes


def damaged(what: str) -> Unreadable:
    """Return the error for a table with bytes that were not written so."""
    return Unreadable(f"the table {what}", "get a good copy")


def lie(what: str) -> Refused:
    """Return the error for a table that was made to deceive."""
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
    snappy, places = index(file, MAX_SNAPPY)
    room, count, bound = MAX_TABLE, MAX_ENTRIES, None
    for limit, handle in places:
        packed, content = _content(file, handle, snappy)
        snappy -= packed
        found = _entries(content, room, count)
        if not found or found[-1][0] > limit or (bound is not None and found[0][0] <= bound):
            raise lie("has an index that leads astray")
        room -= sum(len(key) + len(value) for key, value in found)
        count -= len(found)
        bound = limit
        yield from found


def index(file: BinaryIO, snappy: int = 0) -> tuple[int, list[tuple[bytes, Handle]]]:
    """Return how many bytes may still be unpacked, of `snappy`, and the blocks in order: key that none exceeds, place.

    The file may be larger than MAX_TABLE, its index may not.
    """
    length = file.seek(0, os.SEEK_END)
    metaindex, index = _footer(file, length)
    first, second = sorted((metaindex, index))
    if _end(first) > second[0] or _end(second) > length - _FOOTER:
        raise damaged("has an index outside its place")  # no checksum covers the footer
    if max(metaindex[1], index[1]) > MAX_TABLE:
        raise Refused(f"the table has an index of {index[1]:,} bytes", "no model needs that; do not load this file")
    snappy -= _content(file, metaindex, snappy)[0]
    packed, content = _content(file, index, snappy)
    places: list[tuple[bytes, Handle]] = []
    end = 0
    for limit, value in _entries(content, MAX_TABLE, MAX_ENTRIES):
        handle, rest = _handle(value, 0)
        if rest != len(value) or handle[0] < end or _end(handle) > first[0]:
            raise lie("has blocks out of their order")
        end = _end(handle)
        places.append((limit, handle))
    return snappy - packed, places


def _end(handle: Handle) -> int:
    return handle[0] + handle[1] + _TRAILER


def _footer(file: BinaryIO, length: int) -> tuple[Handle, Handle]:
    file.seek(max(0, length - _FOOTER))
    footer = file.read(_FOOTER)
    if len(footer) < _FOOTER or footer[-8:] != MAGIC:
        raise damaged("has no end: it was cut off, or is no table")
    metaindex, at = _handle(footer[:-8], 0)
    index, _ = _handle(footer[:-8], at)
    if footer != b"".join(map(put_varint, (*metaindex, *index))).ljust(_FOOTER - 8, b"\0") + MAGIC:
        raise damaged("has a damaged end")
    if max(_end(metaindex), _end(index)) > length:
        raise damaged("promises more bytes than the file has")
    return metaindex, index


def _handle(data: bytes, at: int) -> tuple[Handle, int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _content(file: BinaryIO, handle: Handle, room: int) -> tuple[int, bytes]:
    """Return how many bytes were unpacked (0 for a plain block) and the block's content."""
    offset, size = handle
    file.seek(offset)
    stored = file.read(size + _TRAILER)
    if len(stored) < size + _TRAILER:
        raise damaged("ends in the middle of a block")
    (crc,) = _WORD.unpack_from(stored, size + 1)
    if crc32c.masked(stored[: size + 1]) != crc:
        raise damaged("is damaged (CRC-32C of a block)")
    if stored[size] == 0:
        return 0, stored[:size]
    if stored[size] != 1:
        raise lie("uses a compression that TensorFlow does not")
    content = _unsnap(stored[:size], room)
    return len(content), content


def _unsnap(data: bytes, room: int) -> bytes:
    """Unpack raw Snappy, at most `room` bytes."""
    total, at = varint(data, 0)
    if total > room:
        raise lie("expands beyond measure")
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
                raise lie("has a compressed block that points outside itself")
            piece = out[len(out) - back : len(out) - back + size]
            out += (piece * (size // back + 1))[:size]
        if at > len(data) or len(out) > total:
            break
    if at != len(data) or len(out) != total:
        raise lie("has a compressed block of another length than it says")
    return bytes(out)


def _entries(content: bytes, room: int, count: int) -> list[tuple[bytes, bytes]]:
    """Return a block's entries: at most `count`, keys and values together at most `room` bytes."""
    restarts = _WORD.unpack_from(content, len(content) - 4)[0] if len(content) >= 4 else 0
    end = len(content) - 4 - 4 * restarts
    if restarts < 1 or end < 0:
        raise lie("has a block without its end")
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
            raise lie("has an entry that does not fit its block")
        if room < 0 or len(found) == count:
            raise Refused("the table has too many or too long entries", "no model has that many; do not load this file")
        tail = content[at : at + unshared]
        following = key[:shared] + tail
        if found and following <= key:
            raise lie("has keys out of their order")
        key = following
        at += unshared
        found.append((key, content[at : at + size]))
        at += size
    if found and passed != restarts:
        raise lie("has places to begin in the middle of entries")
    return found


class _Block:
    """A block as it is built; a new beginning every `interval` entries. With `out` its bytes leave as they come."""

    def __init__(self, interval: int, out: BinaryIO | None = None) -> None:
        self._interval = interval
        self._out = out
        self._gone = 0  # bytes written already
        self._crc = 0  # of those
        self._content = bytearray()
        self._restarts = [0]
        self._since = 0
        self._last = b""

    @property
    def size(self) -> int:
        """Size of the content if it ended here, in bytes."""
        return self._gone + len(self._content) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, size: int, value: Iterable[bytes]) -> None:
        """Append an entry, whose value of `size` bytes comes in pieces."""
        shared = 0
        if self._since < self._interval:
            shared = sum(1 for _ in takewhile(bool, map(int.__eq__, self._last, key)))
        else:
            self._restarts.append(self._gone + len(self._content))
            self._since = 0
        for number in (shared, len(key) - shared, size):
            self._content += put_varint(number)
        self._content += key[shared:]
        for piece in value:
            self._content += piece
            size -= len(piece)
            if self._out is not None and len(self._content) >= _BLOCK:
                self._leave(self._out)
        if size:
            raise ValueError("a value of a table has the length that it is said to have")
        self._last = key
        self._since += 1

    def _leave(self, out: BinaryIO) -> None:
        self._crc = crc32c.extend(self._crc, bytes(self._content))
        self._gone += len(self._content)
        out.write(self._content)
        self._content.clear()

    def close(self, out: BinaryIO) -> int:
        """Write what is left of the block with its end and its checksum; return the content's size in bytes."""
        self._content += b"".join(map(_WORD.pack, (*self._restarts, len(self._restarts)))) + b"\0"
        self._leave(out)
        out.write(_WORD.pack(crc32c.mask(self._crc)))
        return self._gone - 1


def write(out: BinaryIO, items: Iterable[tuple[bytes, bytes]]) -> None:
    """Write a table of `items`, whose keys ascend, byte for byte as TensorFlow's table builder would; uncompressed.

    Raises ValueError where the keys do not ascend.
    """
    write_long(out, ((key, len(value), (value,)) for key, value in items))


def write_long(out: BinaryIO, items: Iterable[tuple[bytes, int, Iterable[bytes]]]) -> None:
    """Write a table as `write` does, of values of any length: each item is a key, a size in bytes, pieces of a value.

    Takes the memory of one piece and a little more. Raises ValueError where the pieces are not of the size.
    """
    offset = 0

    def flush(block: _Block) -> bytes:
        nonlocal offset
        begin, size = offset, block.close(out)
        offset += size + _TRAILER
        return put_varint(begin) + put_varint(size)

    index, block, last, pending = _Block(1), _Block(_INTERVAL, out), b"", b""
    begun = False
    for key, size, value in items:
        if begun and key <= last:
            raise ValueError("keys of a table ascend")
        if begun and not pending and len(key) + size >= _OVERLY * _BLOCK:
            pending, block = flush(block), _Block(_INTERVAL, out)
        if pending:
            index.add(_between(last, key), len(pending), (pending,))
            pending = b""
        block.add(key, size, value)
        last, begun = key, True
        if block.size >= _BLOCK:
            pending, block = flush(block), _Block(_INTERVAL, out)
    if not pending and begun:
        pending = flush(block)
    metaindex = flush(_Block(_INTERVAL))
    if pending:
        index.add(_after(last), len(pending), (pending,))
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
