"""HDF5: opening files that nobody trusts, and listing what is in them without reading a tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5l, h5o, h5s, h5t

from tfstrip_core.codecs.hdf5_open import damage
from tfstrip_core.codecs.window import BLOCK
from tfstrip_core.errors import Refused, TfstripError

MAX_OBJECTS = 1_000_000
MAX_DEPTH = 100
MAX_RATIO = 100
# A declared shape may exceed what is stored (fill values, filters) as far as it likes below this many bytes.
FREE_EXPANSION = 64 << 20
MAX_ATTRIBUTE = 256 << 20

_NOT_KERAS = "no framework writes that into a model; do not load this file"


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset: `bytes` as declared by dtype and shape, `stored` as lie in the file.

    `offset` is where its bytes begin in the HDF5 file, or None where they are not one plain stretch of it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    stored: int
    offset: int | None


@dataclass(frozen=True, slots=True)
class Tree:
    """All objects of a file by path (no leading slash), in the file's own order of names. The root is ""."""

    datasets: dict[str, Dataset]
    groups: frozenset[str]


def names(fid: h5f.FileID) -> list[str]:
    """Return the names of all links of the file, whatever they lead to, up to a million; nothing is judged."""
    found: list[str] = []

    def visit(raw: bytes) -> bool | None:
        """Note one name; anything but None ends the visit."""
        found.append(raw.decode("utf-8", "surrogateescape"))
        return True if len(found) >= MAX_OBJECTS else None

    with damage():
        root = h5g.open(fid, b"/")
        root.links.visit(visit)
    return found


def scan(fid: h5f.FileID) -> Tree:
    """List every group and dataset of the file, reading metadata only.

    Raises Refused for what no framework writes and a loader could be hurt by: soft and external links, two
    names for one object, external storage, virtual datasets, elements that are references or of variable
    length, names with control characters, shapes far beyond what is stored, nesting beyond 100 levels.
    """
    with damage():
        root = h5g.open(fid, b"/")
        names = _names(root)
        datasets: dict[str, Dataset] = {}
        groups = {name.rpartition("/")[0] for _, name in names} | {""}
        types: list[tuple[h5t.TypeID, str]] = []
        for raw, name in names:
            if name in groups:
                continue
            item = h5o.open(root, raw)
            if isinstance(item, h5d.DatasetID):
                datasets[name] = _dataset(name, item, types)
            elif isinstance(item, h5g.GroupID):
                groups.add(name)
            else:
                raise Refused(f"the HDF5 file holds a named datatype, {name!r}", _NOT_KERAS)
    _check_expansion(datasets.values())
    return Tree(datasets, frozenset(groups))


def _names(root: h5g.GroupID) -> list[tuple[bytes, str]]:
    found: list[tuple[bytes, str]] = []
    addresses = {h5o.get_info(root).addr}

    def visit(raw: bytes, link: Any) -> TfstripError | None:
        """Return what is wrong with a link, which ends the visit; an exception may not leave HDF5's callback."""
        name = raw.decode("utf-8", "surrogateescape")
        wrong = _wrong_link(name, link, link.u in addresses)
        if wrong is None and len(found) >= MAX_OBJECTS:
            wrong = f"more than {MAX_OBJECTS:,} objects"
        if wrong is not None:
            return Refused(f"the HDF5 file holds {wrong}", _NOT_KERAS)
        addresses.add(link.u)
        found.append((raw, name))
        return None

    error = root.links.visit(visit, info=True)
    if error is not None:
        raise error
    return found


def _wrong_link(name: str, link: Any, known: bool) -> str | None:
    if link.type != h5l.TYPE_HARD:
        kind = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "an external link"}.get(link.type, "a link")
        return f"{kind}, {name!r}"
    if known:
        return f"two names for one object, {name!r}"
    if not name.isprintable():  # nor is what was no UTF-8
        return f"the name {name!r}"
    return f"groups nested deeper than {MAX_DEPTH}" if name.count("/") > MAX_DEPTH else None


def _dataset(name: str, item: h5d.DatasetID, types: list[tuple[h5t.TypeID, str]]) -> Dataset:
    space = item.get_space()
    if space.get_simple_extent_type() == h5s.NULL:
        raise Refused(f"the HDF5 dataset {name!r} has no extent", _NOT_KERAS)
    shape = tuple(int(length) for length in space.get_simple_extent_dims())
    kind = item.get_type()
    dtype = next((known for other, known in types if other.equal(kind)), "")
    if not dtype:
        dtype = _dtype(name, kind)
        types.append((kind, dtype))
    size = kind.get_size() * math.prod(shape)
    stored, offset = int(item.get_storage_size()), item.get_offset()
    if offset is None or stored != size:
        offset = None
        _check_layout(name, item.get_create_plist(), kind.get_size(), stored)
    if dtype[0] == "|" and h5a.exists(item, b"dtype"):
        declared = attribute(item, "dtype")
        dtype = declared if isinstance(declared, str) and declared.isprintable() and len(declared) < 64 else dtype
    return Dataset(name, dtype, shape, size, stored, offset)


def _dtype(name: str, kind: h5t.TypeID) -> str:
    dtype = kind.dtype
    if dtype.hasobject:
        raise Refused(f"the HDF5 dataset {name!r} holds objects of variable length or references", _NOT_KERAS)
    return str(dtype.name if dtype.kind in "iufbc" else dtype.str)


def _check_layout(name: str, plist: Any, element: int, stored: int) -> None:
    if plist.get_layout() == h5d.VIRTUAL:
        raise Refused(f"the HDF5 dataset {name!r} is virtual: its data lie elsewhere", _NOT_KERAS)
    if plist.get_external_count():
        raise Refused(f"the HDF5 dataset {name!r} keeps its data in another file", _NOT_KERAS)
    if plist.get_layout() == h5d.CHUNKED:
        chunk = element * math.prod(plist.get_chunk())
        if chunk > FREE_EXPANSION and chunk > MAX_RATIO * stored:
            raise Refused(f"the HDF5 dataset {name!r} has chunks of {chunk:,} bytes", "do not load this file")


