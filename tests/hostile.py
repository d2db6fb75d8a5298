"""Builders of hostile and odd files, and the contract that every refusal and every strip keeps."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py

from tfstrip_core.cli import main

MIB = 1 << 20
WEIGHTS = "model.weights.h5"


def run(capsys, *words: str) -> tuple[int, str, str]:
    """Run the command in this process; return exit code, stdout and stderr."""
    capsys.readouterr()
    code = main(list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


CHILD = """
import contextlib, io, json, resource, sys
from tfstrip_core.cli import main
calls, memory = json.load(sys.stdin)
if memory:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
for words in calls:
    print("start", json.dumps(words), file=sys.stderr, flush=True)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


def in_child(calls: list[list[str]], memory: int = 0, seconds: float = 120) -> list[tuple[int, str, str]]:
    """Run the command for each call in one process of its own, whose crash fails the test and names the call."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", CHILD],
        input=json.dumps([calls, memory]), capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def judge(capsys, path: str) -> tuple[int, dict]:
    """Return the exit code of `check --json` and the one model that it lists."""
    code, out, _ = run(capsys, "check", "--json", path)
    (model,) = json.loads(out)["models"]
    return code, model


def listing(folder: str) -> dict[str, bytes]:
    """Return what lies in a folder, by name: content of small files, size and time of large ones, b"" of folders."""
    found = {}
    for entry in os.scandir(folder):
        status = entry.stat(follow_symlinks=False)
        small = entry.is_file(follow_symlinks=False) and status.st_size <= 4 * MIB
        stamp = b"%d %d" % (status.st_size, status.st_mtime_ns) if entry.is_file(follow_symlinks=False) else b""
        found[entry.name] = Path(entry.path).read_bytes() if small else stamp
    return found


def assert_one_sentence(err: str, path: str) -> None:
    """Assert that stderr is one printable line about that file, and no traceback."""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert err.endswith("\n"), err
    assert lines[0].isprintable(), err
    assert os.path.basename(path) in lines[0], err
    assert "Traceback" not in err, err


def assert_strip_fails(capsys, path: str, *words: str) -> str:
    """Assert that strip says no with exit code 2, one sentence, and nothing written; return the sentence."""
    folder = os.path.dirname(path)
    before = listing(folder)
    said = ""
    for where in (["--in-place"], ["-o", os.path.join(folder, "stripped-result")]):
        code, out, said = run(capsys, "strip", path, *where, *words)
        assert (code, out) == (2, ""), said
        assert_one_sentence(said, path)
        assert listing(folder) == before
    return said


def assert_refused(capsys, path: str, verdict: str = "refused") -> str:
    """Assert the whole contract of a bad file, in check, inspect, verify and strip; return check's sentence."""
    folder = os.path.dirname(path)
    before = listing(folder)
    code, model = judge(capsys, path)
    assert (code, model["verdict"]) == (2, verdict), model["message"]
    assert model["message"].isprintable()
    assert model["findings"] == model["tensors"] == []
    code, _, said = run(capsys, "check", path)
    assert code == 2
    assert_one_sentence(said, path)
    code, out, err = run(capsys, "inspect", path)
    assert (code, out) == (2, "")
    assert_one_sentence(err, path)
    code, _, err = run(capsys, "verify", path, path)
    assert code == 2
    assert_one_sentence(err, path)
    assert listing(folder) == before
    assert_strip_fails(capsys, path)
    return said


def assert_strips(capsys, path: str, *words: str) -> str:
    """Strip to a new file; assert that verify calls it equal and check finds it clean; return the result's path."""
    result = os.path.join(os.path.dirname(path), "stripped-result")
    source = Path(path).read_bytes()
    code, _, err = run(capsys, "strip", path, "-o", result, "--force", *words)
    assert code == 0, err
    code, out, err = run(capsys, "verify", path, result)
    assert code == 0, out + err
    code, model = judge(capsys, result)
    assert (code, model["residue_bytes"]) == (0, 0), model["findings"]
    assert Path(path).read_bytes() == source
    assert sorted(os.listdir(os.path.dirname(path))) == sorted({os.path.basename(path), "stripped-result"})
    return result


def facts(model: dict) -> dict:
    """Return what check says of a model apart from its place and size: to compare two packings of one model."""
    return {key: model[key] for key in ("format", "verdict", "message", "residue_bytes", "findings", "tensors")}


@dataclass
class Entry:
    """One zip entry; `local` and `central` override header fields there, so that the two can tell different lies."""

    name: str | bytes
    data: bytes = b""
    deflate: bool = False
    local: dict = field(default_factory=dict)
    central: dict = field(default_factory=dict)
    described: bool = False  # sizes in a data descriptor behind the data (bit 3), none in the local header

    def header(self) -> dict:
        packed = deflated(self.data) if self.deflate else self.data
        raw = self.name if isinstance(self.name, bytes) else self.name.encode()
        return {
            "version": 20, "flags": 0x08 * self.described, "method": 8 * self.deflate, "crc": zlib.crc32(self.data),
            "packed": len(packed), "size": len(self.data), "name": raw, "extra": b"", "external": 0, "offset": None,
            "bytes": packed,
        }  # fmt: skip


