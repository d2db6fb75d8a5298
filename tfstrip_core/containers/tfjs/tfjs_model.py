"""TensorFlow.js models: model.json and the files of weights beside it that its manifest names.

Its path is that of the JSON, whatever it is called; its files have names of their own, in the JSON's folder. Only
`save` with includeOptimizer marks weights as an optimizer's, and only those of a model of layers go: a strip takes
their specs and bytes away, and trainingConfig, by which a loader would make an optimizer anew.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tfstrip_core import rules
from tfstrip_core.codecs import json_edit, jsontext
from tfstrip_core.codecs.json_edit import Child
from tfstrip_core.codecs.window import blocks
from tfstrip_core.containers.tfjs import manifest
from tfstrip_core.containers.tfjs.manifest import GRAPH, LAYERS, PATHS, SPECS, Group, Manifest, Spec
from tfstrip_core.errors import Unreadable
from tfstrip_core.inventory import INFERENCE, Contents, Finding, Inventory, Key, Part, Plan, Scope, Tensor

# What TensorFlow.js writes and loads, and what its converter copies from Keras's .h5 and no loader reads.
_CONFIG, _KERAS_CONFIG = "#/trainingConfig", "modelTopology/training_config"
_MANIFEST, _TOPOLOGY = "weightsManifest", "modelTopology"


def inventory(path: str, _scope: Scope = INFERENCE) -> Inventory:
    """Return what the model holds, from its JSON, the sizes of its files and the lengths of strings.

    Where none of its files is here, the JSON alone says it, and a note that they are not. Raises NotAModel,
    Unsupported, Pointer, Unreadable or Refused.
    """
    model = manifest.read(path)
    size = os.stat(path).st_size
    notes: tuple[str, ...] = ()
    if model.weights_are_elsewhere():
        held = [_sized(spec) for group in model.groups for spec in group.specs]
        notes = (f"its weights are not here ({', '.join(model.files[:3])}): this is what its JSON says of them",)
    else:
        manifest.check_files(model)
        held = [item for group in model.groups for item in zip(group.specs, manifest.sizes(model, group), strict=True)]
        size += sum(os.stat(model.folder + name).st_size for name in model.files)
    found = tuple(_findings(model, held))
    return Inventory(
        path=path,
        format=model.kind,
        verdict=rules.verdict(found),
        writer=_writer(model),
        bytes=size,
        tensors=tuple(
            Tensor(spec.name, manifest.dtype(spec), spec.shape, count, "optimizer" if _goes(model, spec) else "weight")
            for spec, count in held
        ),
        findings=found,
        residue_bytes=rules.residue_bytes(found),
        notes=notes,
    )


def _sized(spec: Spec) -> tuple[Spec, int]:
    if spec.bytes is None:
        raise Unreadable("its files of weights are missing", "get a complete copy of all its files")
    return spec, spec.bytes


def _goes(model: Manifest, spec: Spec) -> bool:
    """Return whether a weight is an optimizer's; to a graph loaders give every weight, whatever it is marked as."""
    return model.kind == LAYERS and spec.is_optimizer


def _writer(model: Manifest) -> str:
    said = (model.said.get(key) for key in ("generatedBy", "convertedBy"))
    return ", ".join(text[:100] for text in said if isinstance(text, str) and text)


def _findings(model: Manifest, held: list[tuple[Spec, int]]) -> Iterator[Finding]:
    if model.kind == GRAPH:
        return
    state = [(spec, size) for spec, size in held if _goes(model, spec)]
    if state:
        message = f"{len(state)} weights that TensorFlow.js saved as the optimizer's{_optimizer(model)}"
        names = tuple(spec.name for spec, _ in state)
        yield Finding("TFS101", manifest.OPTIMIZER, sum(size for _, size in state), message, tensors=names)
    for subject, _ in _configs(model):
        yield Finding("TFS201", subject, 0, "loss, metrics and optimizer settings of compile()")


def _optimizer(model: Manifest) -> str:
    config = model.said.get("trainingConfig")
    said = config.get("optimizer_config") if isinstance(config, dict) else None
    name = said.get("class_name") if isinstance(said, dict) else None
    return f" ({name[:100]})" if isinstance(name, str) else ""


def _configs(model: Manifest) -> Iterator[tuple[str, Any]]:
    """Yield what compile() was given, with the subject of its finding."""
    topology = model.said.get(_TOPOLOGY)
    if model.said.get("trainingConfig") is not None:
        yield _CONFIG, model.said["trainingConfig"]
    if isinstance(topology, dict) and topology.get("training_config") is not None:
        yield _KERAS_CONFIG, topology["training_config"]


def endings(path: str) -> tuple[str, ...]:
    """Return the names of the model's files in its folder, the JSON first; raises Unreadable where one is missing."""
    model = manifest.read(path)
    manifest.check_files(model)
    return (os.path.basename(path), *model.files)


def beside(_path: str, _target: str) -> dict[str, bytes]:
    """Return {}: nothing beside the model's files names them."""
    return {}


def check_whole(path: str) -> None:
    """Do nothing: the files carry no checksums."""


