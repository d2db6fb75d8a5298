"""A git repository's objects, read from its files: what a commit held, and how large that was, without git.

The images hold no git. Read are loose objects and packs with their indexes (version 2), of SHA-1 or SHA-256, and
nothing that is not there is fetched.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MOST_BYTES = 256 << 20  # of an object that is read as a whole
_MOST_ENTRIES = 1 << 20
_LONGEST_CHAIN = 10_000
_KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
_BY_OFFSET, _BY_NAME = 6, 7
_HEAD = 4096  # compressed bytes that surely hold the first 64: a table of codes may come before them


class Absent(Exception):
    """The object is not here: the clone is shallow or partial."""


@dataclass(frozen=True, slots=True)
class _Pack:
    index: mmap.mmap
    data: mmap.mmap


class Store:
    """The objects of one repository; every method raises Absent, and ValueError or OSError for what is damaged."""

    def __init__(self, folder: str) -> None:
        """Take the git directory of a repository, such as `.git`."""
        self._folder = os.path.join(folder, "objects")
        self._head = os.path.join(folder, "HEAD")
        self._refs = folder
        self._packs: list[_Pack] | None = None

    def head(self) -> str:
        """Return the name of the commit that is checked out."""
        said = _line(self._head)
        if not said.startswith("ref: "):
            return said
        ref = said[5:].strip()
        if not ref.startswith("refs/") or ".." in ref:
            raise ValueError(ref)
        if os.path.isfile(os.path.join(self._refs, ref)):
            return _line(os.path.join(self._refs, ref))
        with open(os.path.join(self._refs, "packed-refs"), encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                name, _, packed = line.strip().partition(" ")
                if packed == ref:
                    return name
        raise Absent(ref)

    def commit(self, name: str) -> tuple[str, list[str]]:
        """Return the tree and the parents of a commit."""
        kind, content = self.read(name)
        if kind != "commit":
            raise ValueError(f"{name} is a {kind}")
        heads = [line.split(b" ") for line in content.partition(b"\n\n")[0].split(b"\n")]
        trees, parents = ([words[1].decode() for words in heads if words[0] == key] for key in (b"tree", b"parent"))
        return trees[0], parents

    def changes(self, old: str, new: str) -> dict[str, tuple[str, str]]:
        """Return what differs between two trees: the files' paths, with their blobs' names, "" where there is none.

        Symlinks and submodules are no files here.
        """
        found: dict[str, tuple[str, str]] = {}
        todo = [("", old, new)]
        while todo:
            folder, *trees = todo.pop()
            left, right = (self._tree(tree) if tree else {} for tree in trees)
            for name in left.keys() | right.keys():
                (was_tree, was), (is_tree, now) = left.get(name, (False, "")), right.get(name, (False, ""))
                if was == now:
                    continue
                path = os.path.join(folder, os.fsdecode(name))
                if was_tree or is_tree:
                    todo.append((path, was * was_tree, now * is_tree))
                blobs = (was * (not was_tree), now * (not is_tree))
                if any(blobs):
                    found[path] = blobs
            if len(found) + len(todo) > _MOST_ENTRIES:
                raise ValueError("more changes than can be told")
        return found

    def _tree(self, name: str) -> dict[bytes, tuple[bool, str]]:
        """Return a tree's folders (True) and files by name, without what no work tree can hold."""
        kind, content = self.read(name)
        if kind != "tree":
            raise ValueError(f"{name} is a {kind}")
        entries: dict[bytes, tuple[bool, str]] = {}
        at, length = 0, len(name) // 2
        while at < len(content):
            end = content.index(b"\0", at)
            mode, _, entry = content[at:end].partition(b" ")
            at = end + 1 + length
            if mode in (b"40000", b"100644", b"100755") and entry not in (b"", b".", b"..") and b"/" not in entry:
                entries[entry] = (mode == b"40000", content[end + 1 : at].hex())
        return entries

    def size(self, name: str) -> int:
        """Return the bytes of an object, by its head alone."""
        loose = self._loose(name, _HEAD)
        if loose:
            return _loose_head(loose)[1]
        pack, at = self._find(name)
        kind, size, at = _entry(pack.data, at)
        if kind not in (_BY_OFFSET, _BY_NAME):
            return size
        at = _base(pack.data, at, kind, len(name) // 2)[1]
        delta = zlib.decompressobj().decompress(pack.data[at : at + _HEAD], 40)
        return _number(delta, _number(delta, 0)[1])[0]

    def read(self, name: str) -> tuple[str, bytes]:
        """Return the kind and the content of an object of at most 256 MiB."""
        deltas: list[bytes] = []
        base: int | str = name
        at = 0
        while len(deltas) < _LONGEST_CHAIN:
            if isinstance(base, int):
                at -= base
            else:
                loose = self._loose(base)
                if loose:
                    what, size, start = _loose_head(loose)
                    content = _inflate(loose, 0, start + size)[start:]
                    break
                pack, at = self._find(base)
            kind, size, begin = _entry(pack.data, at)
            if kind in _KINDS:
                what, content = _KINDS[kind], _inflate(pack.data, begin, size)
                break
            base, begin = _base(pack.data, begin, kind, len(name) // 2)
            deltas.append(_inflate(pack.data, begin, size))
        else:
            raise ValueError("a chain of deltas without end")
        for delta in reversed(deltas):
            content = _applied(content, delta)
        return what, content

    def _loose(self, name: str, most: int = MOST_BYTES) -> bytes:
        """Return the first bytes of the file of a loose object, none where it is not loose."""
        if len(name) not in (40, 64) or not set(name) <= set("0123456789abcdef"):
            raise ValueError(name)
        path = os.path.join(self._folder, name[:2], name[2:])
        if not os.path.isfile(path):
            return b""
        with open(path, "rb") as file:
            return file.read(most)

    def _find(self, name: str) -> tuple[_Pack, int]:
        """Return the pack that holds an object, and where in it."""
        if self._packs is None:
            self._packs = list(_packs(os.path.join(self._folder, "pack")))
        wanted = bytes.fromhex(name)
        for pack in self._packs:
            at = _offset(pack.index, wanted)
            if at is not None:
                return pack, at
        raise Absent(name)


def _line(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read(4096).strip()


def _packs(folder: str) -> Iterator[_Pack]:
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        if name.endswith(".idx"):
            parts = []
            for path in (name, f"{name.removesuffix('.idx')}.pack"):
                with open(os.path.join(folder, path), "rb") as file:
                    parts.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            if parts[0][:8] != b"\xfftOc\0\0\0\2":
                raise ValueError(f"{name} is an index of another version")
            yield _Pack(*parts)


def _offset(index: mmap.mmap, wanted: bytes) -> int | None:
    """Return where the object lies in the pack of this index, None where it does not."""

    def word(at: int) -> int:
        return int.from_bytes(index[at : at + 4], "big")

    length, names = len(wanted), 8 + 256 * 4
    low = word(8 + (wanted[0] - 1) * 4) if wanted[0] else 0
    high, count = word(8 + wanted[0] * 4), word(8 + 255 * 4)
    if len(index) < names + count * (length + 8) or high > count:
        raise ValueError("a pack's index is cut off")
    while low < high:
        middle = (low + high) // 2
        there = index[names + middle * length : names + (middle + 1) * length]
        if there == wanted:
            offsets = names + count * (length + 4)
            at = word(offsets + middle * 4)
            if at < 1 << 31:
                return at
            large = offsets + count * 4 + (at - (1 << 31)) * 8
            return int.from_bytes(index[large : large + 8], "big")
        low, high = (middle + 1, high) if there < wanted else (low, middle)
    return None


def _entry(data: mmap.mmap, at: int) -> tuple[int, int, int]:
    """Return the kind and the size of the pack's entry at this place, and where its next bytes are."""
    byte = data[at]
    kind, size, shift = byte >> 4 & 7, byte & 15, 4
    while byte & 128:
        at += 1
        byte = data[at]
        size |= (byte & 127) << shift
        shift += 7
        if shift > 64:
            raise ValueError("a size without end")
    return kind, size, at + 1


def _base(data: mmap.mmap, at: int, kind: int, length: int) -> tuple[int | str, int]:
    """Return what a delta is of, how far back or by its name, and where the delta begins."""
    if kind == _BY_NAME:
        return data[at : at + length].hex(), at + length
    if kind != _BY_OFFSET:
        raise ValueError(f"an entry of kind {kind}")
    byte = data[at]
    back = byte & 127
    while byte & 128:
        at += 1
        byte = data[at]
        back = (back + 1) << 7 | byte & 127
    if back == 0:
        raise ValueError("a delta of itself")
    return back, at + 1


def _inflate(data: bytes | mmap.mmap, at: int, size: int) -> bytes:
    """Return `size` decompressed bytes; raises ValueError where there are not as many."""
    if size > MOST_BYTES:
        raise ValueError(f"an object of {size:,} bytes")
    stream = zlib.decompressobj()
    parts, left = [], size
    while left > 0:
        piece = stream.decompress(data[at : at + (1 << 16)], left)
        at += 1 << 16
        if not piece and (stream.eof or at >= len(data)):
            raise ValueError("an object is cut off")
        parts.append(piece)
        left -= len(piece)
    return b"".join(parts)


def _loose_head(data: bytes) -> tuple[str, int, int]:
    """Return the kind and the size of a loose object, and where its content begins once decompressed."""
    head, mark, _ = zlib.decompressobj().decompress(data[:_HEAD], 64).partition(b"\0")
    kind, _, size = head.partition(b" ")
    if not mark or not size.isdigit():
        raise ValueError("no loose object")
    return kind.decode("ascii"), int(size), len(head) + 1


def _number(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128 or shift > 64:
            return number, at


def _applied(base: bytes, delta: bytes) -> bytes:
    """Return what a delta makes of its base."""
    length, at = _number(delta, 0)
    size, at = _number(delta, at)
    if length != len(base) or size > MOST_BYTES:
        raise ValueError("a delta of something else")
    parts, made = [], 0
    while at < len(delta):
        code = delta[at]
        at += 1
        if code & 128:
            fields = [0] * 7
            for field in range(7):
                if code >> field & 1:
                    fields[field] = delta[at]
                    at += 1
            start = int.from_bytes(bytes(fields[:4]), "little")
            piece = base[start : start + (int.from_bytes(bytes(fields[4:]), "little") or 1 << 16)]
        elif code:
            piece = delta[at : at + code]
            at += code
        else:
            raise ValueError("a delta with a code that is reserved")
        parts.append(piece)
        made += len(piece)
        if made > size:
            raise ValueError("a delta makes more than it says")
    if made != size:
        raise ValueError("a delta makes less than it says")
    return b"".join(parts)