def deflated(data: bytes) -> bytes:
    """Return the data as a raw deflate stream."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def pack(entries: Iterable[Entry], *, preamble: bytes = b"", comment: bytes = b"", end: dict | None = None) -> bytes:
    """Return an archive of the entries, with whatever lies they and `end` (fields of the end record) tell."""
    out, directory, count = bytearray(preamble), bytearray(), 0
    for entry in entries:
        true = entry.header()
        local, central = true | entry.local, true | entry.central
        offset = len(out) - len(preamble) if central["offset"] is None else central["offset"]
        sums = (local["crc"], local["packed"], local["size"])
        out += struct.pack(
            "<4s5H3L2H", b"PK\3\4", local["version"], local["flags"], local["method"], 0, 0x21,
            *((0, 0, 0) if entry.described else sums), len(local["name"]), len(local["extra"]),
        )  # fmt: skip
        out += local["name"] + local["extra"] + local["bytes"]
        if entry.described:
            out += struct.pack("<4s3L", b"PK\7\x08", *sums)
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 0x300 | central["version"], central["version"], central["flags"],
            central["method"], 0, 0x21, central["crc"], central["packed"], central["size"], len(central["name"]),
            len(central["extra"]), 0, 0, 0, central["external"], offset,
        )  # fmt: skip
        directory += central["name"] + central["extra"]
        count += 1
    last = {"count": min(count, 0xFFFF), "size": len(directory), "at": len(out) - len(preamble)} | (end or {})
    out += directory
    out += struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, last["count"], last["count"], last["size"], last["at"], len(comment)
    )
    return bytes(out + comment)


def unpacked(path: str) -> list[Entry]:
    """Return the members of a sound archive, in order."""
    with zipfile.ZipFile(path) as archive:
        return [Entry(info.filename, archive.read(info)) for info in archive.infolist()]


def contents(path: str) -> dict[str, bytes]:
    """Return the members of an archive as Python's own zipfile, which is what Keras uses, reads them."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def zeros(count: int) -> Iterator[bytes]:
    """Yield `count` MiB of zeros as a deflate stream, made once and repeated: a bomb at no cost."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    yield from [piece] * count
    yield packer.flush()


def bomb(name: str, mib: int) -> Entry:
    """Return an entry that honestly says that it expands to so many MiB of zeros, from next to nothing."""
    crc, block = 0, bytes(MIB)
    for _ in range(mib):
        crc = zlib.crc32(block, crc)
    stream = b"".join(zeros(mib))
    lies = {"method": 8, "crc": crc, "packed": len(stream), "size": mib * MIB, "bytes": stream}
    return Entry(name, local=lies, central=lies)


def zip64_end(size: int, at: int, count: int, place: int) -> bytes:
    """Return a zip64 end record, for a directory of so many bytes, and its locator, which lie at `place`."""
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, at)
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, place, 1)


def both(entry: Entry, **fields) -> Entry:
    """Return the entry with these fields in both of its headers."""
    return replace(entry, local=fields, central=fields)


def edited(model, folder: Path, edit, name: str = "", **more) -> str:
    """Copy a fixture, let `edit(file, home)` change its HDF5 file, and return the copy's path.

    `home` is the group that holds the layers: in the legacy file itself, or in the weights of the archive. With
    `more` (arguments of h5py.File) the HDF5 file is first written afresh in that form.
    """
    inside = zipfile.is_zipfile(model.path)
    path = str(folder / (name or os.path.basename(model.path)))
    weights = f"{path}.weights" if inside else path
    entries = unpacked(model.path) if inside else []
    if inside:
        Path(weights).write_bytes(next(entry.data for entry in entries if entry.name == WEIGHTS))
    else:
        shutil.copy(model.path, weights)
    if more:
        transplant(weights, **more)
    with h5py.File(weights, "r+") as file:
        edit(file, file["layers" if inside else "model_weights"])
    if inside:
        data = Path(weights).read_bytes()
        os.remove(weights)
        Path(path).write_bytes(pack([replace(e, data=data) if e.name == WEIGHTS else e for e in entries]))
    return path


def transplant(path: str, groups: dict | None = None, datasets=lambda item: {}, **more) -> None:
    """Write the HDF5 file at `path` afresh: `more` goes to the file, `groups` to each group.

    `datasets(item)` returns what create_dataset is to be given for a dataset.
    """
    old = f"{path}.old"
    os.rename(path, old)
    with h5py.File(old, "r") as source, h5py.File(path, "x", **more) as target:
        _transplant(source, target, groups or {}, datasets)
    os.remove(old)


def _transplant(source: h5py.Group, target: h5py.Group, groups: dict, datasets) -> None:
    for key, value in source.attrs.items():
        target.attrs[key] = value
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _transplant(item, target.create_group(name, **groups), groups, datasets)
        else:
            made = target.create_dataset(name, **({"data": item[()]} | datasets(item)))
            for key, value in item.attrs.items():
                made.attrs[key] = value
