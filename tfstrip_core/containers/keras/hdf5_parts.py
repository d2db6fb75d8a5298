"""What both HDF5-based containers share: an HDF5 file as comparable parts, and its rewrite by a plan."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

from tfstrip_core.codecs import hdf5, hdf5_open
from tfstrip_core.codecs.hdf5 import Tree
from tfstrip_core.codecs.window import blocks
from tfstrip_core.errors import Refused
from tfstrip_core.inventory import Contents, Finding, Key, Part, Plan, Tensor

# TFS301 fires above both: a tenth of the file, and this many bytes.
DEAD_SHARE = 10
DEAD_BYTES = 64 << 10


def tensors(tree: Tree, findings: tuple[Finding, ...]) -> tuple[Tensor, ...]:
    """Return the tree's datasets as tensors, with the role that the findings give them."""
    roles = {"TFS101": "optimizer", "TFS102": "metric", "TFS106": "average"}
    role_of = {name: roles.get(finding.rule, "undecided") for finding in findings for name in finding.tensors}
    return tuple(
        Tensor(d.name, d.dtype, d.shape, d.bytes, role_of.get(d.name, "weight"))  # type: ignore[arg-type]
        for d in tree.datasets.values()
    )


def parts(fid: Any, tree: Tree, source: BinaryIO) -> Contents:
    """Return every dataset, group and attribute of the file as a part; bytes are read when a part is."""
    found: dict[Key, Part] = {}
    for name, dataset in tree.datasets.items():
        item = hdf5.open_object(fid, name)
        kind = f"{dataset.dtype} {list(dataset.shape)} {item.get_type().dtype.str}"
        if dataset.offset is None:
            found["tensor", name] = Part(kind, partial(hdf5.read_blocks, item, dataset), dataset.bytes)
        else:
            found["tensor", name] = Part(kind, partial(blocks, source, dataset.offset, dataset.bytes), dataset.bytes)
        _add_attributes(found, item, name)
    for name in sorted(tree.groups):
        found["group", name] = Part("group", partial(iter, ()))
        _add_attributes(found, hdf5.open_object(fid, name), name)
    return found


def _add_attributes(found: dict[Key, Part], item: Any, name: str) -> None:
    for attribute in hdf5.attribute_names(item):
        kind, content = hdf5.attribute_bytes(item, attribute)
        found["attribute", f"{name}@{attribute}"] = Part(kind, partial(_once, content))


def _once(content: bytes) -> Iterator[bytes]:
    if content:
        yield content


def gone(tree: Tree, plan: Plan) -> frozenset[str]:
    """Return the paths that a plan takes away: its tensors, and groups under its roots that then hold none."""
    kept = {parent for name in tree.datasets if name not in plan.tensors for parent in _parents(name)}
    inside = {
        group
        for group in tree.groups
        if group not in kept and any(group == root or group.startswith(f"{root}/") for root in plan.roots)
    }
    return frozenset(inside | plan.tensors)


def _parents(name: str) -> Iterator[str]:
    while name:
        name = name.rpartition("/")[0]
        yield name


def rewrite(fid: Any, tree: Tree, source: BinaryIO, plan: Plan, target: str) -> None:
    """Write to `target` the file without what the plan drops, averages put in place of their weights.

    `source` is the file that `fid` reads; bytes of the user's own before the HDF5 data (a user block) stay.
    """
    attributes = frozenset(subject for subject in plan.configs if "/" not in subject)
    write(fid, tree, source, target, gone(tree, plan), attributes)
    if plan.apply:
        _apply(fid, tree, plan, target)


def write(
    fid: Any,
    tree: Tree,
    source: BinaryIO,
    target: str,
    lost: frozenset[str],
    attributes: frozenset[str] = frozenset(),
) -> None:
    """Write to `target` the file without the objects `lost`, and without these `attributes` of the root."""
    from tfstrip_core.codecs import hdf5_copy

    hdf5_copy.copy(fid, tree, target, drop=lost.__contains__, drop_attributes=attributes)
    userblock = hdf5.userblock(fid)
    if userblock:
        with open(target, "r+b") as out:
            out.writelines(blocks(source, 0, userblock))


def _apply(fid: Any, tree: Tree, plan: Plan, target: str) -> None:
    with open(target, "rb", buffering=0) as made, hdf5_open.open_file(made) as fid_made:
        written = hdf5.scan(fid_made).datasets
    offsets = {weight: written[weight].offset for weight, _ in plan.apply}
    with open(target, "r+b") as file:
        for weight, average in plan.apply:
            offset = offsets[weight]
            if offset is None:
                raise Refused(f"the weight {weight!r} is stored in chunks", "save the model again, then apply averages")
            file.seek(offset)
            file.writelines(hdf5.read_blocks(hdf5.open_object(fid, average), tree.datasets[average]))


def dead_space(fid: Any, tree: Tree, size: int, subject: str) -> Finding | None:
    """Return TFS301 for an HDF5 file of `size` bytes whose objects account for much less than that."""
    limit = max(DEAD_BYTES, size // DEAD_SHARE)
    stored = sum(dataset.stored for dataset in tree.datasets.values()) + hdf5.userblock(fid)
    if size - stored <= limit:
        return None
    dead = size - stored - hdf5.overhead(fid, tree)
    if dead <= limit:
        return None
    return Finding("TFS301", subject, dead, "bytes in the file that belong to nothing in it any more")
