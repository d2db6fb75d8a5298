"""Tables whose values are too long for memory, checkpoints of TensorFlow's first version: where each value lies.

Blocks are plain here, so that a value is a stretch of the file. Finding them reads the keys and seeks over the rest;
checksums, which are of whole blocks, are taken when every byte is read anyhow.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tfstrip_core.codecs import crc32c, sstable
from tfstrip_core.codecs.sstable import MAX_ENTRIES, MAX_TABLE, Handle, damaged, lie
from tfstrip_core.codecs.window import blocks
from tfstrip_core.codecs.wire import varint
from tfstrip_core.errors import Refused

SMALL = 4 << 20  # bytes of a first block that are read for their checksum's sake
_NUMBERS = 30  # bytes of three varints at most
_WORD = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Record:
    """An entry of a table: its key, and where in the file its value is, in bytes."""

    key: bytes
    offset: int
    size: int


def records(file: BinaryIO) -> Iterator[Record]:
    """Yield the entries of a table in ascending order of their keys' bytes; `file` is buffered.

    Takes the memory of one key. Raises Unreadable and Refused as sstable.entries does, but that damage in the blocks
    may go unnoticed, or be taken for a lie, until `check_whole`: only the index and a SMALL first block are compared
    with their checksums.
    """
    _, places = sstable.index(file)
    if places and places[0][1][1] <= SMALL:
        _check_block(file, places[0][1])
    room, count, bound = MAX_TABLE, MAX_ENTRIES, None
    for limit, handle in places:
        last = None
        for record in _walk(file, handle):
            room -= len(record.key)
            count -= 1
            if room < 0 or count < 0:
                raise Refused(
                    "the table has too many or too long entries", "no model has that many; do not load this file"
                )
            if last is None and bound is not None and record.key <= bound:
                raise lie("has an index that leads astray")
            last = record.key
            yield record
        if last is None or last > limit:
            raise lie("has an index that leads astray")
        bound = limit


def _walk(file: BinaryIO, handle: Handle) -> Iterator[Record]:
    """Yield the entries of one block."""
    offset, size = handle
    file.seek(offset + size)
    if file.read(1) != b"\0":
        raise lie("uses a compression that TensorFlow does not")
    end, restarts = _restarts(file, handle)
    key: bytes | None = None
    at = passed = 0
    while at < end:
        anew = passed < len(restarts) and restarts[passed] == at
        passed += anew
        file.seek(offset + at)
        head = file.read(min(_NUMBERS, end - at))
        shared, place = varint(head, 0)
        unshared, place = varint(head, place)
        length, place = varint(head, place)
        at += place
        if (
            at + unshared + length > end
            or shared > len(key or b"")
            or (shared and anew)
            or not (key is not None or anew)
        ):
            raise lie("has an entry that does not fit its block")
        if unshared > MAX_TABLE:
            raise Refused("the table has too long keys", "no model has such; do not load this file")
        file.seek(offset + at)
        following = (key or b"")[:shared] + file.read(unshared)
        if key is not None and following <= key:
            raise lie("has keys out of their order")
        key = following
        at += unshared
        yield Record(key, offset + at, length)
        at += length
    if passed != len(restarts):
        raise lie("has places to begin in the middle of entries")


def _restarts(file: BinaryIO, handle: Handle) -> tuple[int, tuple[int, ...]]:
    """Return the size of a block's entries in bytes, and where among them keys begin anew."""
    offset, size = handle
    file.seek(offset + max(0, size - 4))
    (count,) = _WORD.unpack(file.read(4)) if size >= 4 else (0,)
    end = size - 4 - 4 * count
    if count < 1 or end < 0 or count > MAX_ENTRIES:
        raise lie("has a block without its end")
    file.seek(offset + end)
    return end, struct.unpack(f"<{count}I", file.read(4 * count))


def check_whole(file: BinaryIO) -> None:
    """Read every block against its checksum, in constant memory; raises Unreadable where one is damaged."""
    for _, handle in sstable.index(file)[1]:
        _check_block(file, handle)


def _check_block(file: BinaryIO, handle: Handle) -> None:
    offset, size = handle
    crc = 0
    for block in blocks(file, offset, size + 1):
        crc = crc32c.extend(crc, block)
    file.seek(offset + size + 1, os.SEEK_SET)
    if file.read(4) != _WORD.pack(crc32c.mask(crc)):
        raise damaged("is damaged (CRC-32C of a block)")
