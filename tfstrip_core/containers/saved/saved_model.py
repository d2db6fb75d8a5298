"""SavedModel directories: what they hold, compared, and reduced to what inference reaches.

The path of a SavedModel is its directory; its files are that path with endings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tfstrip_core import rules
from tfstrip_core.codecs import layouts, meta_graph, object_graph, saved_model, tensor_bundle, tensor_bundle_write
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.codecs.saved_model import SavedModel
from tfstrip_core.codecs.tensor_bundle import Entry
from tfstrip_core.codecs.window import file_part, same
from tfstrip_core.containers.checkpoints import named_state
from tfstrip_core.containers.checkpoints.object_state import State
from tfstrip_core.containers.saved import (
    saved_closure,
    saved_code,
    saved_graph_write,
    saved_objects,
    saved_objects_write,
    saved_parts,
    saved_saver,
)
from tfstrip_core.containers.saved.saved_closure import Graph
from tfstrip_core.containers.saved.saved_objects import Objects
from tfstrip_core.containers.saved.saved_saver import Bindings
from tfstrip_core.errors import Refused, UsageError, printable
from tfstrip_core.inventory import INFERENCE, Contents, Finding, Inventory, Key, Part, Plan, Role, Scope, Tensor

FORMAT = "saved-model"


@dataclass(frozen=True, slots=True)
class _Model:
    """A SavedModel with its graphs that are for inference indexed, and its objects, if it has any."""

    saved: SavedModel
    graphs: tuple[Graph, ...] = field(repr=False)
    objects: Objects | None = field(repr=False)

    @property
    def entries(self) -> dict[str, Entry]:
        return dict(self.saved.bundle.entries) if self.saved.bundle else {}

    def bindings(self, held: Graph, kept: Collection[int]) -> Bindings:
        """Return what the variables of a graph restore, given the objects that are kept."""
        nodes = saved_closure.main(held, kept)
        return saved_saver.bindings(held, nodes, self.objects.keys() if self.objects else {}, self.entries)


def endings(path: str) -> tuple[str, ...]:
    """Return what follows the directory in the paths of the model's files, saved_model.pb first."""
    return layouts.SAVED_MODEL.endings(path)


def _read(path: str, scope: Scope = INFERENCE) -> _Model:
    saved = saved_model.read(path)
    with_objects = saved.with_objects
    metas = [with_objects] if with_objects else _served(saved, scope)
    for meta in metas:
        for asset in saved_closure.assets(meta):
            _check_asset(asset.filename)
    held = saved_objects.objects(saved, with_objects.object_graph_def) if with_objects else None
    return _Model(saved, tuple(map(saved_closure.graph, metas)), held)


def _served(saved: SavedModel, scope: Scope) -> list[pb.MetaGraph]:
    """Return the graphs that are for inference: those with signatures, without the ones for training."""
    signed = [meta for meta in saved.message.meta_graphs if saved_closure.served(meta)]
    found = [meta for meta in signed if saved_model.TRAIN not in meta.meta_info_def.tags]
    if scope.profile == "serving":
        found = [meta for meta in found if saved_model.SERVE in meta.meta_info_def.tags] or found
    if not found:
        raise Refused(
            "the SavedModel has no signature, so nothing says which outputs are for inference",
            "save it again with signatures",
        )
    return found


def _check_asset(name: str) -> None:
    """Raise Refused for an asset elsewhere; one that is missing is missed only by what reads it."""
    outside = os.path.isabs(name) or ".." in name.replace("\\", "/").split("/") or re.match(r"\\|[A-Za-z]:", name)
    if outside or "\0" in name:
        raise Refused(f"the SavedModel has an asset {name!r} outside its folder", "do not load this model")


