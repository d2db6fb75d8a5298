"""What inference can reach in a SavedModel's graph: nodes from the signatures back, functions from their callers on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from tfstrip_core.codecs import saved_model
from tfstrip_core.codecs.meta_graph import output
from tfstrip_core.codecs.protos import meta_graph_pb2, saved_model_pb2
from tfstrip_core.errors import Unreadable

INIT, TRAIN = "__saved_model_init_op", "__saved_model_train_op"
INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
ASSETS_COLLECTION = "saved_model_assets"
_IMPLEMENTS, _GRADIENT = "api_implements", "_gradient_op_type"
_MAX_DEPTH = 64
_ABSOLUTE = re.compile(r"/|\\\\|[A-Za-z]:[/\\]")

Node = meta_graph_pb2.Node
MetaGraph = saved_model_pb2.MetaGraph


@dataclass(frozen=True, slots=True)
class Graph:
    """A MetaGraph with its nodes and functions by name, and what of the functions refers to which."""

    meta: MetaGraph = field(repr=False)
    nodes: Mapping[str, Node] = field(repr=False)
    functions: Mapping[str, saved_model_pb2.Function] = field(repr=False)
    calls: Mapping[str, frozenset[str]] = field(repr=False)
    registered: Mapping[str, str] = field(repr=False)

    def ancestors(self, roots: Iterable[str]) -> frozenset[str]:
        """Return the nodes that `roots` (names of nodes) depend on, through data and control edges.

        Raises Unreadable where one of them is missing.
        """
        found: set[str] = set()
        todo = list(roots)
        while todo:
            name = todo.pop()
            if name in found:
                continue
            if name not in self.nodes:
                raise Unreadable(f"the graph lacks the node {name!r}", "get a good copy")
            found.add(name)
            todo += [source(text) for text in self.nodes[name].input]
        return frozenset(found)

    def library(self, nodes: Iterable[str], functions: Iterable[str] = ()) -> frozenset[str]:
        """Return the functions that the nodes and functions of these names refer to, at any depth, and these too."""
        todo = [*functions, *(name for node in nodes for name in references(self.nodes[node], self))]
        found: set[str] = set()
        while todo:
            name = todo.pop()
            if name in found:
                continue
            if name not in self.functions:
                raise Unreadable(f"the graph lacks the function {name!r}", "get a good copy")
            found.add(name)
            todo += self.calls[name]
        return frozenset(found)


def source(text: str) -> str:
    """Return the node that an input of a node names."""
    return text[1:] if text.startswith("^") else output(text)[0]


def graph(meta: MetaGraph) -> Graph:
    """Return a MetaGraph indexed."""
    library = meta.graph_def.library
    functions = {function.signature.name: function for function in library.function}
    nodes = {node.name: node for node in meta.graph_def.node}
    calls: dict[str, frozenset[str]] = {}
    registered = {item.registered_op_type: item.gradient_func for item in library.registered_gradients}
    made = Graph(meta, nodes, functions, calls, registered)
    gradients = {item.function_name: item.gradient_func for item in library.gradient}
    # On a GPU, functions of one interface take each other's place at run time.
    alike: dict[bytes, list[str]] = {}
    for name, function in functions.items():
        for attr in function.attr:
            if attr.key == _IMPLEMENTS and attr.value.s:
                alike.setdefault(attr.value.s, []).append(name)
    ring = {name: names[at - 1] for names in alike.values() for at, name in enumerate(names)}
    for name, function in functions.items():
        found = {called for node in function.node_def for called in references(node, made)}
        found |= {called for attr in function.attr for called in _in_attribute(attr, functions)}
        found |= {gradients[name]} if gradients.get(name) else set()
        found |= {ring[name]} if name in ring else set()
        calls[name] = frozenset(found)
    return made


def references(node: Node, held: Graph) -> Iterator[str]:
    """Yield the functions that a node refers to."""
    if node.op in held.functions:
        yield node.op
    for attr in node.attr:
        if attr.key == _GRADIENT:
            kind = attr.value.s.decode("utf-8", "replace")
            found = held.registered.get(kind)
            if found:
                yield found
        else:
            yield from _in_attribute(attr, held.functions)


def _in_attribute(attr: meta_graph_pb2.Attribute, functions: Mapping[str, object], depth: int = 0) -> Iterator[str]:
    kind = attr.value.WhichOneof("value")
    named = [attr.value.func] if kind == "func" else attr.value.list.func if kind == "list" else ()
    for item in named:
        if item.name in functions:
            yield item.name
        for inner in item.attr if depth < _MAX_DEPTH else ():
            yield from _in_attribute(inner, functions, depth + 1)


def tensors_of(info: saved_model_pb2.TensorInfo) -> Iterator[str]:
    """Yield the nodes whose outputs a signature's tensor is made of."""
    if info.HasField("coo_sparse"):
        sparse = info.coo_sparse
        names = [sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name]
    else:
        names = [info.name]
    for name in names:
        if name:
            yield output(name)[0]
    for inner in info.composite_tensor.components:
        yield from tensors_of(inner)


