"""Zip archives: a listing that trusts nothing, members by their place in the file, reproducible writing."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from tfstrip_core.codecs.window import BLOCK, blocks
from tfstrip_core.errors import Refused, Unreadable

MAX_ENTRIES = 100_000
MAX_DIRECTORY = 64 << 20
MAX_RATIO = 100
# Below this, a member may shrink as far as it likes: JSON of a deep model does, and a bomb of it harms nobody.
FREE_EXPANSION = 64 << 20

_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")


@dataclass(frozen=True, slots=True)
class Member:
    """One entry: its header is at `start`, its (compressed) data begin at `offset`; sizes are in bytes."""

    name: str
    start: int
    offset: int
    size: int
    stored_size: int
    crc: int
    stored: bool


def members(file: BinaryIO) -> tuple[Member, ...]:
    """Return the entries of the archive in the order of its directory, each checked against its local header.

    Raises Unreadable for a damaged or cut-off archive, and Refused for one that lies: names given twice,
    absolute or climbing names, links, encryption, overlapping entries, sizes that do not match, expansion over
    100 times beyond the first 64 MiB (of one entry, or of all together).
    """
    length = file.seek(0, os.SEEK_END)
    _check_end(file, length)
    try:
        with zipfile.ZipFile(file) as archive:
            infos, directory = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, ValueError, struct.error, EOFError, NotImplementedError, OverflowError) as error:
        raise Unreadable(f"the zip archive is damaged ({error})", "get a complete copy") from None
    if len(infos) > MAX_ENTRIES:
        raise Refused(f"the archive has {len(infos):,} entries", "no model has that many; do not load this file")
    found = tuple(_member(file, info) for info in infos)
    if any(member.offset + member.stored_size > length for member in found):
        raise Unreadable("the archive promises more bytes than the file has", "get a complete copy")
    _check_together(found, directory)
    return found


def _check_end(file: BinaryIO, length: int) -> None:
    """Bound the directory before zipfile reads it whole into memory."""
    tail_size = min(length, _END.size + 0xFFFF)
    file.seek(length - tail_size)
    tail = file.read(tail_size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise Unreadable("the zip archive has no end: it was cut off", "get a complete copy")
    sizes = [_END.unpack_from(tail, at)[5]]
    if at >= 76 and tail[at - 20 : at - 16] == b"PK\x06\x07" and tail[at - 76 : at - 72] == b"PK\x06\x06":
        sizes = [*struct.unpack_from("<Q", tail, at - 36), *(size for size in sizes if size != 0xFFFFFFFF)]
    if max(sizes) > MAX_DIRECTORY:
        raise Refused(f"the archive's directory is {max(sizes):,} bytes", "no model needs that; do not load this file")


def _member(file: BinaryIO, info: zipfile.ZipInfo) -> Member:
    name = info.filename
    parts = name.replace("\\", "/").split("/")
    if (info.orig_filename != name and "\0" in info.orig_filename) or not name.isprintable():
        raise Refused(f"the archive holds the name {info.orig_filename!r}", "do not load this file")
    if name.startswith(("/", "\\")) or ".." in parts or (len(name) > 1 and name[1] == ":"):
        raise Refused(f"the archive holds a path that leads out of it, {name!r}", "do not load this file")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise Refused(f"the archive holds a link, {name!r}", "do not load this file")
    if info.flag_bits & 0x2041:
        raise Refused(f"the archive's entry {name!r} is encrypted", "save the model without encryption")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(f"the archive's entry {name!r} uses a compression that Keras does not", "save the model again")
    file.seek(info.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise Unreadable(f"the archive's entry {name!r} has no header", "get a complete copy")
    _, _, flags, method, _, _, crc, stored_size, size, name_length, extra_length = _LOCAL.unpack(header)
    local_name = file.read(name_length)
    if local_name != info.orig_filename.encode("utf-8" if flags & 0x800 else "cp437", "replace"):
        raise Refused(f"the archive names the entry {name!r} in two ways", "do not load this file")
    promised = (info.CRC, info.compress_size, info.file_size)
    # 0 in the local header is the streaming writer's (bit 3), 0xffffffff that of zip64: the directory has the truth.
    described = all(
        local == true or (flags & 0x08 and local == 0) or (place and local == 0xFFFFFFFF)
        for place, (local, true) in enumerate(zip((crc, stored_size, size), promised, strict=True))
    )
    if not described or method != info.compress_type or (not method and info.file_size != info.compress_size):
        raise Refused(f"the archive tells two sizes for the entry {name!r}", "do not load this file")
    offset = info.header_offset + _LOCAL.size + name_length + extra_length
    return Member(
        name, info.header_offset, offset, info.file_size, info.compress_size, info.CRC, method == zipfile.ZIP_STORED
    )


def _check_together(found: Sequence[Member], directory: int) -> None:
    names: set[str] = set()
    for member in found:
        if member.name in names:
            raise Refused(f"the archive holds the name {member.name!r} twice", "do not load this file")
        names.add(member.name)
    end = 0
    for member in sorted(found, key=lambda item: item.start):
        if member.start < end:
            raise Refused(f"the archive's entry {member.name!r} overlaps another", "do not load this file")
        end = member.offset + member.stored_size
    if end > directory:
        raise Refused("the archive's entries reach into its directory", "do not load this file")
    packed = [member for member in found if not member.stored]
    for size, stored in [(m.size, m.stored_size) for m in packed] + [
        (sum(m.size for m in packed), sum(m.stored_size for m in packed))
    ]:
        if size > FREE_EXPANSION and size > MAX_RATIO * stored:
            raise Refused(f"the archive expands {size // max(stored, 1):,} times", "do not load this file")


def read_blocks(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """Yield the member's content in blocks, unpacked, and check its size and CRC-32 at the end.

    Raises Unreadable where they differ from what the directory says.
    """
    from isal import isal_zlib

    crc = total = 0
    source = blocks(file, member.offset, member.stored_size)
    for block in source if member.stored else _inflate(source, member):
        crc = isal_zlib.crc32(block, crc)
        total += len(block)
        yield block
    if crc != member.crc or total != member.size:
        raise Unreadable(f"the archive's entry {member.name!r} is damaged (CRC-32)", "get a good copy")


def _inflate(source: Iterator[bytes], member: Member) -> Iterator[bytes]:
    import zlib

    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    try:
        for packed in source:
            rest = packed
            while rest:
                block = inflater.decompress(rest, BLOCK)
                rest = inflater.unconsumed_tail
                total += len(block)
                if total > member.size:
                    raise Refused(f"the archive's entry {member.name!r} is longer than it says", "do not load it")
                if block:
                    yield block
                elif inflater.eof:
                    return
        yield inflater.flush()
    except zlib.error as error:
        raise Unreadable(f"the archive's entry {member.name!r} is damaged ({error})", "get a good copy") from None


def read(file: BinaryIO, member: Member, limit: int) -> bytes:
    """Return the member's whole content, of at most `limit` bytes; raises Refused where it is larger."""
    if member.size > limit:
        raise Refused(f"the archive's entry {member.name!r} is {member.size:,} bytes", "no model needs that much")
    return b"".join(read_blocks(file, member))


def write(target: str, entries: Sequence[tuple[str, Iterator[bytes], int]]) -> None:
    """Write `entries` (name, blocks, size in bytes) to a new archive, stored, byte for byte reproducible.

    The loader maps or unpacks the weights as a whole, so they lie uncompressed, as Keras writes them.
    """
    with zipfile.ZipFile(target, "x", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, content, size in entries:
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.file_size = size
            with archive.open(info, "w") as out:
                for block in content:
                    out.write(block)


def spill(content: Iterator[bytes], target: BinaryIO) -> None:
    """Write the blocks to `target` and rewind it: how a deflated member becomes a seekable file."""
    target.writelines(content)
    target.seek(0)