def inventory(path: str, scope: Scope = INFERENCE) -> Inventory:
    """Return what the SavedModel holds, from saved_model.pb and the index of its variables."""
    model = _read(path, scope)
    tensors = [
        Tensor(key, entry.type_name, entry.shape, entry.bytes)
        for key, entry in model.entries.items()
        if key != object_graph.KEY
    ]
    state = _by_objects(model, model.objects, tensors, scope) if model.objects else _by_names(model, tensors)
    findings = (*state.findings, *_about_files(model))
    return Inventory(
        path=path,
        format=FORMAT,
        verdict=rules.verdict(findings),
        writer=f"TensorFlow {model.graphs[0].meta.meta_info_def.tensorflow_version}".strip(),
        bytes=sum(os.stat(path + ending).st_size for ending in endings(path)),
        tensors=tuple(Tensor(t.name, t.dtype, t.shape, t.bytes, state.roles.get(t.name, "weight")) for t in tensors),
        findings=findings,
        residue_bytes=rules.residue_bytes(findings),
    )


def _by_objects(model: _Model, held: Objects, tensors: list[Tensor], scope: Scope) -> State:
    kept = None
    if scope.profile == "serving":
        kept = saved_objects.signed(held)
        if not kept:
            raise UsageError("it has no signatures to serve", "say --profile inference")
    every = range(len(held.graph.nodes)) if kept is None else kept
    bound = model.bindings(model.graphs[0], every)
    state = saved_objects.judge(held, tensors, scope, bound.duplicates, kept)
    return State(state.roles, (*state.findings, *_broken(bound)))


def _broken(bound: Bindings) -> Iterator[Finding]:
    if bound.broken:
        message = f"its signatures read {len(bound.broken)} variables that its saver never restores: "
        message += "it fails in TensorFlow Serving and in sessions, and TFLite converts it to NaN"
        yield Finding("TFS402", saved_model.PB, 0, message)


def _by_names(model: _Model, tensors: list[Tensor]) -> State:
    """Return the roles and findings of a SavedModel of TensorFlow 1: what no signature reaches is residue."""
    bound = [model.bindings(held, ()) for held in model.graphs]
    reached = {key for found in bound for handle in found.handles for key in handle.keys}
    metas = list(model.saved.message.meta_graphs)
    largest = max(metas, key=lambda meta: len(meta.graph_def.node))
    slices = {key: entry.slices for key, entry in model.entries.items() if entry.slices}
    _, said = named_state.judge(tensors, meta_graph.parse(_outline(largest)), slices)
    findings: list[Finding] = []
    sizes = {tensor.name: tensor.bytes for tensor in tensors}
    rest = [tensor.name for tensor in tensors if tensor.name not in reached]
    for found in said:
        names = tuple(name for name in found.tensors if name not in reached)
        if names and found.rule in ("TFS101", "TFS103", "TFS106"):
            pairs = tuple(pair for pair in found.pairs if pair[1] in names)
            findings.append(replace(found, tensors=names, bytes=sum(sizes[name] for name in names), pairs=pairs))
            rest = [name for name in rest if name not in names]
    findings += _training(model, metas, rest, sum(sizes[name] for name in rest))
    findings += [item for found in bound for item in _broken(found)][:1]
    roles: dict[str, Role] = dict.fromkeys(sizes, "weight")
    roles.update((name, _ROLES.get(found.rule, "undecided")) for found in findings for name in found.tensors)
    return State(roles, tuple(findings))


def _outline(meta: pb.MetaGraph) -> bytes:
    """Return a graph without functions, and without the contents of constants but for names: weights may be frozen."""
    made = pb.MetaGraph()
    made.CopyFrom(meta)
    made.graph_def.ClearField("library")
    for node in made.graph_def.node:
        for attr in node.attr if node.op == "Const" else ():
            if attr.value.HasField("tensor") and attr.value.tensor.dtype != tensor_bundle.STRING:
                attr.value.tensor.Clear()
    return bytes(made.SerializeToString())


_ROLES: dict[str, Role] = {"TFS101": "optimizer", "TFS103": "counter", "TFS106": "average"}


