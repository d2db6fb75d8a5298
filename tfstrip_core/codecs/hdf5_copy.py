"""HDF5: a new file with less in it. What stays is copied as raw storage, never decoded.

Deleting from a file leaves its bytes there; only a file written afresh is free of them.
"""

from __future__ import annotations

from collections.abc import Callable
from io import FileIO
from typing import Any

from h5py import h5a, h5f, h5g, h5o, h5p

from tfstrip_core.codecs.hdf5 import (
    Tree,
    attribute_names,
    attribute_value,
    check_attributes,
    memory_type,
    open_object,
)
from tfstrip_core.codecs.hdf5_open import damage, through
from tfstrip_core.errors import Refused

MAX_USERBLOCK = 1 << 20
_METADATA = 256 << 10


def copy(
    source: h5f.FileID,
    tree: Tree,
    target: str,
    *,
    drop: Callable[[str], bool],
    drop_attributes: frozenset[str] = frozenset(),
) -> None:
    """Write to the new file `target` what `tree` lists of `source`, without the objects that `drop(path)` names.

    Objects and links keep their order, attributes their stored types, datasets their layout and filters.
    `drop_attributes` are the root's.
    """
    made = source.get_create_plist()
    create = h5p.create(h5p.FILE_CREATE)
    create.set_link_creation_order(made.get_link_creation_order())
    create.set_attr_creation_order(made.get_attr_creation_order())
    if made.get_userblock() > MAX_USERBLOCK:
        raise Refused(f"the HDF5 file begins with {made.get_userblock():,} bytes of user block", "save it again")
    create.set_userblock(made.get_userblock())
    for name in (*tree.groups, *tree.datasets):
        if not drop(name):
            check_attributes(open_object(source, name))
    dropped = [name for name in (*tree.groups, *tree.datasets) if drop(name)]
    opened = {name.rpartition("/")[0] for name in dropped}
    opened |= {"/".join(parent.split("/")[:depth]) for parent in opened for depth in range(parent.count("/") + 1)}
    # HDF5 2.0 would write a newer layout than 1.14, with the time of day in every group: neither is reproducible.
    create.set_obj_track_times(False)

    def make(access: Any) -> h5f.FileID:
        access.set_libver_bounds(h5f.LIBVER_EARLIEST, h5f.LIBVER_LATEST)
        return h5f.create(b"result", h5f.ACC_TRUNC, fcpl=create, fapl=access)

    with open(target, "xb+", buffering=0) as file:
        sink = _Sink(file)
        out = through(sink, make)
        try:
            with damage():
                here = h5g.open(source, b"/")
                _copy_attributes(here, h5g.open(out, b"/"), drop_attributes)
                _copy_group(here, h5g.open(out, b"/"), "", frozenset(dropped), frozenset(opened) - {""})
        finally:
            out.close()
        if sink.error:
            raise sink.error


class _Sink:
    """A file that takes every write and keeps the first error, for the caller to raise after HDF5 has closed it.

    HDF5 cannot close a file that refuses its writes, and would try again when the process ends, and die. From the
    first error on, what HDF5 may read back (its metadata, in small writes) is kept in memory, and the rest dropped.
    """

    def __init__(self, file: FileIO) -> None:
        self.error: OSError | None = None
        self._file = file
        self._place = self._size = 0
        self._kept: list[tuple[int, bytes]] = []

    def write(self, data: memoryview) -> int:
        """Write all of `data`, or pretend to."""
        self._try(self._write_all, memoryview(data))
        if self.error and len(data) <= _METADATA:
            self._kept.append((self._place, bytes(data)))
        self._place += len(data)
        self._size = max(self._size, self._place)
        return len(data)

    def _write_all(self, rest: memoryview) -> None:
        self._file.seek(self._place)
        while rest:
            rest = rest[self._file.write(rest) :]

    def truncate(self, size: int) -> int:
        """Set the file's size in bytes, or pretend to."""
        self._try(self._file.truncate, size)
        self._size = size
        return size

    def _try(self, work: Callable[[Any], object], value: object) -> None:
        try:
            if not self.error:
                work(value)
        except OSError as error:
            self.error = error

    def seek(self, place: int, whence: int = 0) -> int:
        """Move to a position, in bytes."""
        self._place = place + (0, self._place, self._size)[whence]
        return self._place

    def tell(self) -> int:
        """Return the position, in bytes."""
        return self._place

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer with what was written; return its size."""
        self._file.seek(self._place)
        view = memoryview(buffer).cast("B")
        done = self._file.readinto(view) or 0
        view[done:] = bytes(len(view) - done)
        for place, data in self._kept:
            start, end = max(place, self._place), min(place + len(data), self._place + len(view))
            if start < end:
                view[start - self._place : end - self._place] = data[start - place : end - place]
        self._place += len(view)
        return len(view)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""


def _copy_group(
    source: h5g.GroupID, target: h5g.GroupID, path: str, dropped: frozenset[str], opened: frozenset[str]
) -> None:
    """Copy the children: whole where nothing below goes, one level at a time where something does."""
    for raw in list(source):
        name = f"{path}/{raw.decode()}" if path else raw.decode()
        if name in dropped:
            continue
        if name in opened:
            child = h5g.open(source, raw)
            like = child.get_create_plist()
            like.set_obj_track_times(False)
            made = h5g.create(target, raw, gcpl=like)
            _copy_attributes(child, made, frozenset())
            _copy_group(child, made, name, dropped, opened)
        else:
            h5o.copy(source, raw, target, raw)


def _copy_attributes(source: h5g.GroupID, target: h5g.GroupID, dropped: frozenset[str]) -> None:
    for name in attribute_names(source):
        if name in dropped:
            continue
        opened = h5a.open(source, name.encode())
        value = attribute_value(opened, name)
        made = h5a.create(target, name.encode(), opened.get_type(), opened.get_space())
        if value is not None:
            made.write(value, mtype=memory_type(opened))
