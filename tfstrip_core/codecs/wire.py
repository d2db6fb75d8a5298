"""The least of protocol buffers' wire format: varints, and a count of what a message holds before it is parsed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tfstrip_core.errors import Refused, Unreadable

_WIDTHS = {1: 8, 5: 4}  # of the wire types of fixed width, in bytes


def varint(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Return the unsigned 64-bit varint at `at` and the place behind it.

    Raises Unreadable where the data end within it or it is longer than 64 bits.
    """
    value = shift = 0
    for place in range(at, min(at + 10, len(data))):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, place + 1
        shift += 7
    raise Unreadable("a number in the file has no end", "get a good copy")


def put_varint(value: int) -> bytes:
    """Return a number from 0 to 2**64 - 1 as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each field of the message in data[start:end] and where its content lies.

    Raises Unreadable where these are the bytes of no message.
    """
    at = start
    while at < end:
        if data[at] < 0x80:
            tag, at = data[at], at + 1
        else:
            tag, at = varint(data, at)
        kind, begin = tag & 7, at
        if kind == 0:
            _, at = varint(data, at)
        elif kind == 2:
            size, begin = varint(data, at)
            at = begin + size
        elif kind in _WIDTHS:
            at += _WIDTHS[kind]
        else:
            raise Unreadable("a message in the file is damaged", "get a good copy")
        if at > end:
            raise Unreadable("a message in the file is cut off", "get a good copy")
        yield tag, begin, at


def check_count(data: bytes, tag: int, limit: int, what: str) -> None:
    """Raise Refused where a message and the messages in its fields `tag` have over `limit` fields together.

    An empty message is two bytes in a file and fifty in memory, so this comes before a parser allocates them. `tag` is
    a field's number times 8, plus 2. Raises Unreadable where `data` is no message.
    """
    count = 0
    for found, begin, end in fields(data, 0, len(data)):
        count += 1
        for _ in fields(data, begin, end) if found == tag else ():
            count += 1
            if count > limit:
                break
        if count > limit:
            raise Refused(f"{what} has over {limit:,} parts", "no model has that many; do not load this file")


def check_parts(data: bytes, descriptor: Any, limit: int, what: str) -> None:
    """Raise Refused where a message has over `limit` fields at all depths that a parser of `descriptor` unfolds.

    Raises Unreadable where `data` is no message, down to the depth that its parts are messages.
    """
    todo = [(0, len(data), descriptor)]
    count = 0
    while todo:
        start, end, kind = todo.pop()
        inner = {
            number << 3 | 2: field.message_type for number, field in kind.fields_by_number.items() if field.message_type
        }
        for tag, begin, stop in fields(data, start, end):
            count += 1
            if tag in inner:
                todo.append((begin, stop, inner[tag]))
        if count > limit:
            raise Refused(f"{what} has over {limit:,} parts", "no model has that many; do not load this file")