def _check_expansion(datasets: Any) -> None:
    declared = stored = 0
    for dataset in datasets:
        declared += dataset.bytes
        stored += dataset.stored
        if dataset.bytes > FREE_EXPANSION and dataset.bytes > MAX_RATIO * dataset.stored:
            raise Refused(
                f"the HDF5 dataset {dataset.name!r} declares {dataset.bytes:,} bytes and stores {dataset.stored:,}",
                "do not load this file",
            )
    if declared > FREE_EXPANSION and declared > MAX_RATIO * stored:
        raise Refused(f"the HDF5 file declares {declared:,} bytes and stores {stored:,}", "do not load this file")


def attribute(item: Any, name: str) -> Any:
    """Return the value of one attribute: str, list of str, a number or an array; None where it is absent.

    Raises Refused for an attribute of more than 256 MiB, and for one that holds references.
    """
    with damage():
        raw = name.encode()
        if not h5a.exists(item, raw):
            return None
        opened = h5a.open(item, raw)
        value = attribute_value(opened, name)
        if isinstance(value, np.ndarray) and value.dtype.kind in "OS":
            texts = [_text(element) for element in value.ravel()]
            return texts[0] if value.ndim == 0 else texts
        return value


def check_attributes(item: Any) -> None:
    """Raise Refused for attributes that HDF5 must not copy: it crashes on the types that some claim to have."""
    for name in attribute_names(item):
        with damage():
            _check_type(h5a.open(item, name.encode()), name)


def _check_type(opened: h5a.AttrID, name: str) -> None:
    if opened.dtype.hasobject and not _is_text(opened.get_type()):
        raise Refused(f"the HDF5 attribute {name!r} holds references or sequences of variable length", _NOT_KERAS)


def attribute_value(opened: h5a.AttrID, name: str) -> np.ndarray[Any, Any] | None:
    """Return an open attribute's value, None for one without extent; raises Refused as attribute does."""
    _check_type(opened, name)
    if opened.get_space().get_simple_extent_type() == h5s.NULL:
        return None
    size = math.prod(opened.shape) * opened.get_type().get_size()
    if size > MAX_ATTRIBUTE:
        raise Refused(f"the HDF5 attribute {name!r} is {size:,} bytes", _NOT_KERAS)
    value = np.empty(opened.shape, opened.dtype)
    opened.read(value, mtype=memory_type(opened))
    return value


def memory_type(opened: h5a.AttrID) -> h5t.TypeID | None:
    """Return the type to read and write an attribute with: its own, but for texts, which Python must own."""
    kind = opened.get_type()
    return None if _is_text(kind) else kind


def _is_text(kind: h5t.TypeID) -> bool:
    return isinstance(kind, h5t.TypeStringID) and bool(kind.is_variable_str())


def _text(element: Any) -> str:
    return element.decode("utf-8") if isinstance(element, bytes) else str(element)


def attribute_names(item: Any) -> list[str]:
    """Return the names of an object's attributes, sorted."""
    names: list[bytes] = []
    with damage():
        h5a.iterate(item, names.append)  # which returns None, and so goes on; nothing may be raised in there
        return sorted(raw.decode("utf-8") for raw in names)


def attribute_bytes(item: Any, name: str) -> tuple[str, bytes]:
    """Return what describes an attribute's type and shape, and its content as bytes, for comparing."""
    with damage():
        opened = h5a.open(item, name.encode())
        value = attribute_value(opened, name)
        kind = f"{opened.dtype.str} {_string_kind(opened)} {opened.shape if value is not None else 'null'}"
        if value is None:
            return kind, b""
        if value.dtype.hasobject:
            texts = (_text(element).encode("utf-8", "surrogateescape") for element in value.ravel())
            return kind, b"".join(b"%d:%s" % (len(text), text) for text in texts)
        return kind, value.tobytes()


def _string_kind(opened: h5a.AttrID) -> str:
    """Return what numpy's dtype leaves out of an HDF5 string type: its character set and variable length."""
    kind = opened.get_type()
    if not isinstance(kind, h5t.TypeStringID):
        return ""
    return f"{'utf-8' if kind.get_cset() == h5t.CSET_UTF8 else 'ascii'}{'*' if _is_text(kind) else ''}"


def open_object(fid: h5f.FileID, name: str) -> Any:
    """Open a group or dataset by its path; "" is the root."""
    with damage():
        return h5o.open(fid, name.encode() or b"/")


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


def userblock(fid: h5f.FileID) -> int:
    """Return how many bytes of the user's own stand before the HDF5 data."""
    with damage():
        return int(fid.get_create_plist().get_userblock())


def overhead(fid: h5f.FileID, tree: Tree) -> int:
    """Return about how many bytes of the file describe its objects: headers, indexes, heaps, attribute texts."""
    total = 4096
    with damage():
        for name in (*tree.groups, *tree.datasets):
            item = open_object(fid, name)
            info = h5o.get_info(item)
            sizes = info.meta_size
            total += info.hdr.space.total + sizes.obj.index_size + sizes.obj.heap_size
            total += sizes.attr.index_size + sizes.attr.heap_size
            for attribute_name in attribute_names(item):
                value = attribute(item, attribute_name)
                texts = value if isinstance(value, list) else [value] if isinstance(value, str) else []
                # A text of variable length lies in the global heap, behind 16 bytes of its own, rounded up to 8.
                total += sum(len(text.encode()) + 24 for text in texts)
    return total
