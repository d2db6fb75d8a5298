"""The graph beside a checkpoint of TensorFlow 1, a .meta file: its nodes, its collections, and what its Savers save.

A checkpoint's keys are whatever the Saver called its variables, so which variable a key belongs to is read from the
Saver's own operations: the names that they are given, and the variables that they read and assign.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from tfstrip_core.codecs.protos import meta_graph_pb2
from tfstrip_core.codecs.wire import check_count, fields
from tfstrip_core.errors import Refused, Unreadable, Unsupported

MAX_BYTES = 256 << 20
MAX_PARTS = 4_000_000  # nodes, their inputs and attributes together
MAX_NAMES = 1_000_000  # of one Saver
_GRAPH = 2 << 3 | 2
_NODE = 1 << 3 | 2
_STRING = 7  # TensorFlow's number of the type

VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
# What hands on the variable itself, or its value as it is.
_HANDLES = frozenset({"Switch", "RefSwitch", "Enter", "RefEnter", "RefIdentity"})
_READS = _HANDLES | {"Identity", "ReadVariableOp"}
# A Saver's operations: where the tensors begin among the inputs.
SAVES: Mapping[str, int] = {"SaveV2": 3, "SaveSlices": 3, "Save": 2}
RESTORES = frozenset({"RestoreV2", "RestoreSlice", "Restore"})
ASSIGNS = frozenset({"Assign", "AssignVariableOp"})
# What applies a gradient to a variable; the group is the optimizer's kind.
APPLIES = re.compile(r"(?:Resource)?(?:Sparse)?Apply(\w+)")
_ON_THE_WAY = frozenset({"Identity", "Reshape"})  # between what is restored and its variable


@dataclass(frozen=True, slots=True)
class Node:
    """An operation: `inputs` without control edges, as (node, output); `controls` are the nodes of the control edges.

    `colocated` are the nodes that it has to lie beside, `shared` is a variable's name that another node can have too.
    """

    name: str
    op: str
    inputs: tuple[tuple[str, int], ...] = ()
    controls: tuple[str, ...] = ()
    colocated: tuple[str, ...] = ()
    shared: str = ""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as a collection describes it: its node, and the whole's name where it is a part of a whole."""

    node: str
    full_name: str = ""
    trainable: bool | None = None


@dataclass(frozen=True, slots=True)
class MetaGraph:
    """A graph and its Savers: `saved` gives the nodes of the variables that each key of a checkpoint belongs to.

    `variables` and `lists` are the collections, of variables and of names of nodes. `proto` is as stored.
    """

    nodes: Mapping[str, Node]
    saved: Mapping[str, frozenset[str]]
    variables: Mapping[str, tuple[Variable, ...]]
    lists: Mapping[str, tuple[str, ...]]
    proto: bytes = field(repr=False)

    def variable(self, name: str, *, through_reads: bool = False) -> str:
        """Return the node of the variable that an output of node `name` is (or with `through_reads` the value of)."""
        passing = _READS if through_reads else _HANDLES
        for _ in range(64):  # conditions within loops within conditions; what is deeper is no writer's
            node = self.nodes.get(name)
            if node is None:
                return ""
            if node.op in VARIABLES:
                return name
            if node.op not in passing or not node.inputs:
                return ""
            name = node.inputs[0][0]
        return ""


def read(path: str) -> MetaGraph:
    """Return the graph in the file at `path`: see `parse`. Raises OSError where there is none."""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise Unsupported(f"the checkpoint's graph is {size:,} bytes", "leave its .meta file out")
        return parse(file.read(MAX_BYTES) if size else b"")


def parse(proto: bytes) -> MetaGraph:
    """Return the graph in a serialized MetaGraphDef.

    Raises Unreadable where it is none or is damaged, Unsupported where it is larger than can be handled, and Refused
    where it has more parts than any model or two nodes of one name.
    """
    message = message_of(proto)
    nodes: dict[str, Node] = {}
    constants: dict[str, meta_graph_pb2.Tensor] = {}
    for item in message.graph_def.node:
        if item.name in nodes or not item.name:
            raise Refused(f"the graph has two nodes {item.name!r}", "no framework writes that; do not load this file")
        nodes[item.name] = _node(item)
        if item.op == "Const":
            constants.update((item.name, attr.value.tensor) for attr in item.attr if attr.key == "value")
    if not nodes:
        raise Unreadable("the checkpoint's graph has no nodes", "get a good copy")
    variables: dict[str, tuple[Variable, ...]] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for entry in message.collection_def:
        kind = entry.value.WhichOneof("kind")
        if kind == "node_list":
            lists[entry.key] = tuple(entry.value.node_list.value)
        elif kind == "bytes_list":
            found = [variable_of(item) for item in entry.value.bytes_list.value]
            # Other collections' entries can look alike: a Saver's begins with the name of a tensor too.
            variables[entry.key] = tuple(item for item in found if item and _is_variable(nodes.get(item.node)))
    graph = MetaGraph(nodes, {}, variables, lists, proto)
    return MetaGraph(nodes, _saved(graph, constants), variables, lists, proto)