def _training(model: _Model, metas: list[pb.MetaGraph], rest: list[str], size: int) -> Iterator[Finding]:
    """Yield what of the graphs only training runs, with the variables `rest` that nothing else reads."""
    kept = [held.meta for held in model.graphs]
    others = [meta for meta in metas if not any(meta is other for other in kept)]
    applies = sum(
        1
        for held in model.graphs
        for name in held.nodes.keys() - saved_closure.main(held, ())
        if meta_graph.APPLIES.fullmatch(held.nodes[name].op)
    )
    if others or applies or rest:
        what = [
            f"{len(others)} graphs for training" if others else "",
            f"{applies} operations that apply gradients" if applies else "",
            f"{len(rest)} variables that no signature reads" if rest else "",
        ]
        roots = tuple(saved_parts.place(meta) for meta in others)
        yield Finding("TFS202", "/", size, " and ".join(filter(None, what)), tuple(rest), roots)


def _about_files(model: _Model) -> Iterator[Finding]:
    keras = [node for node in model.saved.keras.nodes if saved_parts.split(node)[0]] if model.saved.keras else []
    for node in keras:
        subject = f"{saved_model.KERAS}#{node.node_path}"
        yield Finding("TFS201", subject, 0, "the arguments of compile()")
    yield from saved_code.of_keras(model.saved)
    told = {found.subject: found for held in model.graphs for found in saved_code.of_graph(held)}
    yield from told.values()
    message = "debug information with the absolute paths of the writer's source files"
    if os.path.isfile(os.path.join(model.saved.path, saved_model.DEBUG)):
        yield Finding("TFS401", os.path.dirname(saved_model.DEBUG), 0, message)
    if any(held.meta.graph_def.debug_info for held in model.graphs):
        yield Finding("TFS401", saved_model.PB, 0, message)
    for held in model.graphs:
        for name, text in saved_closure.local_paths(held).items():
            yield Finding("TFS401", name, 0, f"the absolute path that an asset had, {printable(text)}")


def beside(_path: str, _target: str) -> dict[str, bytes]:
    """Return nothing: no file beside a SavedModel names it."""
    return {}


def check_whole(path: str) -> None:
    """Read every tensor against its checksum; raises Unreadable where one is damaged."""
    bundle = saved_model.variables(path)
    if bundle:
        tensor_bundle.check_whole(bundle)


def _none() -> Iterator[bytes]:
    return iter(())


@contextmanager
def contents(path: str) -> Iterator[Contents]:
    """Open the SavedModel as comparable parts: tensors, files, and what its graphs say of what inference reaches."""
    model = _read(path)
    parts: dict[Key, Part] = {}
    for held in model.graphs:
        for kind, name, value in saved_parts.of_graph(held, model.objects, model.entries):
            parts[kind, name] = Part(value, _none)
    if model.objects:
        for kind, name, value in saved_parts.of_objects(model.graphs[0], model.objects):
            parts[kind, name] = Part(value, _none)
    for kind, name, value in saved_parts.of_keras(model.saved):
        parts[kind, name] = Part(value, _none)
    for name in _others(path):
        parts["member", name] = file_part(os.path.join(path, name))
    if model.saved.bundle is None:
        yield parts
        return
    with tensor_bundle.opened(model.saved.bundle) as data:
        for key, entry in model.entries.items():
            if key != object_graph.KEY:
                parts["tensor", key] = tensor_bundle.part(entry, data)
        yield parts


def _others(path: str) -> Iterator[str]:
    """Yield the files that are copied as they are: assets, and whatever else lies in the directory."""
    yield from filter(layouts.SAVED_MODEL.comes_along, layouts.SAVED_MODEL.files(path))