def signatures(meta: MetaGraph) -> list[saved_model_pb2.Signature]:
    """Return the signatures that inference has, the one that initializes among them; not the one that trains."""
    return [item for item in meta.signature_def if item.key != TRAIN]


def served(meta: MetaGraph) -> frozenset[str]:
    """Return the nodes that the signatures name, without those that initialize."""
    return frozenset(
        node
        for item in signatures(meta)
        if item.key != INIT
        for tensor in (*item.value.inputs, *item.value.outputs)
        for node in tensors_of(tensor.value)
    )


def initial(meta: MetaGraph) -> frozenset[str]:
    """Return the nodes that a loader runs or fills before the first call: init operations and names of assets."""
    found = {
        node for item in meta.signature_def if item.key == INIT
        for tensor in item.value.outputs for node in tensors_of(tensor.value)
    }  # fmt: skip
    for entry in meta.collection_def:
        if entry.key in INIT_COLLECTIONS:
            found |= {source(text) for text in entry.value.node_list.value}
    for asset in assets(meta):
        found |= set(tensors_of(asset.tensor_info))
    return frozenset(found)


def assets(meta: MetaGraph) -> list[saved_model_pb2.AssetFile]:
    """Return what the MetaGraph says of its assets, in its own list and in TensorFlow 1's collection."""
    found = list(meta.asset_file_def)
    for entry in meta.collection_def:
        for item in entry.value.any_list.value if entry.key == ASSETS_COLLECTION else ():
            try:
                boxed = saved_model_pb2.Any.FromString(item)
                found.append(saved_model_pb2.AssetFile.FromString(boxed.value))
            except DecodeError:
                raise Unreadable("the SavedModel's list of assets is damaged", "get a good copy") from None
    return found


def local_paths(held: Graph) -> dict[str, str]:
    """Return the constants that hold the absolute path from which an asset was copied, with that path.

    A loader gives them the path of the copy before anything reads them.
    """
    found = {}
    for asset in assets(held.meta):
        for name in tensors_of(asset.tensor_info):
            for attr in held.nodes[name].attr if name in held.nodes and held.nodes[name].op == "Const" else ():
                for value in attr.value.tensor.string_val if attr.key == "value" else ():
                    text = value.decode("utf-8", "replace")
                    if _ABSOLUTE.match(text):
                        found[name] = text
    return found


def constants(meta: MetaGraph, objects: Iterable[int]) -> frozenset[str]:
    """Return the nodes that are the constants among the objects of these numbers."""
    nodes = meta.object_graph_def.nodes
    return frozenset(nodes[n].constant.operation for n in objects if nodes[n].HasField("constant"))


def main(held: Graph, objects: Iterable[int]) -> frozenset[str]:
    """Return the nodes of the main graph that inference reaches, given the objects that are kept."""
    meta = held.meta
    return held.ancestors(served(meta) | initial(meta) | constants(meta, objects))


def functions(held: Graph, nodes: Iterable[str], objects: Iterable[int]) -> frozenset[str]:
    """Return the functions that the kept nodes of the main graph and the kept objects reach."""
    every = held.meta.object_graph_def.nodes
    named = {name for number in objects for name in saved_model.concrete_names(every[number])}
    return held.library(nodes, named)