def message_of(proto: bytes) -> meta_graph_pb2.MetaGraph:
    """Return the message in `proto`, counted before it is parsed: see `parse`."""
    if len(proto) > MAX_BYTES:
        raise Unsupported(f"the checkpoint's graph is {len(proto):,} bytes", "leave its .meta file out")
    left = MAX_PARTS
    for tag, begin, end in fields(proto, 0, len(proto)):
        left -= 1
        if left < 0:
            raise Refused(f"the checkpoint's graph has over {MAX_PARTS:,} parts", "do not load this file")
        if tag == _GRAPH:
            check_count(proto[begin:end], _NODE, left, "the checkpoint's graph")
    try:
        message: meta_graph_pb2.MetaGraph = meta_graph_pb2.MetaGraph.FromString(proto)
    except DecodeError:
        raise Unreadable("the checkpoint's graph is damaged", "get a good copy") from None
    return message


def _is_variable(node: Node | None) -> bool:
    return node is not None and node.op in VARIABLES


def variable_of(proto: bytes) -> Variable | None:
    """Return what an entry of a collection says of a variable; None where it is something else."""
    try:
        message = meta_graph_pb2.Variable.FromString(proto)
    except DecodeError:
        return None
    name, _, output = message.variable_name.rpartition(":")
    trainable = message.trainable if message.HasField("trainable") else None
    return Variable(name, message.save_slice_info_def.full_name, trainable) if name and output == "0" else None


def output(text: str) -> tuple[str, int]:
    """Return the node and the number of the output that an input without `^` names."""
    name, _, number = text.rpartition(":")
    return (name, int(number)) if name and number.isascii() and number.isdigit() and len(number) < 10 else (text, 0)


def _node(message: meta_graph_pb2.Node) -> Node:
    colocated: tuple[str, ...] = ()
    shared = ""
    for attr in message.attr:
        if attr.key == "_class":
            places = [item.decode("utf-8", "replace") for item in attr.value.list.s]
            colocated = tuple(place[5:] for place in places if place.startswith("loc:@"))
        elif attr.key == "shared_name" and message.op in VARIABLES:
            shared = attr.value.s.decode("utf-8", "replace")
    return Node(
        message.name,
        message.op,
        tuple(output(text) for text in message.input if not text.startswith("^")),
        tuple(text[1:] for text in message.input if text.startswith("^")),
        colocated,
        shared,
    )


def strings(tensor: meta_graph_pb2.Tensor) -> list[bytes]:
    """Return the elements of a constant of strings; what is missing at the end repeats the last one.

    Raises Unsupported where it is none, or is no vector or scalar.
    """
    sizes = [dim.size for dim in tensor.tensor_shape.dim]
    count = sizes[0] if sizes else 1
    if tensor.dtype != _STRING or len(sizes) > 1 or not len(tensor.string_val) <= count <= MAX_NAMES:
        raise Unsupported("the graph's Saver has names of an unknown kind", "leave its .meta file out")
    values = list(tensor.string_val)
    return values + (values[-1:] or [b""]) * (count - len(values))


def consumers(graph: MetaGraph) -> dict[str, list[tuple[str, int]]]:
    """Return for each node the nodes that take one of its outputs as data, with the number of that output."""
    found: dict[str, list[tuple[str, int]]] = {}
    for node in graph.nodes.values():
        for source, number in node.inputs:
            found.setdefault(source, []).append((node.name, number))
    return found


def _saved(graph: MetaGraph, constants: Mapping[str, meta_graph_pb2.Tensor]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    readers = consumers(graph)
    count = 0
    for node in graph.nodes.values():
        if node.op not in RESTORES and node.op not in SAVES:
            continue
        constant = constants.get(node.inputs[1][0]) if len(node.inputs) > 1 else None
        if constant is None:
            continue
        try:
            keys = [key.decode("utf-8", "surrogateescape") for key in strings(constant)]
        except Unsupported:
            continue
        count += len(keys)
        if count > MAX_PARTS:
            raise Refused(f"the graph's Savers have over {MAX_PARTS:,} names", "do not load this file")
        if node.op in SAVES:
            tensors = [graph.variable(name, through_reads=True) for name, _ in node.inputs[SAVES[node.op] :]]
            pairs = list(zip(keys, tensors, strict=False))
        else:
            pairs = [(keys[number], to) for number, to in _restored(graph, node.name, readers) if number < len(keys)]
        for key, variable in pairs:
            found.setdefault(key, set()).add(variable)
    return {key: frozenset(variables) for key, variables in found.items()}


def _restored(graph: MetaGraph, name: str, readers: Mapping[str, list[tuple[str, int]]]) -> Iterator[tuple[int, str]]:
    """Yield each output of a node that restores, with the variable that takes it; "" if it is something else."""
    for reader, number in readers.get(name, ()):
        todo, seen = [reader], {reader}
        while todo:
            node = graph.nodes[todo.pop()]
            if len(seen) > 64:  # a Saver has one or two
                yield number, ""
                break
            if node.op in ASSIGNS and node.inputs:
                yield number, graph.variable(node.inputs[0][0])
            elif node.op in _ON_THE_WAY:
                more = {follower for follower, _ in readers.get(node.name, ())} - seen
                seen |= more
                todo += more
            else:
                yield number, ""
