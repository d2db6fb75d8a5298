"""A stretch of a file, read as if it were a file: how a stored zip member is opened without unpacking it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO

from tfstrip_core.errors import Unreadable
from tfstrip_core.inventory import Part

BLOCK = 1 << 20


class Window(io.RawIOBase):
    """`size` bytes of `file` from `offset` on, seekable and read-only; closing it leaves `file` open.

    Python's own zip member object seeks by reading, so that HDF5's jumps about a 900 MB member cost seconds;
    a stored member's bytes lie in the archive as they are, and a window onto them costs nothing.
    """

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        super().__init__()
        self._file = file
        self._offset = offset
        self._size = size
        self._position = 0

    @property
    def stretch(self) -> tuple[BinaryIO, int, int]:
        """What the window is onto: file, offset and size in bytes."""
        return self._file, self._offset, self._size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in the window, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, in bytes; beyond the end is allowed, as in a file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as the window reaches; return how many bytes that was."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(0, self._size - self._position))
        self._file.seek(self._offset + self._position)
        done = 0
        while done < wanted:
            count = self._file.readinto(view[done:wanted])  # type: ignore[attr-defined]
            if not count:
                break
            done += count
        self._position += done
        return done


def blocks(file: BinaryIO, offset: int, size: int) -> Iterator[bytes]:
    """Yield `size` bytes of `file` from `offset` on, in blocks of at most 1 MiB.

    Raises Unreadable where the file ends before that.
    """
    end = offset + size
    while offset < end:
        file.seek(offset)
        block = file.read(min(BLOCK, end - offset))
        if not block:
            raise Unreadable("the file ends in the middle of its data", "get a complete copy")
        offset += len(block)
        yield block


def same(left: Iterator[bytes], right: Iterator[bytes]) -> bool:
    """Return whether two streams of blocks, however each is cut up, hold the same bytes."""
    a = b = b""
    while True:
        a = a or next(left, b"")
        b = b or next(right, b"")
        if not a or not b:
            return not a and not b
        if len(a) == len(b):
            if a != b:
                return False
            a = b = b""
            continue
        length = min(len(a), len(b))
        if a[:length] != b[:length]:
            return False
        a, b = a[length:], b[length:]


def file_part(path: str) -> Part:
    """Return a whole file as a comparable part, opened when it is read."""

    def read() -> Iterator[bytes]:
        with open(path, "rb", buffering=0) as file:
            yield from blocks(file, 0, os.fstat(file.fileno()).st_size)

    return Part("file", read)
