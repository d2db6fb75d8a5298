"""The object graph of a TensorFlow 2 checkpoint: which object holds which, and under which key each has its values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from tfstrip_core.codecs.protos import object_graph_pb2
from tfstrip_core.codecs.wire import check_count
from tfstrip_core.errors import Refused, Unreadable

KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"  # the bundle's key of the graph, a scalar string
MAX_BYTES = 64 << 20
MAX_PARTS = 1_000_000  # nodes, edges, attributes and slots together
_NODES = 1 << 3 | 2


@dataclass(frozen=True, slots=True)
class Child:
    """An edge to node number `node`, under the name that the holder has for it."""

    node: int
    name: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """A value that is saved: `key` is the bundle's key of it, or for tables what their keys begin with."""

    name: str
    full_name: str
    key: str


@dataclass(frozen=True, slots=True)
class Slot:
    """An optimizer's statement: node `slot` is what it keeps under `name` for the variable that is node `original`."""

    original: int
    name: str
    slot: int


@dataclass(frozen=True, slots=True)
class Node:
    """An object. `saver` is (name, object's name) of a registered saver; `has_values` None where the writer is older.

    `has_values` says that the node, or one under it, has values in the checkpoint.
    """

    children: tuple[Child, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    slots: tuple[Slot, ...] = ()
    saver: tuple[str, str] | None = None
    has_values: bool | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """All objects; the root is node 0. Cycles and nodes that nothing holds are allowed. `proto` is as stored."""

    nodes: tuple[Node, ...]
    proto: bytes = field(repr=False)


def parse(proto: bytes) -> Graph:
    """Return the graph in a serialized TrackableObjectGraph.

    Raises Unreadable where it is none or is damaged, and Refused where it is larger than any model's, points to nodes
    that it does not have, or names two children of a node alike.
    """
    message = _message(proto)
    nodes = tuple(_node(node) for node in message.nodes)
    if not nodes:
        raise Unreadable("the checkpoint's object graph is empty", "get a good copy")
    for node in nodes:
        ids = [child.node for child in node.children]
        ids += [number for slot in node.slots for number in (slot.original, slot.slot)]
        if ids and not 0 <= min(ids) <= max(ids) < len(nodes):
            raise _lie("points to an object that it does not have")
        if len({child.name for child in node.children}) < len(node.children):
            raise _lie("gives two objects one name")
    return Graph(nodes, proto)


def _lie(what: str) -> Refused:
    return Refused(f"the checkpoint's object graph {what}", "no framework writes that; do not load this file")


def _message(proto: bytes) -> object_graph_pb2.Graph:
    if len(proto) > MAX_BYTES:
        raise Refused(f"the checkpoint's object graph is {len(proto):,} bytes", "no model needs that much")
    check_count(proto, _NODES, MAX_PARTS, "the checkpoint's object graph")
    try:
        message: object_graph_pb2.Graph = object_graph_pb2.Graph.FromString(proto)
    except DecodeError:
        raise Unreadable("the checkpoint's object graph is damaged", "get a good copy") from None
    return message


def _node(message: object_graph_pb2.Node) -> Node:
    saver = message.registered_saver
    return Node(
        tuple(Child(child.node_id, child.local_name) for child in message.children),
        tuple(Attribute(item.name, item.full_name, item.checkpoint_key) for item in message.attributes),
        tuple(
            Slot(slot.original_variable_node_id, slot.slot_name, slot.slot_variable_node_id)
            for slot in message.slot_variables
        ),
        (saver.name, saver.object_name) if message.HasField("registered_saver") else None,
        message.has_checkpoint_values.value if message.HasField("has_checkpoint_values") else None,
    )


def without(graph: Graph, nodes: Collection[int], keys: Collection[str] = ()) -> bytes:
    """Return the graph, serialized, without what `nodes` are and without the attributes whose key is in `keys`.

    The nodes stay, empty, so that every number stays what it was; edges and slots that lead to them go. Kept nodes
    keep the order of their children, gaps in lists included, and fields that are not known. A node that has values
    nowhere under it any more says so, as TensorFlow would have it: a loader would wait for them otherwise. The same
    call gives the same bytes. Raises ValueError where the root, node 0, is to go or a number is no node's.
    """
    gone = frozenset(nodes)
    if not all(0 < number < len(graph.nodes) for number in gone):
        raise ValueError("only nodes beyond the root can go")
    keys = frozenset(keys)
    message = object_graph_pb2.Graph.FromString(graph.proto)  # which parse() has checked
    for number, node in enumerate(message.nodes):
        if number in gone:
            flagged = node.HasField("has_checkpoint_values")
            node.Clear()
            if flagged:
                node.has_checkpoint_values.SetInParent()
            continue
        _keep(node.children, [child.node_id not in gone for child in node.children])
        _keep(node.attributes, [item.checkpoint_key not in keys for item in node.attributes])
        _keep(
            node.slot_variables,
            [not {slot.original_variable_node_id, slot.slot_variable_node_id} & gone for slot in node.slot_variables],
        )
    valued = with_values([_node(node) for node in message.nodes])
    for number, node in enumerate(message.nodes):
        if node.has_checkpoint_values.value and number not in valued:
            node.has_checkpoint_values.value = False
    return bytes(message.SerializeToString(deterministic=True))


def _keep(items: Any, wanted: Sequence[bool]) -> None:
    """Delete what is not wanted, in place: what stays keeps its unknown fields."""
    if not all(wanted):
        kept = [item for item, stays in zip(items, wanted, strict=True) if stays]
        del items[:]
        items.extend(kept)


def with_values(nodes: Sequence[Node]) -> frozenset[int]:
    """Return the numbers of the nodes that have values, or hold at any depth a node that has: TensorFlow's rule."""
    parents: dict[int, list[int]] = {}
    for number, node in enumerate(nodes):
        for child in node.children:
            parents.setdefault(child.node, []).append(number)
    found = {n for n, node in enumerate(nodes) if node.attributes or node.slots or node.saver is not None}
    todo = list(found)
    while todo:
        for parent in parents.get(todo.pop(), ()):
            if parent not in found:
                found.add(parent)
                todo.append(parent)
    return frozenset(found)


def reachable(nodes: Sequence[Node], start: Iterable[int] = (0,), avoid: Collection[int] = ()) -> frozenset[int]:
    """Return the numbers of the nodes that children lead to from `start`, without entering any of `avoid`."""
    found = set(start) - set(avoid)
    todo = list(found)
    while todo:
        for child in nodes[todo.pop()].children:
            if child.node not in found and child.node not in avoid:
                found.add(child.node)
                todo.append(child.node)
    return frozenset(found)
