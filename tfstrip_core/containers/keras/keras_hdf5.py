"""Keras's HDF5 files, whatever they are called: legacy whole models (Keras 1 to 3), weights by name or object path.

The root child `optimizer_weights` beside `model_weights` is the optimizer; a layer of that name lies under
`model_weights`, never at the root. `training_config` stays unless asked: without it every load warns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from tfstrip_core import rules
from tfstrip_core.codecs import hdf5, hdf5_open, jsontext
from tfstrip_core.codecs.hdf5 import Dataset, Tree
from tfstrip_core.containers.keras import (
    averages,
    hdf5_parts,
    keras_config,
    object_paths,
    optimizer_groups,
    weights_tree,
)
from tfstrip_core.errors import NotAModel, Refused
from tfstrip_core.inventory import INFERENCE, Contents, Finding, Inventory, Plan, Scope

WHOLE = "keras-hdf5"
WEIGHTS = "keras-hdf5-weights"
OBJECTS = "keras-weights"


@dataclass(frozen=True, slots=True)
class _Model:
    file: BinaryIO
    fid: Any
    tree: Tree
    format: str
    writer: str
    config: Any
    training: Any


@contextmanager
def _open(path: str) -> Iterator[_Model]:
    with open(path, "rb", buffering=0) as file, hdf5_open.open_file(file) as fid:
        yield _read(file, fid)


def _read(file: BinaryIO, fid: Any) -> _Model:
    root = hdf5.open_object(fid, "")
    names = set(hdf5.attribute_names(root))
    with hdf5_open.damage():
        children = {raw.decode("utf-8", "replace") for raw in root}
    format_ = _recognise(fid, names, children)
    tree = hdf5.scan(fid)
    _check_kinds(tree, format_)
    if format_ == OBJECTS:
        return _Model(file, fid, tree, format_, weights_tree.writer(object_paths.paths(tree).tree), None, None)
    holder = hdf5.open_object(fid, "model_weights") if format_ == WHOLE else root
    version = hdf5.attribute(root, "keras_version") or hdf5.attribute(holder, "keras_version")
    backend = hdf5.attribute(root, "backend") or hdf5.attribute(holder, "backend")
    words = ["Keras", *(word for word in (version, backend) if isinstance(word, str))]
    return _Model(
        file, fid, tree, format_, " ".join(words), _json(root, "model_config"), _json(root, "training_config")
    )


def _recognise(fid: Any, attributes: set[str], children: set[str]) -> str:
    """Tell the forms apart by names alone, before anything is judged hostile."""
    if attributes & {"layer_names", "layer_names0"}:
        return WHOLE if "model_weights" in children else WEIGHTS
    # An object path may be called model_weights too, by a model's attribute.
    if (
        "model_config" not in attributes
        and weights_tree.may_be(children)
        and weights_tree.is_object_tree(hdf5.names(fid))
    ):
        return OBJECTS
    if "model_weights" in children:
        return WHOLE
    raise NotAModel("the HDF5 file holds no Keras model", "nothing to do")


def _check_kinds(tree: Tree, format_: str) -> None:
    if format_ == WHOLE and "model_weights" not in tree.groups:
        raise Refused("the HDF5 file's model_weights is no group", "do not load this file")


def _json(root: Any, name: str) -> Any:
    text = hdf5.attribute(root, name)
    return jsontext.parse(text, name) if isinstance(text, str) else None


def inventory(path: str, _scope: Scope = INFERENCE) -> Inventory:
    """Return what the file holds, from its metadata alone.

    Raises NotAModel, Unsupported, Unreadable or Refused.
    """
    size = os.stat(path).st_size
    with _open(path) as model:
        found = tuple(_findings(model, size))
        return Inventory(
            path=path,
            format=model.format,
            verdict=rules.verdict(found),
            writer=model.writer,
            bytes=size,
            tensors=hdf5_parts.tensors(model.tree, found),
            findings=found,
            residue_bytes=rules.residue_bytes(found),
        )


def _findings(model: _Model, size: int) -> Iterator[Finding]:
    if model.format == OBJECTS:
        paths = object_paths.paths(model.tree)
        yield from map(paths.in_file, weights_tree.findings(paths.tree, paths.titles(model.fid)))
    if model.format == WHOLE:
        yield from _optimizer(model)
        if model.training is not None:
            yield Finding("TFS201", "training_config", 0, "loss, metrics and optimizer settings of compile()")
        for subject, what in keras_config.code(keras_config.entries(model.config)):
            yield Finding("TFS501", subject, 0, what)
    dead = hdf5_parts.dead_space(model.fid, model.tree, size, "unused-space")
    if dead:
        yield dead


def _optimizer(model: _Model) -> Iterator[Finding]:
    root = "optimizer_weights"
    state = [d for name, d in model.tree.datasets.items() if name.startswith(f"{root}/")]
    beside = _beside(model, root)
    state += beside
    if root in model.tree.datasets:
        raise Refused("the HDF5 file's optimizer_weights is no group", "do not load this file")
    if root not in model.tree.groups:
        return
    slots = sum(1 for dataset in state if dataset.shape)
    whole = Finding(
        "TFS101",
        root,
        sum(dataset.bytes for dataset in state),
        optimizer_groups.state(slots, len(state) - slots),
        tensors=tuple(dataset.name for dataset in state),
        roots=(root, *(dataset.name for dataset in beside)),
        opaque=keras_config.is_opaque(model.training),
    )
    yield from averages.split_by_name(whole, model.tree, keras_config.uses_averages(model.training))


def _beside(model: _Model, root: str) -> list[Dataset]:
    """Return the optimizer's datasets at the root of the file: Keras 2.0 on Theano names one `/iterations`.

    Nothing but the optimizer's own list of names says so, and no loader looks for a weight there.
    """
    candidates = {f"/{name}": dataset for name, dataset in model.tree.datasets.items() if "/" not in name}
    if not candidates or root not in model.tree.groups:
        return []
    listed = hdf5.attribute(hdf5.open_object(model.fid, root), "weight_names")
    names = dict.fromkeys(listed) if isinstance(listed, list) else ()
    return [candidates[name] for name in names if name in candidates]


@contextmanager
def contents(path: str) -> Iterator[Contents]:
    """Open the file as comparable parts, valid inside the `with`."""
    with _open(path) as model:
        found = dict(hdf5_parts.parts(model.fid, model.tree, model.file))
        training = found.pop(("attribute", "@training_config"), None)
        if training is not None:
            found["config", "training_config"] = training
        yield found


def endings(_path: str) -> tuple[str, ...]:
    """Return ("",): the model is one file."""
    return ("",)


def beside(_path: str, _target: str) -> dict[str, bytes]:
    """Return {}: nothing beside a Keras file names it."""
    return {}


def check_whole(path: str) -> None:
    """Do nothing: the layout that Keras writes carries no checksums."""


def rewrite(path: str, plan: Plan, target: str) -> list[str]:
    """Write the file at `path` without what the plan drops to the new file `target`."""
    with _open(path) as model:
        hdf5_parts.rewrite(model.fid, model.tree, model.file, plan, target)
    return []
