"""What a SavedModel says, as comparable statements: the proof that a reduced one says the same of all that it kept.

Nodes and functions are compared as the closures that inference reaches, worked out anew for each model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tfstrip_core.codecs import jsontext, saved_model
from tfstrip_core.codecs.components import components
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.codecs.saved_model import SavedModel
from tfstrip_core.containers.saved import saved_closure, saved_saver
from tfstrip_core.containers.saved.saved_closure import Graph
from tfstrip_core.containers.saved.saved_objects import Objects, edge, places, slot_edge
from tfstrip_core.errors import Unreadable

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
    filled = {name for asset in saved_closure.assets(meta) for name in saved_closure.tensors_of(asset.tensor_info)}
    for name in sorted(nodes):
        node = _plain(held.nodes[name], ("_class", "value") if name in filled else ("_class",))
        yield "attribute", f"{where}@node {name}", _digest([node])
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
    blank = places(message)
    closures = _closures(held)
    for number, node in enumerate(message.nodes):
        if number in blank:
            continue
        bare = pb.Object()
        bare.CopyFrom(node)
        for name in ("children", "dependencies", "slot_variables"):
            bare.ClearField(name)
        yield "attribute", f"#{number}@kind", _digest([bare])
        for child in node.children:
            if child.node_id not in blank:
                yield "group", edge(number, child.local_name, child.node_id), ""
        yield from _needs(number, node, objects)
        for name in saved_model.concrete_names(node):
            yield "attribute", f"#{number}@function {_plainly(name)}", f"{_digest([concrete[name]])} {closures[name]}"
        if node.HasField("constant"):
            yield "attribute", f"#{number}@constant", _digest([_plain(held.nodes[node.constant.operation])])


def _closures(held: Graph) -> dict[str, str]:
    """Return for each function a digest of it and all that it calls, at any depth."""
    found: dict[str, str] = {}
    calls = {name: [other for other in called if other in held.calls] for name, called in held.calls.items()}
    for group in components(calls, calls.__getitem__):
        inside = set(group)
        called = {found[other] for name in group for other in calls[name] if other not in inside}
        bodies = _digest(held.functions[name] for name in sorted(group))
        whole = _hashed(" ".join([bodies, *sorted(called)]).encode())
        found.update(dict.fromkeys(group, whole))
    return found


def _needs(number: int, node: pb.Object, objects: Objects) -> Iterator[Statement]:
    """Yield what an object needs besides its children, its slots and its values."""
    for child in node.dependencies:
        yield "attribute", f"#{number}@needs {_plainly(child.local_name)}", str(child.node_id)
    for slot in node.slot_variables:
        yield "group", slot_edge(number, slot), ""
    for item in objects.graph.nodes[number].attributes:
        yield "attribute", f"#{number}@value {_plainly(item.name)}", json.dumps([item.full_name, item.key])


def of_keras(model: SavedModel) -> Iterator[Statement]:
    """Yield what keras_metadata.pb says of each object, and apart from that of compile()'s arguments."""
    for node in model.keras.nodes if model.keras else ():
        config, rest = split(node)
        yield "attribute", f"#{node.node_id}/keras@{_plainly(node.node_path)}", _digest([rest])
        if config:
            yield "config", f"{saved_model.KERAS}#{node.node_path}", json.dumps(config)


def split(node: pb.KerasNode) -> tuple[Any, pb.KerasNode]:
    """Return the arguments of compile() that an object's metadata hold, None for none, and the object without them."""
    if CONFIG not in node.metadata:
        return None, node
    try:
        said = jsontext.parse(node.metadata, f"{saved_model.KERAS}'s entry {node.node_path}")
    except Unreadable:
        return None, node
    if not isinstance(said, dict) or CONFIG not in said:
        return None, node
    config = said.pop(CONFIG)
    rest = pb.KerasNode()
    rest.CopyFrom(node)
    rest.metadata = json.dumps(said)
    return config, rest


def _plainly(name: str) -> str:
    """Return a name without the sign that parts a statement from what it is about."""
    return name.replace("%", "%25").replace("@", "%40")


def _plain(node: Any, without: tuple[str, ...] = ("_class",)) -> Any:
    """Return a node without some attributes: by default where it is to lie, which names nodes that may be gone."""
    if not any(attr.key in without for attr in node.attr):
        return node
    made = type(node)()
    made.CopyFrom(node)
    kept = [attr for attr in made.attr if attr.key not in without]
    del made.attr[:]
    made.attr.extend(kept)
    return made


def _digest(messages: Iterable[Any]) -> str:
    contents = [message.SerializeToString(deterministic=True) for message in messages]
    return _hashed(b"".join(part for content in contents for part in (len(content).to_bytes(8, "little"), content)))


def _hashed(content: bytes) -> str:
    from hashlib import blake2b  # loads OpenSSL, which check has no use for

    return blake2b(content, digest_size=16).hexdigest()
