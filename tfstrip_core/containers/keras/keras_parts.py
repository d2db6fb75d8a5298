"""What a Keras model is made of, in an archive or in a directory: a config, and weights that are an HDF5 tree.

A strip takes the optimizer's groups out of the weights and nulls compile_config at every level: with the group
gone and the config there, every load would warn that the optimizer's variables are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from tfstrip_core import rules
from tfstrip_core.codecs import jsontext
from tfstrip_core.codecs.hdf5 import Tree
from tfstrip_core.codecs.layouts import CONFIG, METADATA
from tfstrip_core.containers.keras import averages, hdf5_parts, keras_config, object_paths, optimizer_groups
from tfstrip_core.errors import Unreadable, Unsupported
from tfstrip_core.inventory import Finding, Inventory, Key, Part, Plan


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it is read: `weights` are `weights_bytes` long, `fid` is open on them and `tree` lists them."""

    config: Any
    version: str
    weights: BinaryIO
    weights_bytes: int
    fid: Any
    tree: Tree


def parse_config(text: bytes) -> Any:
    """Return config.json's content; raises Unreadable where it is no model's, and what jsontext does."""
    config = jsontext.parse(text, CONFIG)
    if not isinstance(config, dict):
        raise Unreadable("config.json describes no model", "save the model again")
    return config


def version(text: bytes) -> str:
    """Return the version of Keras that metadata.json names, or ""."""
    value = jsontext.parse(text, METADATA)
    found = value.get("keras_version") if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def pickled() -> Unsupported:
    """Return the error about weights in numpy's form, which only unpickling reads."""
    return Unsupported(
        "its weights are a pickled .npz, which tfstrip never loads",
        "if you trust the file, load it in Keras and save it again: model.save writes the weights as HDF5",
    )


def inventory(path: str, format_: str, size: int, model: Model) -> Inventory:
    """Return what the model of `size` bytes holds, from its metadata alone: no tensor is read."""
    found = tuple(_findings(model))
    return Inventory(
        path=path,
        format=format_,
        verdict=rules.verdict(found),
        writer=f"Keras {model.version}".strip(),
        bytes=size,
        tensors=hdf5_parts.tensors(model.tree, found),
        findings=found,
        residue_bytes=rules.residue_bytes(found),
    )


def _findings(model: Model) -> Iterator[Finding]:
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


def parts(model: Model) -> dict[Key, Part]:
    """Return weights and config as comparable parts: the config is one without its compile_configs, each one more."""
    found: dict[Key, Part] = dict(hdf5_parts.parts(model.fid, model.tree, model.weights))
    for pointer, entry in list(keras_config.compiled(keras_config.entries(model.config))):
        text = jsontext.dump(entry["compile_config"])
        found["config", f"{CONFIG}#{pointer}"] = Part("json", partial(iter, (text,)))
        entry["compile_config"] = None
    found["config", CONFIG] = Part("json", partial(iter, (jsontext.dump(model.config),)))
    return found


def rewrite(model: Model, plan: Plan, target: str) -> bytes | None:
    """Write the weights without what the plan drops to the new file `target`; return config.json, None as it is."""
    hdf5_parts.rewrite(model.fid, model.tree, model.weights, plan, target)
    for pointer, entry in list(keras_config.compiled(keras_config.entries(model.config))):
        if f"{CONFIG}#{pointer}" in plan.configs:
            entry["compile_config"] = None
    return jsontext.dump(model.config) if plan.configs else None
