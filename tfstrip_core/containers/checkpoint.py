"""TensorFlow checkpoints (an .index and data files under one prefix): what they hold, compared, rewritten.

The path of a checkpoint is its prefix. Its files are the prefix with endings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tfstrip_core import rules
from tfstrip_core.codecs import meta_graph, meta_graph_write, object_graph, tensor_bundle, tensor_bundle_write
from tfstrip_core.codecs.meta_graph import MetaGraph
from tfstrip_core.codecs.object_graph import Graph
from tfstrip_core.codecs.tensor_bundle import Bundle, Data, Entry
from tfstrip_core.containers import checkpoint_state, named_state, object_state
from tfstrip_core.containers.object_state import State
from tfstrip_core.errors import Pointer, ProofFailed, TfstripError
from tfstrip_core.inventory import INFERENCE, Contents, Finding, Inventory, Key, Part, Plan, Scope, Tensor

OBJECTS, NAMES = "tf-checkpoint", "tf-checkpoint-names"
META = ".meta"
_POINTER = b"version https://git-lfs"


def endings(path: str) -> tuple[str, ...]:
    """Return what follows the prefix in the names of the checkpoint's files."""
    bundle = _read(path)
    shards = [tensor_bundle.shard_path("", number, bundle.shards) for number in range(bundle.shards)]
    return tuple(ending for ending in (".index", *shards, META) if os.path.lexists(path + ending))


def inventory(path: str, _scope: Scope = INFERENCE) -> Inventory:
    """Return what the checkpoint holds, from its index and from its object graph or the .meta file beside it."""
    bundle = _read(path)
    tensors = _tensors(bundle)
    objects = object_graph.KEY in bundle.entries
    judged = _by_objects(bundle, tensors) if objects else _by_names(bundle, tensors)
    findings = (*judged.findings, *_local_paths(path))
    return Inventory(
        path=path,
        format=OBJECTS if objects else NAMES,
        verdict=rules.verdict(findings),
        writer="tf.train.Checkpoint" if objects else "tf.train.Saver",
        bytes=sum(os.stat(path + ending).st_size for ending in endings(path)),
        tensors=tuple(Tensor(t.name, t.dtype, t.shape, t.bytes, judged.roles.get(t.name, "weight")) for t in tensors),
        findings=findings,
        residue_bytes=rules.residue_bytes(findings),
    )


def _tensors(bundle: Bundle) -> list[Tensor]:
    return [
        Tensor(key, entry.type_name, entry.shape, entry.bytes)
        for key, entry in bundle.entries.items()
        if key != object_graph.KEY
    ]


def _by_objects(bundle: Bundle, tensors: list[Tensor]) -> State:
    with tensor_bundle.opened(bundle) as data:
        return object_state.judge(_graph(bundle, data), tensors)


def _by_names(bundle: Bundle, tensors: list[Tensor]) -> State:
    slices = {key: entry.slices for key, entry in bundle.entries.items() if entry.slices}
    roles, findings = named_state.judge(tensors, _meta(bundle.prefix), slices)
    return State(roles, tuple(findings))


def _meta(path: str) -> MetaGraph | None:
    return meta_graph.read(path + META) if os.path.isfile(path + META) else None


def _local_paths(path: str) -> Iterator[Finding]:
    """Yield a finding where the state file beside the checkpoint names it by an absolute path."""
    folder, base = os.path.split(path)
    state = checkpoint_state.read(folder)
    for name in checkpoint_state.names(state) if state else ():
        if checkpoint_state.is_local(name) and checkpoint_state.base(name) == base:
            message = f"the file checkpoint beside it holds the absolute path {name}"
            yield Finding("TFS401", checkpoint_state.NAME, 0, message)
            return


def beside(path: str, target: str) -> dict[str, bytes]:
    """Return the state file that must change once the result is in place: by its path, its content.

    In place it loses absolute paths and names of what is not there. Beside another target it is made where the source
    has one and there is none; one that belongs to other models is left alone.
    """
    state = checkpoint_state.read(os.path.dirname(path))
    folder, base = os.path.split(target)
    place = os.path.join(folder, checkpoint_state.NAME)
    if state is None or not any(checkpoint_state.base(name) == os.path.basename(path) for name in _names(state)):
        return {}
    if path != target:
        return {} if os.path.lexists(place) else {place: checkpoint_state.alone(base)}
    here = [os.path.isfile(os.path.join(folder, f"{checkpoint_state.base(name)}.index")) for name in _names(state)]
    if all(here) and not any(map(checkpoint_state.is_local, _names(state))):
        return {}
    content = checkpoint_state.cleaned(state, folder)
    return {place: content} if content else {}


