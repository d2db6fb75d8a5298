"""Several files read as if they were one: what stands in one of them may go on in the next."""

from __future__ import annotations

import bisect
import io
import os
from collections.abc import Sequence
from typing import BinaryIO

from tfstrip_core.errors import Unreadable


class Joined(io.RawIOBase):
    """The files at `paths`, one behind the other, seekable and read-only.

    One of them is open at a time: there may be more of them than a process may open.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__()
        self._paths = tuple(paths)
        self._ends: list[int] = []
        for path in paths:
            self._ends.append((self._ends[-1] if self._ends else 0) + os.stat(path).st_size)
        self._position = 0
        self._open: tuple[int, BinaryIO] | None = None

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return self._ends[-1] if self._ends else 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, in bytes."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as the file at the position reaches; return how many bytes that was."""
        number = bisect.bisect_right(self._ends, self._position)
        if number == len(self._ends):
            return 0
        begin = self._ends[number - 1] if number else 0
        file = self._file(number)
        file.seek(self._position - begin)
        view = memoryview(buffer).cast("B")[: self._ends[number] - self._position]
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise Unreadable("a file ends in the middle of its data", "get a complete copy")
        self._position += count
        return int(count)

    def _file(self, number: int) -> BinaryIO:
        if self._open and self._open[0] == number:
            return self._open[1]
        self._shut()
        self._open = number, open(self._paths[number], "rb", buffering=0)  # noqa: SIM115 (stays open for the next read)
        return self._open[1]

    def _shut(self) -> None:
        if self._open:
            self._open[1].close()
            self._open = None

    def close(self) -> None:
        """Close the file that is open."""
        self._shut()
        super().close()
