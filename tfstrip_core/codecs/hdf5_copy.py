"""HDF5: a new file with less in it. What stays is copied as raw storage, never decoded.

Deleting from a file leaves its bytes there; only a file written afresh is free of them.
"""

from __future__ import annotations

from collections.abc import Callable
from io import FileIO

from h5py import h5a, h5f, h5fd, h5g, h5o, h5p

from tfstrip_core.codecs.hdf5 import Tree, attribute_names, attribute_value, damage, memory_type
from tfstrip_core.errors import Refused

MAX_USERBLOCK = 1 << 20


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
    dropped = [name for name in (*tree.groups, *tree.datasets) if drop(name)]
    opened = {name.rpartition("/")[0] for name in dropped}
    opened |= {"/".join(parent.split("/")[:depth]) for parent in opened for depth in range(parent.count("/") + 1)}
    # HDF5 2.0 would write a newer layout than 1.14, with the time of day in every group: neither is reproducible.
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(h5f.LIBVER_EARLIEST, h5f.LIBVER_LATEST)
    create.set_obj_track_times(False)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    with open(target, "xb+", buffering=0) as file:
        sink = _Sink(file)
        access.set_fileobj_driver(h5fd.fileobj_driver, sink)
        out = h5f.create(b"result", h5f.ACC_TRUNC, fcpl=create, fapl=access)
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
    """A file that takes every write and keeps its first error: HDF5 cannot close a file that refuses its writes."""

    def __init__(self, file: FileIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: memoryview) -> int:
        """Write all of `data`, unless a write has failed before."""
        rest = memoryview(data)
        try:
            while rest and not self.error:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size: int) -> int:
        """Set the file's size in bytes."""
        try:
            self.file.truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size

    def seek(self, place: int, whence: int = 0) -> int:
        """Move to a position, in bytes."""
        return self.file.seek(place, whence)

    def tell(self) -> int:
        """Return the position, in bytes."""
        return self.file.tell()

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer from the file; return how many bytes that was."""
        return self.file.readinto(buffer)

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