@contextmanager
def contents(path: str) -> Iterator[Contents]:
    """Open the model as comparable parts: each weight, the manifest without files and optimizer, and what else it says.

    Which file a weight lies in is no part of it: loaders read a group's files as one.
    """
    model = manifest.read(path)
    manifest.check_files(model)
    found: dict[Key, Part] = {}
    for group in model.groups:
        at = 0
        for spec, size in zip(group.specs, manifest.sizes(model, group), strict=True):
            kind = f"{manifest.dtype(spec)} {list(spec.shape)} {jsontext.dump(spec.said).decode('ascii')}"
            found["tensor", spec.name] = Part(kind, partial(_blocks, model, group, at, size), size)
            at += size
    kept = [
        {key: value for key, value in group.said.items() if key not in (PATHS, SPECS)}
        | {SPECS: [spec.name for spec in group.specs if not _goes(model, spec)]}
        for group in model.groups
        if not _is_emptied(model, group)
    ]
    rest = {key: value for key, value in model.said.items() if key != _MANIFEST}
    for subject, value in _configs(model):
        found["config", subject] = Part("json", partial(iter, (jsontext.dump(value),)))
        if subject == _CONFIG:
            del rest["trainingConfig"]
        else:
            rest[_TOPOLOGY] = {key: inner for key, inner in rest[_TOPOLOGY].items() if key != "training_config"}
    for subject, value in ((_MANIFEST, kept), *rest.items()):
        found["config", f"its {subject}"] = Part("json", partial(iter, (jsontext.dump(value),)))
    yield found


def _is_emptied(model: Manifest, group: Group) -> bool:
    """Return whether a group has weights, and a strip leaves none of them."""
    return bool(group.specs) and all(_goes(model, spec) for spec in group.specs)


def _blocks(model: Manifest, group: Group, at: int, size: int) -> Iterator[bytes]:
    file: Any
    with manifest.joined(model, group) as file:
        yield from blocks(file, at, size)


def rewrite(path: str, plan: Plan, target: str) -> list[str]:
    """Write the JSON to the new file `target` and the files of weights beside it, without what the plan drops.

    Each file keeps its name and loses its own bytes of what goes; one that has none left is not written.
    """
    model = manifest.read(path)
    manifest.check_files(model)
    folder = os.path.join(os.path.dirname(target), "")
    left = [_write_group(model, group, plan, folder) for group in model.groups]
    if not plan.drop:
        shutil.copyfile(path, target)
    else:
        with open(target, "xb") as out:
            out.write(_text(model, plan, left).encode("utf-8"))
    return []


def _write_group(model: Manifest, group: Group, plan: Plan, folder: str) -> list[int]:
    """Write the files of a group without what goes; return the positions of those that are left among its files."""
    at, kept = 0, list[tuple[int, int]]()
    for spec, size in zip(group.specs, manifest.sizes(model, group), strict=True):
        if spec.name not in plan.tensors:
            kept.append((at, at + size))
        at += size
    left, begin = list[int](), 0
    for number, name in enumerate(group.files):
        source = model.folder + name
        end = begin + os.stat(source).st_size
        mine = [(max(begin, low), min(end, high)) for low, high in kept if low < end and high > begin]
        stays = sum(high - low for low, high in mine)
        if stays or (end == begin and kept):
            left.append(number)
            _write_stretches(source, [(low - begin, high - low) for low, high in mine], folder + name)
        begin = end
    if kept and not left and group.files:  # weights without a byte
        left.append(0)
        _write_stretches(model.folder + group.files[0], [], folder + group.files[0])
    return left


def _write_stretches(source: str, stretches: list[tuple[int, int]], target: str) -> None:
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    with open(source, "rb", buffering=0) as file, open(target, "xb") as out:
        for at, size in stretches:
            out.writelines(blocks(file, at, size))


def _text(model: Manifest, plan: Plan, left: list[list[int]]) -> str:
    """Return the JSON without the specs that go, the files that are not `left`, and the configurations that go."""
    text = model.text

    def group(number: int, child: Child) -> str | None:
        specs = model.groups[number].specs
        if specs and all(spec.name in plan.tensors for spec in specs):
            return None
        return _group_text(text, child.value, {spec.name for spec in specs} - plan.tensors, left[number])

    def inside(_: int, child: Child) -> str | None:
        gone = child.key == "training_config" and _KERAS_CONFIG in plan.configs
        return None if gone else json_edit.value(text, child)

    def top(_: int, child: Child) -> str | None:
        if child.key == "trainingConfig" and _CONFIG in plan.configs:
            return None
        if child.key == _MANIFEST and model.groups:
            return json_edit.edited(text, child.value, group)
        return json_edit.edited(text, child.value, inside) if child.key == _TOPOLOGY else json_edit.value(text, child)

    begin = json_edit.root(text)
    return text[:begin] + json_edit.edited(text, begin, top)


def _group_text(text: str, at: int, names: Collection[str], files: Collection[int]) -> str:
    """Return the group that begins at `at` with the specs of these `names` and the files at these positions."""

    def spec(_: int, child: Child) -> str | None:
        found = json_edit.value(text, child)
        return found if json.loads(found)["name"] in names else None

    def file(number: int, child: Child) -> str | None:
        return json_edit.value(text, child) if number in files else None

    def change(_: int, child: Child) -> str:
        inner = {SPECS: spec, PATHS: file}
        is_inner = child.key in inner
        return json_edit.edited(text, child.value, inner[child.key]) if is_inner else json_edit.value(text, child)

    return json_edit.edited(text, at, change)