def _names(state: checkpoint_state.State) -> list[str]:
    return list(checkpoint_state.names(state))


def _read(path: str) -> Bundle:
    try:
        return tensor_bundle.read(path)
    except TfstripError:
        for name in _beside(path):
            with open(name, "rb") as file:
                if file.read(len(_POINTER)) == _POINTER:
                    shown = os.path.basename(name)
                    raise Pointer(
                        f"its file {shown} is a Git LFS pointer and its object is not here",
                        "run git lfs pull, in CI check out with lfs: true",
                    ) from None
        raise


def _beside(path: str) -> Iterator[str]:
    """Yield the files that have the names of data files of this prefix."""
    folder, base = os.path.split(path)
    for name in sorted(os.listdir(folder or ".")):
        if name.startswith(f"{base}.data-") and os.path.isfile(os.path.join(folder, name)):
            yield os.path.join(folder, name)


def _graph(bundle: Bundle, data: Data) -> Graph:
    entry = bundle.entries[object_graph.KEY]
    return object_graph.parse(data.string(entry, object_graph.MAX_BYTES))


@contextmanager
def contents(path: str) -> Iterator[Contents]:
    """Open the checkpoint as comparable parts: its tensors, and each statement of its object graph."""
    bundle = _read(path)
    with tensor_bundle.opened(bundle) as data:
        parts: dict[Key, Part] = {}
        for key, entry in bundle.entries.items():
            if key != object_graph.KEY:
                parts["tensor", key] = tensor_bundle.part(entry, data)
        if object_graph.KEY in bundle.entries:
            graph = _graph(bundle, data)
            for edge in object_state.edges(graph, range(len(graph.nodes))):
                parts["group", edge] = Part("", lambda: iter(()))
            for name, kind in _statements(graph):
                parts["attribute", name] = Part(kind, lambda: iter(()))
        yield parts


def _statements(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield each thing that a graph says of a node itself, as (node that it goes with @ what, value)."""
    for number, node in enumerate(graph.nodes):
        for item in node.attributes:
            yield f"#{number}@value {_quoted(item.name)}", json.dumps([item.full_name, item.key])
        for slot in node.slots:
            yield f"#{slot.slot}@slot {number} {slot.original} {_quoted(slot.name)}", ""
        if node.saver is not None:
            yield f"#{number}@saver", json.dumps(node.saver)


def _quoted(name: str) -> str:
    return json.dumps(name).replace("@", "\\u0040")


def check_whole(path: str) -> None:
    """Read every tensor against its checksum; raises Unreadable where one is damaged."""
    tensor_bundle.check_whole(_read(path))


def rewrite(path: str, plan: Plan, target: str) -> list[str]:
    """Write the checkpoint without what the plan drops under the prefix `target`, in one data file.

    A .meta file comes along if its Saver can be made to leave out what is gone; returns what is to be told of that.
    """
    bundle = _read(path)
    kept: dict[str, Entry | tensor_bundle_write.Fresh] = {
        key: entry for key, entry in bundle.entries.items() if key not in plan.tensors
    }
    for weight, average in plan.apply:
        kept[weight] = bundle.entries[average]
    if object_graph.KEY in bundle.entries:
        with tensor_bundle.opened(bundle) as data:
            graph = _graph(bundle, data)
        gone = {int(root[1:]) for root in plan.roots if "/" not in root}
        kept[object_graph.KEY] = tensor_bundle_write.fresh_string(object_graph.without(graph, gone))
    tensor_bundle_write.write(bundle, target, kept)
    return list(_rewrite_meta(path, plan, target))


def _rewrite_meta(path: str, plan: Plan, target: str) -> Iterator[str]:
    if not os.path.lexists(path + META):
        return
    try:
        graph = meta_graph.read(path + META)
        text = meta_graph_write.without(graph, plan.tensors)
    except TfstripError as error:
        yield f"its .meta file is left out, because it asks for what is gone and {error.cause}"
        return
    missing = graph.saved.keys() - plan.tensors - meta_graph.parse(text).saved.keys()
    if missing:  # a bug of ours: the file must ask for all that is kept
        raise ProofFailed(f"the .meta file lost {min(missing)}", "nothing was written; please report this")
    with open(target + META, "xb") as file:
        file.write(text)
    if text != graph.proto:
        yield "the Saver in its .meta file asks for what is left"
