"""The checksum of a stored tensor, taken block by block: strings and variants have rules of their own."""

from __future__ import annotations

import re
from typing import Protocol

from tfstrip_core.codecs import crc32c
from tfstrip_core.codecs.wire import varint
from tfstrip_core.errors import Unreadable

STRING, VARIANT = 7, 21  # the numbers of the types whose elements differ in length

_SHORT = re.compile(rb"[\x00-\x7f]+")
_VARINT = re.compile(rb"[\x80-\xff]{0,9}[\x00-\x7f]")


class Sum(Protocol):
    """A checksum that grows."""

    def update(self, block: bytes) -> None:
        """Take the tensor's next bytes; raises Unreadable where they do not fit their own lengths."""

    def masked(self) -> int:
        """Return the masked CRC-32C that the tensor's entry should hold; raises Unreadable for a tensor cut short."""


def of(dtype: int, count: int) -> Sum:
    """Return the sum of no bytes yet, of a tensor of `count` elements of TensorFlow's type number `dtype`."""
    if dtype == STRING:
        return _Strings(count)
    return _Variants(count) if dtype == VARIANT else _Plain()


def _misfit() -> Unreadable:
    return Unreadable("a tensor of strings or variants does not fit the lengths in it", "get a good copy")


class _Plain:
    """All bytes as they are."""

    def __init__(self) -> None:
        self._crc = 0

    def update(self, block: bytes) -> None:
        """Take the next bytes."""
        self._crc = crc32c.extend(self._crc, block)

    def masked(self) -> int:
        """Return the sum."""
        return crc32c.mask(self._crc)


class _Strings:
    """Lengths as varints, a checksum of the lengths, the strings; the lengths count as words, not as varints."""

    def __init__(self, count: int) -> None:
        self._crc = 0
        self._lengths = count  # still to come
        self._strings = 0  # bytes of strings still to come
        self._rest: bytes | None = b""  # not yet taken; None once the lengths are checked

    def update(self, block: bytes) -> None:
        """Take the next bytes."""
        if self._rest is not None:
            block = self._take_lengths(self._rest + block)
        if self._rest is None:
            self._crc = crc32c.extend(self._crc, block)
            self._strings -= len(block)

    def _take_lengths(self, block: bytes) -> bytes:
        """Take lengths and their checksum as far as they are there; return what of the strings is behind them."""
        at = 0
        while self._lengths:
            if run := _SHORT.match(block, at, min(len(block), at + self._lengths)):
                words = bytearray(4 * len(run[0]))
                words[::4] = run[0]
                self._crc = crc32c.extend(self._crc, bytes(words))
                self._strings += sum(run[0])
                self._lengths -= len(run[0])
                at = run.end()
            elif _VARINT.match(block, at):
                length, at = varint(block, at)
                self._crc = crc32c.extend(self._crc, length.to_bytes(4 if length < 1 << 32 else 8, "little"))
                self._strings += length
                self._lengths -= 1
            else:
                break
        if self._lengths or len(block) - at < 4:
            self._rest = block[at:]
            if len(self._rest) > 10:
                raise _misfit()
            return b""
        lengths = crc32c.mask(self._crc).to_bytes(4, "little")
        if block[at : at + 4] != lengths:
            raise Unreadable("a tensor of strings is damaged (CRC-32C of its lengths)", "get a good copy")
        self._crc = crc32c.extend(self._crc, lengths)
        self._rest = None
        return block[at + 4 :]

    def masked(self) -> int:
        """Return the sum."""
        if self._rest is not None or self._strings:
            raise _misfit()
        return crc32c.mask(self._crc)


class _Variants:
    """Each element as its length, its bytes, and the sum so far; the lengths count as words of 64 bits."""

    def __init__(self, count: int) -> None:
        self._crc = 0
        self._elements = count  # still to come
        self._body = -1  # bytes of the present element still to come; -1 before its length
        self._rest = b""

    def update(self, block: bytes) -> None:
        """Take the next bytes."""
        block, at = self._rest + block, 0
        while self._elements:
            if self._body < 0:
                if not _VARINT.match(block, at):
                    break
                self._body, at = varint(block, at)
                self._crc = crc32c.extend(self._crc, self._body.to_bytes(8, "little"))
            body = block[at : at + self._body]
            self._crc = crc32c.extend(self._crc, body)
            self._body -= len(body)
            at += len(body)
            if self._body or len(block) - at < 4:
                break
            so_far = crc32c.mask(self._crc).to_bytes(4, "little")
            if block[at : at + 4] != so_far:
                raise Unreadable("a tensor of variants is damaged (CRC-32C of an element)", "get a good copy")
            self._crc = crc32c.extend(self._crc, so_far)
            at += 4
            self._body = -1
            self._elements -= 1
        self._rest = block[at:]
        if len(self._rest) > 10:
            raise _misfit()

    def masked(self) -> int:
        """Return the sum."""
        if self._elements or self._rest:
            raise _misfit()
        return crc32c.mask(self._crc)
