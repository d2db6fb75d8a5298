"""TensorFlow checkpoints (an .index and data files under one prefix): what they hold, compared, rewritten.

The path of a checkpoint is its prefix. Its files are the prefix with endings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tfstrip_core import rules
from tfstrip_core.codecs import object_graph, tensor_bundle, tensor_bundle_write
from tfstrip_core.codecs.object_graph import Graph
from tfstrip_core.codecs.tensor_bundle import Bundle, Data, Entry
from tfstrip_core.containers.checkpoints import checkpoint_meta, checkpoint_state, named_state, object_state
from tfstrip_core.containers.checkpoints.checkpoint_meta import META
from tfstrip_core.containers.checkpoints.object_state import State
from tfstrip_core.errors import ProofFailed, TfstripError
from tfstrip_core.inventory import INFERENCE, Contents, Inventory, Key, Part, Plan, Scope, Tensor

OBJECTS, NAMES = "tf-checkpoint", "tf-checkpoint-names"


def endings(path: str) -> tuple[str, ...]:
    """Return what follows the prefix in the names of the checkpoint's files."""
    bundle = _read(path)
    shards = [tensor_bundle.shard_path("", number, bundle.shards) for number in range(bundle.shards)]
    meta = [META] if checkpoint_meta.is_there(path) else []
    return tuple(ending for ending in (".index", *shards, *meta) if os.path.lexists(path + ending))


def inventory(path: str, _scope: Scope = INFERENCE) -> Inventory:
    """Return what the checkpoint holds, from its index and from its object graph or the .meta file beside it."""
    bundle = _read(path)
    tensors = _tensors(bundle)
    objects = object_graph.KEY in bundle.entries
    judged = _by_objects(bundle, tensors) if objects else _by_names(bundle, tensors)
    findings = (*judged.findings, *checkpoint_state.local_paths(path))
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
    roles, findings = named_state.judge(tensors, checkpoint_meta.read(bundle.prefix), slices)
    return State(roles, tuple(findings))


def beside(path: str, target: str) -> dict[str, bytes | None]:
    """Return the state file that must change once the result is in place, by its path: its content, None as it is."""
    return checkpoint_state.beside(path, target)


def _read(path: str) -> Bundle:
    try:
        return tensor_bundle.read(path)
    except TfstripError:
        for name in _beside(path):
            if checkpoint_meta.is_pointer(name):
                raise checkpoint_meta.pointer(name) from None
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


def _led_to(graph: Graph) -> frozenset[str]:
    """Return the keys of the values that a loader finds on its way from the root, slots of variables included."""
    nodes = object_graph.reachable(graph.nodes)
    nodes |= {slot.slot for number in nodes for slot in graph.nodes[number].slots}
    named = [item.key for number in nodes for item in graph.nodes[number].attributes]
    return frozenset(key + ending for key in named for ending in object_state.ENDINGS)


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
        text = object_graph.without(graph, gone)
        lost = (_led_to(graph) & kept.keys()) - _led_to(object_graph.parse(text))
        if lost:  # a bug of ours: a loader finds values by the way from the root
            raise ProofFailed(f"nothing leads to {min(lost)} any more", "nothing was written; please report this")
        kept[object_graph.KEY] = tensor_bundle_write.fresh_string(text)
    tensor_bundle_write.write(bundle, target, kept)
    return list(checkpoint_meta.rewrite(path, plan, target))
