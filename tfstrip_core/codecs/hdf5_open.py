"""HDF5 files that nobody trusts: opened through a reader that knows what makes the library hang or crash."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from h5py import h5f, h5fd, h5p

from tfstrip_core.codecs.window import Window
from tfstrip_core.errors import Refused, TfstripError, Unreadable

MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_HEAP = 256 << 20

_NOT_KERAS = "no framework writes that into a model; do not load this file"


@contextmanager
def damage() -> Iterator[None]:
    """Turn whatever h5py raises over a broken structure into one sentence."""
    try:
        yield
    except (TfstripError, KeyboardInterrupt, GeneratorExit):
        raise
    except RecursionError:
        raise Refused("the HDF5 groups are nested beyond reason", _NOT_KERAS) from None
    except MemoryError:
        raise Refused("the HDF5 structure asks for more memory than there is", _NOT_KERAS) from None
    except UnicodeError:
        raise Refused("the HDF5 file holds a name that is not UTF-8", _NOT_KERAS) from None
    # What h5py makes of HDF5's complaints; an AttributeError, say, would be a bug of ours.
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        cause = " ".join(str(error).split())
        number = re.search(r"file write failed.* errno = (\d+)", cause)
        if number:
            raise OSError(int(number.group(1)), os.strerror(int(number.group(1)))) from None
        raise Unreadable(f"the HDF5 data are damaged or cut off ({cause})", "get a complete copy") from None


class _Guard(Window):
    """What HDF5 reads through: it blanks a global heap that HDF5 would go round in for ever."""

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer; a heap in it whose free space has no size is filled with zeros, which HDF5 refuses."""
        place = self.tell()
        done = super().readinto(buffer)
        view = memoryview(buffer).cast("B")
        if bytes(view[:5]) == b"GCOL\x01" and self._is_endless(place):
            view[:] = bytes(len(view))
        return done

    def _is_endless(self, place: int) -> bool:
        after = self.tell()
        self.seek(place + 8)
        (size,) = struct.unpack("<Q", self.read(8).ljust(8, b"\0"))
        heap = self.read(min(size, MAX_HEAP) - 16) if size > 16 else b""
        self.seek(after)
        at = 0
        while at + 16 <= len(heap):
            index, _, _, length = struct.unpack_from("<HHIQ", heap, at)
            step = 16 + (length + 7) // 8 * 8 if index else length
            if not 16 <= step <= len(heap) - at:  # HDF5 adds in 64 bits: a size beyond the heap leads back
                return True
            at += step
        return False


def through(file: Any, act: Callable[[Any], h5f.FileID]) -> h5f.FileID:
    """Return what `act` opens or creates with an access list that leads HDF5 through the Python object `file`.

    The list must be gone when we return, also from the frames of an exception: HDF5 would free it after Python has
    ended, and the process die.
    """
    access = h5p.create(h5p.FILE_ACCESS)
    try:
        access.set_fclose_degree(h5f.CLOSE_STRONG)
        access.set_fileobj_driver(h5fd.fileobj_driver, file)
        return act(access)
    finally:
        del access


@contextmanager
def open_file(file: BinaryIO | Window) -> Iterator[h5f.FileID]:
    """Open the HDF5 file that `file` is, or that a window onto an archive shows, read-only.

    Raises Unreadable where the bytes are no whole HDF5 file.
    """
    stretch = file.stretch if isinstance(file, Window) else (file, 0, file.seek(0, os.SEEK_END))
    with _Guard(*stretch) as window:
        with damage():
            fid = through(window, lambda access: h5f.open(b"window", h5f.ACC_RDONLY, access))
        try:
            yield fid
        finally:
            fid.close()  # before the window: HDF5 would read from a closed one, and the process die
