"""Keras weights in several files (Keras 3.10 and later): NAME.weights.json and NAME_00000.weights.h5, and so on.

The path of the model is NAME, with its folder; its files are that path with endings. What is found in it is found in
the union of the files' trees, and a strip writes each of them anew without what goes.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, BinaryIO

from tfstrip_core import rules
from tfstrip_core.codecs import hdf5, hdf5_open, jsontext
from tfstrip_core.codecs.hdf5 import Dataset, Tree
from tfstrip_core.codecs.window import blocks
from tfstrip_core.containers.keras import hdf5_parts, shard_map, weights_tree
from tfstrip_core.containers.keras.shard_map import ENDING, FIRST, ShardMap
from tfstrip_core.errors import Refused, TfstripError, Unreadable
from tfstrip_core.inventory import INFERENCE, Contents, Finding, Inventory, Key, Part, Plan, Scope

FORMAT = "keras-shards"


@dataclass(frozen=True, slots=True)
class _Model:
    """The map and the trees of all files, by ending, and what they hold together."""

    map: ShardMap
    trees: dict[str, Tree]
    union: Tree

    def holders(self, name: str) -> list[str]:
        """Return the endings of the files that have a group or dataset of this path."""
        return [ending for ending, tree in self.trees.items() if name in tree.groups or name in tree.datasets]

    def tensors_in(self, group: str) -> list[str]:
        """Return the endings of the files in which this group itself has tensors; elsewhere it only leads to others."""
        held = {ending for ending, tree in self.trees.items() if group in {n.rpartition("/")[0] for n in tree.datasets}}
        return sorted(held)


@contextmanager
def _open(path: str, ending: str) -> Iterator[tuple[BinaryIO, Any]]:
    """Open one file and its HDF5 data; what is wrong with it is said of that file."""
    try:
        with open(path + ending, "rb", buffering=0) as file, hdf5_open.open_file(file) as fid:
            yield file, fid
    except TfstripError as error:
        name = os.path.basename(path) + ending
        if name in error.cause:
            raise
        raise type(error)(f"its file {name}: {error.cause}", error.remedy) from None


def _tree(path: str, ending: str) -> Tree:
    with _open(path, ending) as (_, fid):
        return hdf5.scan(fid)


def _read(path: str) -> _Model:
    said = shard_map.read(path)
    trees = {ending: _tree(path, ending) for ending in said.endings}
    for group, endings_ in said.shards.items():
        for ending in endings_:
            if group not in trees[ending].groups:
                name = os.path.basename(path) + ending
                raise Unreadable(f"its map names {group!r} in {name}, which has no such group", "get a complete copy")
    trees.update(_continuing(path, said, trees))
    trees = {ending: trees[ending] for ending in sorted(trees, key=shard_map.number)}
    datasets = {name: dataset for tree in trees.values() for name, dataset in tree.datasets.items()}
    groups = frozenset(name for tree in trees.values() for name in tree.groups)
    if len(datasets) < sum(len(tree.datasets) for tree in trees.values()) or not groups.isdisjoint(datasets):
        raise Refused("two of its files hold one tensor", "no framework writes that; do not load this file")
    return _Model(said, trees, Tree(datasets, groups))


def _continuing(path: str, said: ShardMap, trees: dict[str, Tree]) -> Iterator[tuple[str, Tree]]:
    """Yield the files that the map lacks, where they go on with groups of the map's: Keras 3.10 wrote so.

    What an older, larger model left has higher numbers. So these are the first of them, as many as make whole, from
    tensor 0 to the last, every group in which they have some; any others are somebody else's.
    """
    held: dict[str, set[str]] = {}
    for tree in trees.values():
        for name in tree.datasets:
            group, _, number = name.rpartition("/")
            held.setdefault(group, set()).add(number)
    last = {group: max(map(_number, numbers)) for group, numbers in held.items()}
    found: list[tuple[str, Tree]] = []
    whole, gaps = 0, set[str]()
    for ending in said.others():
        try:
            tree = _tree(path, ending)
        except (TfstripError, OSError):
            break
        if not _goes_on(tree, said, held, last):
            break
        for group in {name.rpartition("/")[0] for name in tree.datasets}:
            (gaps.discard if last[group] + 1 == len(held[group]) else gaps.add)(group)
        found.append((ending, tree))
        whole = whole if gaps else len(found)
    yield from found[:whole]


def _goes_on(tree: Tree, said: ShardMap, held: dict[str, set[str]], last: dict[str, float]) -> bool:
    """Add a file's tensors to those `held`; return False where one is of no group of the map's, or is there already."""
    for name in tree.datasets:
        group, _, number = name.rpartition("/")
        if group not in said.shards or number in held.setdefault(group, set()):
            return False
        held[group].add(number)
        last[group] = max(last.get(group, -1), _number(number))
    return True


def _number(name: str) -> float:
    """Return the number that a tensor is called by, infinity for any other name."""
    return int(name) if name.isascii() and name.isdigit() and len(name) < 10 and name == str(int(name)) else math.inf


def inventory(path: str, _scope: Scope = INFERENCE) -> Inventory:
    """Return what the files hold together, from their metadata alone.

    Raises NotAModel, Pointer, Unreadable or Refused.
    """
    model = _read(path)
    found = (*weights_tree.findings(model.union, partial(_title, model)), *_dead_space(model))
    return Inventory(
        path=path,
        format=FORMAT,
        verdict=rules.verdict(found),
        writer=weights_tree.writer(model.union),
        bytes=sum(os.stat(path + ending).st_size for ending in _endings(model)),
        tensors=hdf5_parts.tensors(model.union, found),
        findings=found,
        residue_bytes=rules.residue_bytes(found),
    )


def _title(model: _Model, path: str) -> str:
    """Return the name that Keras gave an object: it stands where the object's group begins."""
    for ending in model.holders(f"{path}/vars"):
        with _open(model.map.path, ending) as (_, fid):
            name = hdf5.attribute(hdf5.open_object(fid, f"{path}/vars"), "name")
        if isinstance(name, str):
            return name
    return ""


