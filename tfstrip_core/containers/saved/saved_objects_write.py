"""The object graphs of a SavedModel without some of its objects: its own, and the one of its checkpoint.

An object that goes leaves an empty one in its place, so that every number stays what it was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from tfstrip_core.codecs import object_graph
from tfstrip_core.codecs.object_graph import reachable
from tfstrip_core.codecs.protos import object_graph_pb2
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.codecs.saved_model import concrete_names, ids_of
from tfstrip_core.containers.saved.saved_objects import GENERIC, KEPT, ROWS, Objects, edge, empty, is_empty


def without(held: Objects, gone: AbstractSet[int], cut: Collection[str], called: Collection[str]) -> pb.ObjectGraph:
    """Return the objects without those of the numbers `gone` and without the edges `cut` (as object_state names them).

    Variables to which no children lead any more become children of a new object at the root, where a loader finds
    them. `called` are concrete functions that the main graph calls, which stay described.
    """
    message = pb.ObjectGraph()
    message.CopyFrom(held.message)
    for number, node in enumerate(message.nodes):
        if number in gone:
            node.CopyFrom(empty())
            continue
        stays = [
            child.node_id not in gone and edge(number, child.local_name, child.node_id) not in cut
            for child in node.children
        ]
        if node.user_object.identifier in ROWS and any(stays):
            # What goes leaves an empty object: the places of the others mean something.
            stays = [stay or child.node_id in gone for child, stay in zip(node.children, stays, strict=True)]
        keep(node.children, stays)
        keep(node.dependencies, [item.node_id not in gone for item in node.dependencies])
        keep(
            node.slot_variables,
            [not {slot.original_variable_node_id, slot.slot_variable_node_id} & gone for slot in node.slot_variables],
        )
    _lead_to_values(message, held, gone)
    _cut_end(message)
    named = {name for node in message.nodes for name in concrete_names(node)} | set(called)
    keep(message.concrete_functions, [entry.key in named for entry in message.concrete_functions])
    return message


def _lead_to_values(message: pb.ObjectGraph, held: Objects, gone: Collection[int]) -> None:
    nodes = [
        object_graph.Node(tuple(object_graph.Child(child.node_id, child.local_name) for child in node.children))
        for node in message.nodes
    ]
    found = reachable(nodes)
    lost = [n for n, node in enumerate(held.graph.nodes) if node.attributes and n not in found and n not in gone]
    if not lost:
        return
    names = {child.local_name for child in message.nodes[0].children}
    name = next(text for text in (KEPT, *(f"{KEPT}_{n}" for n in range(len(names) + 1))) if text not in names)
    message.nodes[0].children.add(node_id=len(message.nodes), local_name=name)
    made = message.nodes.add()
    made.user_object.identifier = GENERIC
    for place, number in enumerate(lost):
        made.children.add(node_id=number, local_name=f"v{place}")


def _cut_end(message: pb.ObjectGraph) -> None:
    """Take the empty places off the end, as far as nothing names them."""
    named = {number for node in message.nodes for number in ids_of(node)}
    named |= {number for entry in message.concrete_functions for number in entry.value.bound_inputs}
    count = len(message.nodes)
    while count > 1 and is_empty(message.nodes[count - 1]) and count - 1 not in named:
        count -= 1
    del message.nodes[count:]


def values(message: pb.ObjectGraph, held: Objects, gone: Collection[int]) -> bytes:
    """Return the object graph of the checkpoint that goes with `message`, serialized: it has the same numbers."""
    graph = object_graph_pb2.Graph()
    shapes = []
    for number, node in enumerate(message.nodes):
        source = held.graph.nodes[number] if number < len(held.graph.nodes) and number not in gone else None
        attributes = source.attributes if source else ()
        made = graph.nodes.add()
        for child in node.children:
            made.children.add(node_id=child.node_id, local_name=child.local_name)
        for item in attributes:
            made.attributes.add(name=item.name, full_name=item.full_name, checkpoint_key=item.key)
        for slot in node.slot_variables:
            made.slot_variables.add(
                original_variable_node_id=slot.original_variable_node_id,
                slot_name=slot.slot_name,
                slot_variable_node_id=slot.slot_variable_node_id,
            )
        children = tuple(object_graph.Child(child.node_id, child.local_name) for child in node.children)
        shapes.append(object_graph.Node(children, attributes, source.slots if source and node.slot_variables else ()))
    valued = object_graph.with_values(shapes)
    for number, made in enumerate(graph.nodes):
        made.has_checkpoint_values.value = number in valued
    return bytes(graph.SerializeToString(deterministic=True))


def keep(items: Any, wanted: Sequence[bool] | Iterable[bool]) -> None:
    """Delete what is not wanted, in place: what stays keeps its unknown fields."""
    wanted = list(wanted)
    if not all(wanted):
        kept = [item for item, stays in zip(items, wanted, strict=True) if stays]
        del items[:]
        items.extend(kept)
