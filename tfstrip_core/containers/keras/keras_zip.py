"""The .keras archive (Keras 2.12 to 3.15): config.json, metadata.json, model.weights.h5 and assets in one archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from tfstrip_core.codecs import hdf5, hdf5_open, jsontext
from tfstrip_core.codecs import zip as archive
from tfstrip_core.codecs.layouts import CONFIG, METADATA, NPZ, WEIGHTS
from tfstrip_core.codecs.window import Window
from tfstrip_core.codecs.window import blocks as file_blocks
from tfstrip_core.containers.keras import keras_parts
from tfstrip_core.containers.keras.keras_parts import Model
from tfstrip_core.errors import NotAModel, Refused, Unreadable
from tfstrip_core.inventory import INFERENCE, Contents, Inventory, Part, Plan, Scope

FORMAT = "keras-zip"


@dataclass(frozen=True, slots=True)
class _Archive:
    file: BinaryIO
    members: tuple[archive.Member, ...]
    model: Model


@contextmanager
def _open(path: str) -> Iterator[_Archive]:
    with ExitStack() as stack:
        file: Any = stack.enter_context(open(path, "rb", buffering=0))
        members = archive.members(file)
        by_name = {member.name: member for member in members}
        if NPZ in by_name:
            raise keras_parts.pickled()
        missing = [name for name in (CONFIG, WEIGHTS) if name not in by_name]
        if len(missing) == 2 or (missing and not _version(file, by_name.get(METADATA))):
            raise NotAModel("the zip archive holds no Keras model", "nothing to do")
        if missing:
            raise Unreadable(f"the archive has no {missing[0]}", "get a complete copy, or save the model again")
        if next(file_blocks(file, 0, 8)) == hdf5_open.MAGIC:
            raise Refused("the file is an HDF5 file and a zip archive at once", "do not load this file")
        config = keras_parts.parse_config(archive.read(file, by_name[CONFIG], jsontext.MAX_BYTES))
        weights = stack.enter_context(_seekable(file, by_name[WEIGHTS]))
        fid = stack.enter_context(hdf5_open.open_file(weights))
        version, size = _version(file, by_name.get(METADATA)), by_name[WEIGHTS].size
        yield _Archive(file, members, Model(config, version, weights, size, fid, hdf5.scan(fid)))


@contextmanager
def _seekable(file: BinaryIO, member: archive.Member) -> Iterator[BinaryIO]:
    """Open a window onto a stored member; unpack a deflated one to a nameless temporary file."""
    if member.stored:
        with Window(file, member.offset, member.size) as window:
            yield window  # type: ignore[misc]
    else:
        import tempfile  # not needed by what Keras writes

        with tempfile.TemporaryFile(buffering=0) as unpacked:
            archive.spill(archive.read_blocks(file, member), unpacked)
            yield unpacked


def _version(file: BinaryIO, member: archive.Member | None) -> str:
    return keras_parts.version(archive.read(file, member, jsontext.MAX_BYTES)) if member else ""


def inventory(path: str, _scope: Scope = INFERENCE) -> Inventory:
    """Return what the archive holds, from its metadata alone: no tensor is read.

    Raises NotAModel, Unsupported, Unreadable or Refused.
    """
    with _open(path) as opened:
        return keras_parts.inventory(path, FORMAT, os.stat(path).st_size, opened.model)


@contextmanager
def contents(path: str) -> Iterator[Contents]:
    """Open the archive as comparable parts, valid inside the `with`."""
    with _open(path) as opened:
        found = keras_parts.parts(opened.model)
        for member in opened.members:
            if member.name not in (CONFIG, WEIGHTS):
                found["member", member.name] = Part("member", partial(archive.read_blocks, opened.file, member))
        yield found


def endings(_path: str) -> tuple[str, ...]:
    """Return ("",): the model is one file."""
    return ("",)


def beside(_path: str, _target: str) -> dict[str, bytes]:
    """Return {}: nothing beside a Keras file names it."""
    return {}


def check_whole(path: str) -> None:
    """Read every member against its CRC-32; raises Unreadable where one differs."""
    with open(path, "rb", buffering=0) as file:
        for member in archive.members(file):
            for _ in archive.read_blocks(file, member):
                pass


def rewrite(path: str, plan: Plan, target: str) -> list[str]:
    """Write the archive at `path` without what the plan drops to the new file `target`.

    Members keep their order and bytes, but for the weights, which are written afresh, and config.json, which is
    written anew only where a compile_config goes.
    """
    weights = f"{target}.{WEIGHTS}"
    with _open(path) as opened:
        config = keras_parts.rewrite(opened.model, plan, weights)
        with open(weights, "rb", buffering=0) as file:
            entries = []
            for member in opened.members:
                if member.name == WEIGHTS:
                    size = os.fstat(file.fileno()).st_size
                    entries.append((WEIGHTS, file_blocks(file, 0, size), size))
                elif member.name == CONFIG and config is not None:
                    entries.append((CONFIG, iter((config,)), len(config)))
                else:
                    entries.append((member.name, archive.read_blocks(opened.file, member), member.size))
            archive.write(target, entries)
    os.remove(weights)  # before anything waits for the disk to have it
    return []