def _dead_space(model: _Model) -> Iterator[Finding]:
    for ending, tree in model.trees.items():
        with _open(model.map.path, ending) as (file, fid):
            found = hdf5_parts.dead_space(fid, tree, os.fstat(file.fileno()).st_size, f"unused-space{ending}")
        if found:
            yield found


def _endings(model: _Model) -> tuple[str, ...]:
    return (ENDING, *model.trees)


def endings(path: str) -> tuple[str, ...]:
    """Return what follows `path` in the names of the model's files, its map first."""
    said = shard_map.read(path)
    return _endings(_read(path)) if said.others() else (ENDING, *said.endings)


def beside(_path: str, _target: str) -> dict[str, bytes]:
    """Return {}: nothing beside the model's files names them."""
    return {}


def check_whole(path: str) -> None:
    """Do nothing: the files that Keras writes carry no checksums."""


@contextmanager
def contents(path: str) -> Iterator[Contents]:
    """Open the model as comparable parts: tensors wherever they lie, and of each group the files that have it."""
    model = _read(path)
    found: dict[Key, Part] = {}
    for ending, tree in model.trees.items():
        with _open(path, ending) as (file, fid):
            parts = hdf5_parts.parts(fid, tree, file)
        for (kind, name), part in parts.items():
            if kind == "tensor":
                found[kind, name] = replace(part, blocks=partial(_blocks, path, ending, tree.datasets[name]))
            elif kind == "attribute":
                # The group has it in each of several files; what stands before the @ is still inside the group.
                group, _, attribute = name.rpartition("@")
                found[kind, f"{group}/@{ending}@{attribute}"] = part
    for group in model.union.groups - {""}:
        kind = f"group of {model.tensors_in(group)}, named in {list(model.map.shards.get(group, ()))}"
        found["group", group] = Part(kind, partial(iter, ()))
    for name, content in (*shard_map.rest(model.map), ("total_size", _excess(model))):
        found["config", f"{ENDING} {name}"] = Part("json", partial(iter, (content,)))
    yield found


def _blocks(path: str, ending: str, dataset: Dataset) -> Iterator[bytes]:
    """Yield a tensor's bytes; its file is open no longer: there may be more files than a process may open."""
    if dataset.offset is None:
        with _open(path, ending) as (_, fid):
            yield from hdf5.read_blocks(hdf5.open_object(fid, dataset.name), dataset)
    else:
        with open(path + ending, "rb", buffering=0) as file:
            yield from blocks(file, dataset.offset, dataset.bytes)


def _excess(model: _Model) -> bytes:
    stored = sum(shard_map.size(dataset.dtype, dataset.bytes) for dataset in model.union.datasets.values())
    return jsontext.dump(shard_map.excess(model.map, stored))


def rewrite(path: str, plan: Plan, target: str) -> list[str]:
    """Write the files without what the plan drops as `target` + ending, and the map that names them so.

    A file of which nothing is left is not written; Keras opens the first of them always.
    """
    model = _read(path)
    lost = hdf5_parts.gone(model.union, plan)
    drop = {finding.subject for finding in plan.drop}
    for ending, tree in model.trees.items():
        mine = lost & {*tree.groups, *tree.datasets}
        named = {group for group, held in model.map.shards.items() if ending in held}
        # Groups that only led to what goes, as layers/ to a nested model's optimizer, are no reason to keep a file.
        if mine and ending != FIRST and not (tree.datasets.keys() | named) - mine:
            continue
        if mine or f"unused-space{ending}" in drop:
            with _open(path, ending) as (file, fid):
                hdf5_parts.write(fid, tree, file, target + ending, mine)
        else:
            shutil.copyfile(path + ending, target + ending)
    base = os.path.basename(target)
    if not plan.drop and base == os.path.basename(path):
        shutil.copyfile(path + ENDING, target + ENDING)
    else:
        removed = sum(shard_map.size(d.dtype, d.bytes) for d in model.union.datasets.values() if d.name in lost)
        with open(target + ENDING, "xb") as out:
            out.write(shard_map.text(model.map, base, lost, removed))
    return []
