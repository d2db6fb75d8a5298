"""HDF5: a new file with less in it. What stays is copied as raw storage, never decoded.

Deleting from a file leaves its bytes there; only a file written afresh is free of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5o, h5p, h5s

from tfstrip_core.codecs.hdf5 import Dataset, Tree, attribute_names, damage, memory_type
from tfstrip_core.codecs.window import BLOCK
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
    out = h5f.create(target.encode("utf-8", "surrogateescape"), h5f.ACC_EXCL, fcpl=create, fapl=access)
    try:
        with damage():
            here = h5g.open(source, b"/")
            _copy_attributes(here, h5g.open(out, b"/"), drop_attributes)
            _copy_group(here, h5g.open(out, b"/"), "", frozenset(dropped), frozenset(opened) - {""})
    finally:
        out.close()


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
        kind = opened.get_type()
        made = h5a.create(target, name.encode(), kind, opened.get_space())
        if opened.get_space().get_simple_extent_type() != h5s.NULL:
            value = np.empty(opened.shape, opened.dtype)
            opened.read(value, mtype=memory_type(opened))
            made.write(value, mtype=memory_type(opened))


def read_blocks(item: h5d.DatasetID, dataset: Dataset) -> Iterator[bytes]:
    """Yield a dataset's bytes, in the file's own type and byte order, in blocks of about 1 MiB.

    For what is not one plain stretch of the file: chunks, filters, compact storage, values never written.
    """
    kind = item.get_type()
    element = kind.get_size()
    if not dataset.bytes:
        return
    space = item.get_space()
    if not dataset.shape:
        value = np.empty((), f"V{element}")
        with damage():
            item.read(h5s.ALL, h5s.ALL, value, kind)
        yield value.tobytes()
        return
    for start, count in _slabs(dataset.shape, max(1, BLOCK // element)):
        space.select_hyperslab(start, count)
        value = np.empty(count, f"V{element}")
        with damage():
            item.read(h5s.create_simple(count), space, value, kind)
        yield value.tobytes()


def _slabs(shape: tuple[int, ...], most: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Cut `shape` into C-ordered blocks (start, count) of at most `most` elements."""
    inner = 1
    axis = len(shape)
    while axis > 0 and inner * shape[axis - 1] <= most:
        axis -= 1
        inner *= shape[axis]
    if axis == 0:
        yield (0,) * len(shape), shape
        return
    step = max(1, most // inner)
    for outer in np.ndindex(*shape[: axis - 1]):
        for start in range(0, shape[axis - 1], step):
            count = min(step, shape[axis - 1] - start)
            yield (*outer, start, *(0,) * (len(shape) - axis)), (*(1,) * (axis - 1), count, *shape[axis:])