def rewrite(path: str, plan: Plan, target: str) -> list[str]:
    """Write the SavedModel's own files without what the plan drops to the new directory `target`."""
    model = _read(path, plan.scope)
    gone = saved_objects.numbers(plan.roots)
    message = pb.SavedModel()
    message.CopyFrom(model.saved.message)
    del message.meta_graphs[:]
    objects: pb.ObjectGraph | None = None
    for held in model.graphs:
        kept = [n for n in range(len(held.meta.object_graph_def.nodes)) if n not in gone]
        nodes = saved_closure.main(held, kept)
        nodes = held.ancestors(nodes | saved_graph_write.snapshots(held, nodes))
        functions = saved_closure.functions(held, nodes, kept)
        if model.objects:
            called = {saved_saver.function_of(held.nodes[name]) for name in nodes}
            objects = saved_objects_write.without(model.objects, gone, plan.roots, called)
        keys = model.objects.keys() if model.objects else {}
        bound = saved_saver.bindings(held, nodes, keys, model.entries)
        stored = model.saved.bundle is not None
        message.meta_graphs.append(
            saved_graph_write.reduced(held, nodes, functions, bound.handles, objects, stored=stored)
        )
    os.makedirs(target)
    _write_variables(model, plan, gone, objects, target)
    with open(os.path.join(target, saved_model.PB), "xb") as file:
        file.write(message.SerializeToString(deterministic=True))
    if model.saved.keras and plan.scope.profile == "inference":
        with open(os.path.join(target, saved_model.KERAS), "xb") as file:
            file.write(_keras(model.saved.keras, gone, plan.configs))
    return list(_notes(plan, model))


def _write_variables(
    model: _Model, plan: Plan, gone: Collection[int], objects: pb.ObjectGraph | None, target: str
) -> None:
    bundle = model.saved.bundle
    if bundle is None:
        return
    with tensor_bundle.opened(bundle) as data:
        for finding in plan.drop:
            for kept, copy in finding.pairs if finding.rule == "TFS104" else ():
                one, other = (data.blocks(bundle.entries[key]) for key in (kept, copy))
                if not same(one, other):
                    raise Refused(f"{kept!r} and {copy!r} are one variable with two contents", "save the model again")
    tensors: dict[str, Entry | tensor_bundle_write.Fresh] = {
        key: entry for key, entry in bundle.entries.items() if key not in plan.tensors
    }
    for weight, average in plan.apply:
        tensors[weight] = bundle.entries[average]
    if objects is not None and model.objects is not None:
        graph = saved_objects_write.values(objects, model.objects, gone)
        tensors[object_graph.KEY] = tensor_bundle_write.fresh_string(graph)
    os.makedirs(os.path.join(target, "variables"))
    tensor_bundle_write.write(bundle, os.path.join(target, saved_model.VARIABLES), tensors)


def _keras(message: pb.KerasMetadata, gone: Collection[int], configs: Collection[str]) -> bytes:
    result = pb.KerasMetadata()
    result.CopyFrom(message)
    del result.nodes[:]
    for node in message.nodes:
        if node.node_id not in gone:
            drop = f"{saved_model.KERAS}#{node.node_path}" in configs
            result.nodes.append(saved_parts.split(node)[1] if drop else node)
    return bytes(result.SerializeToString(deterministic=True))


def _notes(plan: Plan, model: _Model) -> Iterator[str]:
    if any(finding.rule == "TFS402" for finding in plan.drop):
        yield "its saver restores every variable that its signatures read, which the original's did not"
    if plan.scope.profile == "serving" and model.saved.keras:
        yield "its keras_metadata.pb is left out: Keras can no longer load what only serves"
    bundle = model.saved.bundle
    known = {os.path.relpath(name, model.saved.path) for name in bundle.files} if bundle else set()
    known |= {saved_model.PB, saved_model.FINGERPRINT, saved_model.KERAS, saved_model.DEBUG}
    for name in layouts.SAVED_MODEL.files(model.saved.path):
        if layouts.SAVED_MODEL.is_own(name) and name not in known:
            yield f"its file {name} is left out: no loader reads it"
