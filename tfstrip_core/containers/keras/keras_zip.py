"""The .keras archive (Keras 2.12 to 3.15): config.json, metadata.json, model.weights.h5 and assets in one archive.

A strip takes the optimizer's groups out of the weights and nulls compile_config at every level: with the group
gone and the config there, every load would warn that the optimizer's variables are missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from tfstrip_core import rules
from tfstrip_core.codecs import hdf5, hdf5_open, jsontext
from tfstrip_core.codecs import zip as archive
from tfstrip_core.codecs.hdf5 import Tree
from tfstrip_core.codecs.window import Window
from tfstrip_core.codecs.window import blocks as file_blocks
from tfstrip_core.containers.keras import averages, hdf5_parts, keras_config, object_paths, optimizer_groups
from tfstrip_core.errors import NotAModel, Refused, Unreadable, Unsupported
from tfstrip_core.inventory import INFERENCE, Contents, Finding, Inventory, Key, Part, Plan, Scope

FORMAT = "keras-zip"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


@dataclass(frozen=True, slots=True)
class _Model:
    file: BinaryIO
    members: tuple[archive.Member, ...]
    config: Any
    version: str
    weights: BinaryIO
    fid: Any
    tree: Tree

    @property
    def weights_bytes(self) -> int:
        return next(member.size for member in self.members if member.name == WEIGHTS)


@contextmanager
def _open(path: str) -> Iterator[_Model]:
    with ExitStack() as stack:
        file: Any = stack.enter_context(open(path, "rb", buffering=0))
        members = archive.members(file)
        by_name = {member.name: member for member in members}
        if "model.weights.npz" in by_name:
            raise Unsupported(
                "its weights are a pickled .npz, which tfstrip never loads",
                "if you trust the file, load it in Keras and save it again: model.save writes the weights as HDF5",
            )
        missing = [name for name in (CONFIG, WEIGHTS) if name not in by_name]
        if len(missing) == 2 or (missing and not _version(file, by_name.get(METADATA))):
            raise NotAModel("the zip archive holds no Keras model", "nothing to do")
        if missing:
            raise Unreadable(f"the archive has no {missing[0]}", "get a complete copy, or save the model again")
        if next(file_blocks(file, 0, 8)) == hdf5_open.MAGIC:
            raise Refused("the file is an HDF5 file and a zip archive at once", "do not load this file")
        config = jsontext.parse(archive.read(file, by_name[CONFIG], jsontext.MAX_BYTES), CONFIG)
        if not isinstance(config, dict):
            raise Unreadable("config.json describes no model", "save the model again")
        weights = stack.enter_context(_seekable(file, by_name[WEIGHTS]))
        fid = stack.enter_context(hdf5_open.open_file(weights))
        yield _Model(file, members, config, _version(file, by_name.get(METADATA)), weights, fid, hdf5.scan(fid))


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
    if member is None:
        return ""
    value = jsontext.parse(archive.read(file, member, jsontext.MAX_BYTES), METADATA)
    version = value.get("keras_version") if isinstance(value, dict) else None
    return version if isinstance(version, str) else ""


def inventory(path: str, _scope: Scope = INFERENCE) -> Inventory:
    """Return what the archive holds, from its metadata alone: no tensor is read.

    Raises NotAModel, Unsupported, Unreadable or Refused.
    """
    size = os.stat(path).st_size
    with _open(path) as model:
        found = tuple(_findings(model))
        return Inventory(
            path=path,
            format=FORMAT,
            verdict=rules.verdict(found),
            writer=f"Keras {model.version}".strip(),
            bytes=size,
            tensors=hdf5_parts.tensors(model.tree, found),
            findings=found,
            residue_bytes=rules.residue_bytes(found),
        )


def _findings(model: _Model) -> Iterator[Finding]:
    paths = object_paths.paths(model.tree)
    for finding in optimizer_groups.optimizer_findings(paths.tree, model.config, paths.titles(model.fid)):
        for part in averages.split_by_config(finding, paths.tree, model.config):
            yield paths.in_file(part)
    if model.version.startswith("2."):
        yield from map(paths.in_file, optimizer_groups.metric_findings(paths.tree, model.config))
    entries = list(keras_config.entries(model.config))
    for pointer, _ in keras_config.compiled(entries):
        yield Finding("TFS201", f"{CONFIG}#{pointer}", 0, "loss, metrics and optimizer settings of compile()")
    dead = hdf5_parts.dead_space(model.fid, model.tree, model.weights_bytes, "unused-space")
    if dead:
        yield dead
    for subject, what in keras_config.code(entries):
        yield Finding("TFS501", subject, 0, what)


@contextmanager
def contents(path: str) -> Iterator[Contents]:
    """Open the archive as comparable parts, valid inside the `with`.

    config.json is one part without its compile_configs, which are parts of their own.
    """
    with _open(path) as model:
        found: dict[Key, Part] = dict(hdf5_parts.parts(model.fid, model.tree, model.weights))
        for member in model.members:
            if member.name not in (CONFIG, WEIGHTS):
                found["member", member.name] = Part("member", partial(archive.read_blocks, model.file, member))
        for pointer, entry in list(keras_config.compiled(keras_config.entries(model.config))):
            text = jsontext.dump(entry["compile_config"])
            found["config", f"{CONFIG}#{pointer}"] = Part("json", partial(iter, (text,)))
            entry["compile_config"] = None
        found["config", CONFIG] = Part("json", partial(iter, (jsontext.dump(model.config),)))
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
    with _open(path) as model:
        hdf5_parts.rewrite(model.fid, model.tree, model.weights, plan, weights)
        for pointer, entry in list(keras_config.compiled(keras_config.entries(model.config))):
            if f"{CONFIG}#{pointer}" in plan.configs:
                entry["compile_config"] = None
        config = jsontext.dump(model.config)
        with open(weights, "rb", buffering=0) as file:
            entries = []
            for member in model.members:
                if member.name == WEIGHTS:
                    size = os.fstat(file.fileno()).st_size
                    entries.append((WEIGHTS, file_blocks(file, 0, size), size))
                elif member.name == CONFIG and plan.configs:
                    entries.append((CONFIG, iter((config,)), len(config)))
                else:
                    entries.append((member.name, archive.read_blocks(model.file, member), member.size))
            archive.write(target, entries)
    os.remove(weights)  # before anything waits for the disk to have it
    return []
