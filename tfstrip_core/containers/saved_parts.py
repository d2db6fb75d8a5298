"""What a SavedModel says, as comparable statements: the proof that a reduced one says the same of all that it kept.

Nodes and functions are compared as the closures that inference reaches, worked out anew for each model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tfstrip_core.codecs import saved_model
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.codecs.saved_model import SavedModel
from tfstrip_core.containers import saved_closure, saved_saver
from tfstrip_core.containers.saved_closure import Graph
from tfstrip_core.containers.saved_objects import Objects, edge, is_empty, is_holder

Statement = tuple[str, str, str]  # kind of part, name, value

CONFIG = "training_config"


def place(meta: pb.MetaGraph) -> str:
    """Return what a MetaGraph is called."""
    return f"graph {json.dumps(list(meta.meta_info_def.tags))}"


def of_graph(held: Graph, objects: Objects | None, entries: Any) -> Iterator[Statement]:
    """Yield what a MetaGraph says of its signatures, of what they run, and of the variables that this reads."""
    meta, where = held.meta, place(held.meta)
    for signature in saved_closure.signatures(meta):
        yield "attribute", f"{where}@signature {signature.key}", _digest([signature])
    nodes = saved_closure.main(held, ())
    for name in sorted(nodes):
        yield "attribute", f"{where}@node {name}", _digest([_plain(held.nodes[name])])
    for name in sorted(held.library(nodes)):
        yield "attribute", f"{where}@function {name}", _digest([held.functions[name]])
    keys = objects.keys() if objects else {}
    for handle in saved_saver.bindings(held, nodes, keys, entries).handles:
        yield "attribute", f"{where}@restores {handle.node}", json.dumps([handle.keys, handle.cut, handle.types])
    for number, asset in enumerate(saved_closure.assets(meta)):
        yield "attribute", f"{where}@asset {number}", _digest([asset])


def of_objects(held: Graph, objects: Objects) -> Iterator[Statement]:
    """Yield what the object graph says of each object that is more than an empty place."""
    message = objects.message
    concrete = {entry.key: entry for entry in message.concrete_functions}
    places = {n for n, node in enumerate(message.nodes) if is_empty(node) or is_holder(message, n)}
    for number, node in enumerate(message.nodes):
        if number in places:
            continue
        bare = pb.Object()
        bare.CopyFrom(node)
        for name in ("children", "dependencies", "slot_variables"):
            bare.ClearField(name)
        yield "attribute", f"#{number}@kind", _digest([bare])
        for child in node.children:
            if child.node_id not in places:
                yield "group", edge(message, number, child.local_name, child.node_id), ""
        yield from _needs(number, node, objects)
        for name in saved_model.concrete_names(node):
            reached = [held.functions[inner] for inner in sorted(held.library((), (name,)))]
            yield "attribute", f"#{number}@function {name}", _digest([concrete[name], *reached])
        if node.HasField("constant"):
            nodes = held.ancestors([node.constant.operation])
            yield "attribute", f"#{number}@constant", _digest(_plain(held.nodes[name]) for name in sorted(nodes))


def _needs(number: int, node: pb.Object, objects: Objects) -> Iterator[Statement]:
    """Yield what an object needs besides its children, its slots and its values."""
    for child in node.dependencies:
        yield "attribute", f"#{number}@needs {child.local_name}", str(child.node_id)
    for slot in node.slot_variables:
        name = f"slot {number} {slot.original_variable_node_id} {slot.slot_name}"
        yield "attribute", f"#{slot.slot_variable_node_id}@{name}", ""
    for item in objects.graph.nodes[number].attributes:
        yield "attribute", f"#{number}@value {item.name}", json.dumps([item.full_name, item.key])


def of_keras(model: SavedModel) -> Iterator[Statement]:
    """Yield what keras_metadata.pb says of each object, and apart from that of compile()'s arguments."""
    for node in model.keras.nodes if model.keras else ():
        config, rest = split(node)
        yield "attribute", f"#{node.node_id}/keras@{node.node_path}", _digest([rest])
        if config:
            yield "config", f"{saved_model.KERAS}#{node.node_path}", json.dumps(config)


def split(node: pb.KerasNode) -> tuple[Any, pb.KerasNode]:
    """Return the arguments of compile() that an object's metadata hold, None for none, and the object without them."""
    if CONFIG not in node.metadata:
        return None, node
    try:
        said = json.loads(node.metadata)
    except ValueError:
        return None, node
    if not isinstance(said, dict) or CONFIG not in said:
        return None, node
    config = said.pop(CONFIG)
    rest = pb.KerasNode()
    rest.CopyFrom(node)
    rest.metadata = json.dumps(said)
    return config, rest


def _plain(node: Any) -> Any:
    """Return a node without where it is to lie, which names nodes that may be gone."""
    if not any(attr.key == "_class" for attr in node.attr):
        return node
    made = type(node)()
    made.CopyFrom(node)
    kept = [attr for attr in made.attr if attr.key != "_class"]
    del made.attr[:]
    made.attr.extend(kept)
    return made


def _digest(messages: Iterable[Any]) -> str:
    from hashlib import blake2b  # loads OpenSSL, which check has no use for

    digest = blake2b(digest_size=16)
    for message in messages:
        content = message.SerializeToString(deterministic=True)
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()
